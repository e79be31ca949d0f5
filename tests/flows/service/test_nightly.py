"""Nightly and backfill without a server: windows of days, and failures that stop nobody else."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import yaml
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from prefect.blocks.notifications import SlackWebhook
from prefect.client.schemas.objects import FlowRun
from prefect.server.schemas.schedules import CronSchedule
from prefect.states import Cancelled, Completed, Failed, Running, Scheduled, State
from pydantic import SecretStr

from flows.cli.demo_region import OPTICAL_COLLECTION, SAR_COLLECTION, DemoRegion
from flows.cli.main import main
from flows.plan.request import RegionRequest
from flows.service.backfill import cut_into_windows
from flows.service.history import Nights
from flows.service.history import due as due_of
from flows.service.nightly import DAYS_BACK, days_of
from tests.support.infra import INFRA
from tests.support.loopback import telling_endpoint
from tests.support.regions import files_under


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nights") / "store"


@pytest.fixture(scope="module")
def file(store: Path, small_region: DemoRegion, client: Client) -> Path:
    """Two regions of the drawn scenes; the first asks for a collection that is not there."""
    shared = {
        "catalog": str(small_region.catalog), "store": str(store), "sar": SAR_COLLECTION,
        "bbox": list(small_region.bbox), "scheduler": client.scheduler.address,
    }  # fmt: skip
    regions = [
        {"name": "broken", "optical": "no-such-collection"},
        {"name": "good", "optical": OPTICAL_COLLECTION},
    ]
    file = store.with_name("regions.yaml")
    file.write_text(yaml.safe_dump({"defaults": shared, "regions": regions}))
    return file


def night_due(
    due: datetime, *others: tuple[datetime, State[Any]], scheduled: bool = True
) -> Nights:
    """A night, and others of its series, as Prefect remembers them."""
    runs = [
        FlowRun(
            flow_id=UUID(int=0), auto_scheduled=scheduled, expected_start_time=when,
            state=state, state_type=state.type, state_name=state.name,
        )
        for when, state in ((due, Running()), *others)
    ]  # fmt: skip
    return Nights(runs[0], tuple(sorted(runs[1:], key=due_of, reverse=True)))


def nights_ago(days: int) -> datetime:
    """When the night was due that many days before the latest, an hour ago."""
    return datetime.now(UTC) - timedelta(days=days, hours=1)


def test_a_night_looks_at_the_day_before_it_was_due_and_the_days_before() -> None:
    due = nights_ago(0)
    last = due.date() - timedelta(days=1)
    for scheduled in (True, False):
        assert days_of(night_due(due, scheduled=scheduled), 2) == (last - timedelta(days=2), last)
    before = nights_ago(1), Completed()
    assert days_of(night_due(due, before), 4) == (last - timedelta(days=4), last)


@given(missed=st.integers(0, 100), days_back=st.integers(0, 10), failing=st.integers(0, 20))
def test_a_night_makes_up_for_those_that_were_missed_or_made_nothing(
    missed: int, days_back: int, failing: int
) -> None:
    """Every day is looked at that they would have looked at, 60 days back at most."""
    kept = nights_ago(missed + failing + 1), Completed(name="Partial")
    failed = [(nights_ago(n + 1), Failed()) for n in range(failing)]
    due = nights_ago(0)
    start, end = days_of(night_due(due, kept, *failed), days_back)
    last = due.date() - timedelta(days=1)
    assert end == last
    assert start == last - timedelta(days=max(days_back, min(60, missed + failing + days_back)))
    by_hand = days_of(night_due(due, kept, *failed, scheduled=False), days_back)
    assert by_hand == (last - timedelta(days=days_back), last)


def test_of_several_nights_that_are_due_the_latest_is_carried_out_up_to_yesterday() -> None:
    late = [(nights_ago(n), Scheduled()) for n in (3, 4)]
    missed = night_due(nights_ago(5), *late)
    assert missed.successor is not None
    assert due_of(missed.successor) == late[0][0]
    kept = nights_ago(7)
    latest = night_due(nights_ago(3), (nights_ago(4), Scheduled()), (kept, Completed()))
    assert latest.successor is None
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    assert days_of(latest, 2) == (kept.date() - timedelta(days=2), yesterday)
    assert latest.before is not None
    assert due_of(latest.before) == latest.others[-1].expected_start_time
    cancelled = night_due(nights_ago(5), (nights_ago(3), Cancelled()))
    assert cancelled.successor is None
    assert night_due(nights_ago(5), *late, scheduled=False).successor is None


@pytest.mark.parametrize("month", [3, 10])
def test_a_change_of_the_clocks_neither_skips_nor_doubles_a_night(month: int) -> None:
    """By the schedule of infra/prefect.yaml: each day is once the last of a night."""
    deployments = yaml.safe_load((INFRA / "prefect.yaml").read_text())["deployments"]
    (asked,) = next(each["schedules"] for each in deployments if each["name"] == "nightly")
    schedule, zone = CronSchedule(**asked), ZoneInfo(asked["timezone"])
    for year in range(2020, 2035):
        start = datetime(year, month, 22, tzinfo=UTC)  # clocks change on the month's last Sunday
        due = asyncio.run(schedule.get_dates(14, start))
        local = [moment.astimezone(zone) for moment in due]
        assert len({moment.utcoffset() for moment in local}) == 2
        assert {moment.time() for moment in local} == {time(3, 30)}
        nights = [days_of(night_due(moment, scheduled=False), DAYS_BACK) for moment in due]
        assert [end - timedelta(days=n) for n, (_, end) in enumerate(nights)] == [
            start.date() - timedelta(days=1)
        ] * len(due)


@given(
    length=st.integers(1, 400),
    days=st.integers(1, 50),
)
def test_windows_are_all_days_once_the_newest_first(length: int, days: int) -> None:
    start = date(2024, 1, 1)
    whole = RegionRequest.of(
        catalog="https://stac.example.org", optical="o", sar="s", bbox=(0, 0, 1, 1), store="s3://x",
        start=start, end=start + timedelta(days=length - 1),
    )  # fmt: skip
    seen: list[date] = []
    for each in cut_into_windows(whole, days):
        span = (each.end - each.start).days + 1
        assert 1 <= span <= days
        seen += [each.end - timedelta(days=back) for back in range(span)]
    assert seen == [whole.end - timedelta(days=back) for back in range(length)]


def test_a_backfill_goes_on_after_a_failure_and_does_only_what_is_missing(
    file: Path, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["backfill", "--regions", str(file), "--region", "good", "--window-days", "7",
                 "--start", "2024-06-01", "--end", "2024-06-21"]  # fmt: skip

    with monkeypatch.context() as patch:
        patch.setattr("flows.report.save.save_report", _fail)
        assert main(arguments) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("good")]
    assert [line[6:30] for line in lines] == [
        "2024-06-15 to 2024-06-21", "2024-06-08 to 2024-06-14", "2024-06-01 to 2024-06-07"
    ]  # fmt: skip
    assert all("the power is out" in line for line in lines)
    published = files_under(store / "good" / "slots")
    assert published

    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "2024-06-08 to 2024-06-14  nothing to do" in told
    assert "2024-06-01 to 2024-06-07  no overlapping pair" in told
    assert files_under(store / "good" / "slots") == published

    assert main([*arguments, "--region", "broken"]) == 2
    assert "no collection 'no-such-collection'" in capsys.readouterr().err


def test_a_region_that_fails_keeps_no_other_from_its_turn_and_is_told_of(
    file: Path,
    store: Path,
    small_region: DemoRegion,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a night finds published days published, whichever window they were made in."""
    before = files_under(store / "good")
    assert before, "the backfill comes first"
    content = yaml.safe_load(file.read_text())
    told_of = tmp_path / "regions.yaml"
    arguments = ["nightly", "--regions", str(told_of), "--until", small_region.end]
    _, good = content["regions"]

    def night(regions: list[dict[str, Any]], **notify: Any) -> int:
        told = {"urls_from": "TEST_NOTIFY", **notify}
        told_of.write_text(yaml.safe_dump({**content, "regions": regions, "notify": told}))
        return main([*arguments, "--days-back", "5"])

    with telling_endpoint() as (address, messages):
        monkeypatch.setenv("TEST_NOTIFY", address)
        assert night(content["regions"], quiet_days=1) == 4
        told = capfd.readouterr().out
        assert told.startswith("Partial: 1 of 2 regions did not finish: broken: ")
        assert "no collection 'no-such-collection'" in told
        assert files_under(store / "good") == before
        SlackWebhook(url=SecretStr(address)).save("ops")
        by_block = {"urls_from": None, "block": "slack-webhook/ops"}
        assert night([good], **by_block) == 0
        assert capfd.readouterr().out.startswith("Completed: regions: 1, 2024-06-10")
    failed, well = messages
    assert "broken: Failed: PlanError: " in failed["message"]
    assert "  no new day for 1 days: the newest is 2024-06-14" in failed["message"]
    assert "finished: 1 of 2 regions" in failed["message"]
    assert well["title"].startswith("tar-pipeline: all is well again, 2024-06-10")
    assert "the night before: Partial" in well["message"]

    assert night([good], quiet_days=1, **by_block) == 0
    told = "".join(capfd.readouterr())
    assert told.startswith("Quiet: regions: 1, 2024-06-10 to 2024-06-15; good: no new day for 1")
    assert "nobody was told: block slack-webhook/ops took no message" in told
    database = Path(os.environ["PREFECT_HOME"]).glob("*.db*")
    assert "S3CRET" not in told
    assert b"S3CRET" not in b"".join(path.read_bytes() for path in database)

    assert main([*arguments, "--region", "nobody"]) == 2
    assert "has no region nobody" in capfd.readouterr().err


def test_days_that_are_no_longer_kept_go_at_night_and_are_not_made_again(
    file: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One night deletes them, the next over the same days leaves them alone."""
    days = [path.stem for path in (store / "good" / "items").glob("*.json")]
    assert days, "the backfill comes first"
    last = date.fromisoformat(max(days)) + timedelta(days=2)
    content = yaml.safe_load(file.read_text())
    content["regions"] = [{**content["regions"][1], "keep_days": 2}]
    keeping = tmp_path / "regions.yaml"
    keeping.write_text(yaml.safe_dump(content))
    arguments = ["nightly", "--regions", str(keeping), "--until", str(last), "--days-back", "5"]
    with monkeypatch.context() as patch:
        patch.setattr("flows.service.nightly.retire", _fail)
        assert main(arguments) == 4
    assert [path.stem for path in (store / "good" / "items").glob("*.json")] == days
    for _ in range(2):
        assert main(arguments) == 0
        left = {path.name for path in (store / "good").iterdir() if any(path.rglob("*"))}
        assert not {"slots", "items", "collection.json"} & left


def _fail(*_: object) -> None:
    raise OSError("the power is out")
