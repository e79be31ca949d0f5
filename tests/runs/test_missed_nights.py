"""Nights that were missed, cancelled or killed, on the real server: what the next makes of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

import catalog
from flows.cli.demo_region import DemoRegion
from tests.support.service import RunningService, served, started_again, stop

DOWN_SECONDS = 150  # two nights and more, of one a minute
CANCELLED_SECONDS = 20


@pytest.fixture
def service(tmp_path: Path, small_region: DemoRegion) -> Iterator[RunningService]:
    """Nobody starts nights by themselves, unless a test lets them."""
    with served(tmp_path, small_region) as running:
        running.let_nights_start(False)
        yield running


def processes_of(service: RunningService, run_id: str) -> list[psutil.Process]:
    """Of a run that is going: the one that the worker started, and all below it."""
    pid = int(service.run(run_id)["infrastructure_pid"].rpartition(":")[2])
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def command_of(process: psutil.Process) -> str:
    """How it was started; nothing of one that has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def wait_for_workers(service: RunningService, run_id: str) -> list[psutil.Process]:
    """Until a run has workers of its own, which are at work."""

    def busy() -> list[psutil.Process]:
        if service.run(run_id)["state_type"] != "RUNNING":
            return []
        found = processes_of(service, run_id)
        return found if any("spawn_main" in command_of(each) for each in found) else []

    return service.wait(busy, "workers of the run")


@pytest.mark.faults
def test_a_run_that_is_cancelled_ends_with_all_its_processes_and_a_new_one_continues(
    service: RunningService,
) -> None:
    run_id = service.create(region="cancelled", dry_run=False).json()["id"]
    family = wait_for_workers(service, run_id)
    started = time.monotonic()
    asked = service.api("POST", f"/flow_runs/{run_id}/set_state", {"state": {"type": "CANCELLING"}})
    assert asked.is_success
    _, alive = psutil.wait_procs(family, timeout=CANCELLED_SECONDS)
    took = time.monotonic() - started
    assert not [command for each in alive if (command := command_of(each))]
    assert service.ended(run_id)["type"] == "CANCELLED"
    print(f"\n| cancelled: {len(family)} processes ended | after {took:.1f} s |")
    again = service.create(region="cancelled", dry_run=False).json()["id"]
    assert service.ended(again)["type"] == "COMPLETED"
    assert catalog.open_mosaic(str(service.store / "cancelled")).sizes["time"] == 1


@pytest.mark.faults
def test_nights_of_a_service_that_was_down_are_made_up_for_once(service: RunningService) -> None:
    service.let_nights_start(True)
    soon = datetime.now(UTC) + timedelta(minutes=10)
    service.wait(lambda: len(nights_due_by(service, soon)) >= 4, "scheduled nights")
    stop(service)
    down = datetime.now(UTC)
    time.sleep(DOWN_SECONDS)
    up = datetime.now(UTC)
    running = started_again(service)
    try:
        running.let_nights_start(False)
        missed = [run for run in nights_due_by(running, datetime.now(UTC)) if due(run) > down]
        assert sum(due(run) < up for run in missed) >= 2
        states = {due(run): running.ended(run["id"]) for run in missed}
        carried_out = [when for when, state in states.items() if state["type"] != "CANCELLED"]
        assert carried_out == [max(states)]
        assert states[max(states)]["type"] == "COMPLETED"
        told = {state["message"] for state in states.values() if state["type"] == "CANCELLED"}
        assert all("makes up for it" in message for message in told)
        print(f"\n| {len(missed)} nights missed | {len(carried_out)} carried out |")
    finally:
        stop(running)


@pytest.mark.faults
def test_a_run_that_died_with_its_machine_is_ended_with_its_reason(service: RunningService) -> None:
    run_id = service.create(region="dead", dry_run=False).json()["id"]
    family = wait_for_workers(service, run_id)
    for each in family:
        if "spawn_main" in command_of(each):
            each.suspend()  # or the run would be done before its first sign of life
    time.sleep(35)
    everything = [*family, *psutil.Process(service.process.pid).children(recursive=True)]
    os.kill(service.process.pid, signal.SIGKILL)
    for each in everything:
        if each.is_running():
            each.kill()
    psutil.wait_procs(everything, timeout=20)
    running = started_again(service)
    running.let_nights_start(False)
    try:
        assert len(running.api("POST", "/automations/filter", {}).json()) == 1
        again = running.create(region="dead", dry_run=False).json()["id"]
        state = running.ended(run_id)
        assert state["type"] == "CRASHED"
        assert "No sign of life for ten minutes" in state["message"]
        assert running.ended(again)["type"] == "COMPLETED"
        assert catalog.open_mosaic(str(running.store / "dead")).sizes["time"] == 1
    finally:
        stop(running)


def nights_due_by(service: RunningService, moment: datetime) -> list[dict[str, Any]]:
    """The scheduled nights that were due by then, the earliest first."""
    found = service.ask(
        "/flow_runs/filter",
        deployments={"name": {"any_": ["nightly"]}},
        flow_runs={"expected_start_time": {"before_": moment.isoformat()}},
        sort="EXPECTED_START_TIME_ASC",
    )
    return [run for run in found if run["auto_scheduled"]]


def due(run: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(run["expected_start_time"])
