"""Nightly and backfill without a server: windows of days, and failures that stop nobody else."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st

from flows.cli.demo_region import OPTICAL_COLLECTION, SAR_COLLECTION, DemoRegion
from flows.cli.main import main
from flows.plan.request import RegionRequest
from flows.service.backfill import cut_into_windows
from flows.service.nightly import window
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


def test_a_night_looks_at_yesterday_and_the_days_before() -> None:
    assert window(date(2024, 6, 12), 4) == (date(2024, 6, 8), date(2024, 6, 12))
    assert window(date(2024, 6, 12), 0) == (date(2024, 6, 12), date(2024, 6, 12))
    start, end = window(None, 2)
    assert end in {(datetime.now(UTC) - timedelta(days=ago)).date() for ago in (1, 2)}
    assert end - start == timedelta(days=2)


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


@pytest.mark.faults
def test_a_region_that_fails_keeps_no_other_from_its_turn(
    file: Path, store: Path, small_region: DemoRegion, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a night finds published days published, whichever window they were made in."""
    before = files_under(store / "good")
    assert before, "the backfill comes first"
    arguments = ["nightly", "--regions", str(file), "--until", small_region.end, "--days-back", "5"]
    assert main(arguments) == 4
    told = capsys.readouterr().out
    assert told.startswith("Partial: 1 of 2 regions did not finish: broken: ")
    assert "no collection 'no-such-collection'" in told
    assert files_under(store / "good") == before

    assert main([*arguments, "--region", "nobody"]) == 2
    assert "has no region nobody" in capsys.readouterr().err


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
