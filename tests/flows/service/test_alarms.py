"""Alarms: one message for a night that went wrong, silence for others, a recovery told once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed import Client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Completed, Failed, State

import catalog
from flows.cli.demo_region import OPTICAL_COLLECTION, SAR_COLLECTION, DemoRegion
from flows.cli.main import main
from flows.plan.request import RequestError
from flows.report.schema import Accountability, Counts
from flows.service.alarms import (
    NotTold,
    RegionNight,
    check_addresses,
    message_of,
    send,
)
from flows.service.regions import Notify
from tests.support.loopback import telling_endpoint

DAYS = date(2024, 6, 8), date(2024, 6, 12)
VARIABLE = "TEST_NOTIFY_URLS"
WELL = RegionNight("bolzano", "Completed", "registered: s3://mosaics/bolzano")
FAILED = RegionNight("venice", "Failed", "PlanError: the archive is away")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """Where `VARIABLE` leads."""
    with telling_endpoint() as (address, told):
        monkeypatch.setenv(VARIABLE, address)
        yield told


def night(state: State[Any]) -> FlowRun:
    return FlowRun.model_construct(state_type=state.type, state_name=state.name)


def account(*, done: int, failed: int) -> Accountability:
    whole = Counts(expected=done + failed, done=done, refused=0, skipped=0, failed=failed)
    return Accountability(days=whole, pairs=whole, tiles=whole, shards=whole, failures=())


def test_a_night_that_went_well_is_told_of_only_after_one_that_did_not() -> None:
    for before in (None, night(Completed())):
        assert message_of("Completed", DAYS, [WELL], before, None) is None
    for name in ("Failed", "Partial", "Quiet", "Crashed"):
        before = night(Failed(name=name))
        message = message_of("Completed", DAYS, [WELL], before, "https://prefect/run")
        assert message is not None
        assert message.subject == "tar-pipeline: all is well again, 2024-06-08 to 2024-06-12"
        assert f"the night before: {name}" in message.body
        assert message.body.endswith("https://prefect/run")


def test_a_message_names_what_went_wrong_with_the_account_and_a_link() -> None:
    partial = RegionNight("alps", "Partial", "failed: 1 of 5 days", account(done=4, failed=1))
    quiet = RegionNight("sahara", "Completed", "nothing to do", quiet="no new day for 9 days")
    stuck = RegionNight("po", "Completed", "nothing to do", not_retired="AccessDenied")
    regions = [WELL, FAILED, partial, quiet, stuck]
    message = message_of("Partial", DAYS, regions, None, "https://prefect/run")
    assert message is not None
    assert message.subject == "tar-pipeline: Partial, 2024-06-08 to 2024-06-12"
    assert message.body.splitlines() == [
        "venice: Failed: PlanError: the archive is away",
        "alps: Partial: failed: 1 of 5 days",
        "  days: 4 of 5 done, 0 refused, 0 skipped, 1 failed",
        "  pairs: 4 of 5 done, 0 refused, 0 skipped, 1 failed",
        "sahara: Completed: nothing to do",
        "  no new day for 9 days",
        "po: Completed: nothing to do",
        "  old days were not deleted: AccessDenied",
        "finished: 3 of 5 regions",
        "https://prefect/run",
    ]
    many = message_of("Failed", DAYS, [FAILED] * 500, None, None)
    assert many is not None
    assert len(many.body.splitlines()) < 50
    assert "and 460 lines more" in many.body


def test_addresses_are_checked_and_never_shown(
    endpoint: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    notify = Notify(urls_from=VARIABLE)
    check_addresses(notify)
    assert endpoint == []
    good = os.environ[VARIABLE]
    monkeypatch.setenv(VARIABLE, f"{good} nothing://S3CRET@known")
    with pytest.raises(RequestError, match=f"number 2 in {VARIABLE}") as unknown:
        check_addresses(notify)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(RequestError, match=f"{VARIABLE} is not set"):
        check_addresses(notify)
    monkeypatch.setenv(VARIABLE, f"{good} json://me:S3CRET@127.0.0.1:9/nobody")
    message = message_of("Failed", DAYS, [FAILED], None, None)
    assert message is not None
    with pytest.raises(NotTold, match=rf"of the 2 addresses in {VARIABLE} \(JSON\)") as untold:
        send(notify, message)
    assert [each["type"] for each in endpoint] == ["failure"]
    assert "S3CRET" not in f"{unknown.value} {untold.value} {caplog.text}"


@pytest.mark.faults
def test_a_region_of_three_that_fails_is_one_message_and_the_others_are_published(
    endpoint: list[dict[str, Any]],
    small_region: DemoRegion,
    client: Client,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    store, file = tmp_path / "store", tmp_path / "regions.yaml"
    shared = {
        "catalog": str(small_region.catalog), "store": str(store), "sar": SAR_COLLECTION,
        "bbox": list(small_region.bbox), "scheduler": client.scheduler.address,
        "optical": OPTICAL_COLLECTION, "slots": "optical",
    }  # fmt: skip
    regions = [
        {"name": "one"},
        {"name": "broken", "optical": "no-such-collection"},
        {"name": "other"},
    ]
    content = {"defaults": shared, "regions": regions, "notify": {"urls_from": VARIABLE}}
    file.write_text(yaml.safe_dump(content))
    nights = ["nightly", "--regions", str(file), "--until", small_region.end, "--days-back", "14"]
    assert main(nights) == 4
    (message,) = endpoint
    assert message["title"].startswith("tar-pipeline: Partial, 2024-")
    assert "broken: Failed: PlanError: " in message["message"]
    assert "finished: 2 of 3 regions" in message["message"]
    for name in ("one", "other"):
        assert catalog.open_mosaic(str(store / name)).sizes["time"] == 1
    assert "S3CRET" not in "".join(capfd.readouterr())
