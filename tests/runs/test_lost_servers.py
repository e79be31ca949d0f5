"""Runs whose Prefect server is not there, comes back, or forgets them: the work is not lost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from catalog.child_server import free_port
from catalog.store.upkeep import generations, verify
from flows.cli.demo_region import DemoRegion
from tests.support.kills import serve_prefect
from tests.support.regions import arguments_of, request_of
from tests.support.typed import Typed

ENDED_SECONDS = 400
AWAY_SECONDS = 15
RESTARTED_SECONDS = 5  # and what a server takes to start: less than a run that is done waits
LEFT_SECONDS = 60  # of a busy machine, from publication to the prompt; Prefect alone took 300

CANCELLED_AT_THE_END = """
import os
import sys
from flows.cli.terminal import prepare_prefect
prepare_prefect()
from prefect import runtime
import flows.register_region
from tests.runs.test_lost_servers import cancel

def answers(attempts):
    if runtime.flow_run.id:  # all that was to be done is
        cancel(os.environ["PREFECT_API_URL"], runtime.flow_run.id)
    return True

flows.register_region.answers = answers
from flows.cli.attended import run_attended
sys.exit(run_attended())
"""


@contextmanager
def run_beside(url: str, region: DemoRegion, folder: Path) -> Iterator[tuple[Typed, str]]:
    """A run at a terminal, and its id, once the server at `url` knows that it goes on."""
    environment = {"PREFECT_API_URL": url, "PREFECT_HOME": str(folder / "client")}
    run = Typed(arguments_of(request_of(region, folder / "store")), environment)
    deadline = time.monotonic() + ENDED_SECONDS
    while not (found := _running(url)):
        run.read(0.5)
        assert time.monotonic() < deadline, run.shown
    run.read(5)
    yield run, found


def _running(url: str) -> str:
    runs = httpx.post(f"{url}/flow_runs/filter", json={}, timeout=30).json()
    return next((str(run["id"]) for run in runs if run["state_type"] == "RUNNING"), "")


def cancel(url: str, id_: str) -> None:
    """As the button of the UI does."""
    asked = httpx.post(f"{url}/flow_runs/{id_}/set_state", json={"state": {"type": "CANCELLING"}})
    assert asked.json()["status"] == "ACCEPT"


def state_of(url: str, id_: str) -> str:
    return str(httpx.get(f"{url}/flow_runs/{id_}").json()["state"]["name"])


def require_published(run: Typed, folder: Path, seconds: float = ENDED_SECONDS) -> None:
    """It ended well, and told people nothing of the trouble of libraries."""
    assert run.wait(seconds) == 0, run.shown
    for noise in ("Traceback", "ConnectError", "Error logging", "EventsWorker"):
        assert noise not in run.shown
    (day,) = generations(str(folder / "store"), "demo")
    assert day.published
    assert verify(day.store).faults == ()


def test_a_server_that_is_not_there_is_named_before_work(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    nowhere = {"PREFECT_API_URL": "http://me:S3CRET@127.0.0.1:9/api"}
    run = Typed(arguments_of(request_of(small_region, store)), nowhere)
    assert run.wait(120) == 2
    assert "PREFECT_API_URL: no Prefect server answers at http://127.0.0.1:9/api" in run.shown
    assert "S3CRET" not in run.shown
    assert "Traceback" not in run.shown
    assert not list(store.rglob("*.zarr"))


@pytest.mark.faults
def test_a_server_that_dies_in_a_run_and_comes_back_is_waited_for(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    port = free_port()
    with (
        serve_prefect(tmp_path / "home", port) as url,
        run_beside(url, small_region, tmp_path) as (run, _),
    ):
        pass
    run.read(RESTARTED_SECONDS)
    with serve_prefect(tmp_path / "home", port) as url:
        require_published(run, tmp_path)
        states = httpx.post(f"{url}/flow_runs/filter", json={}).json()
        assert [state["state_type"] for state in states] == ["COMPLETED"]


@pytest.mark.faults
def test_a_server_that_is_gone_for_good_holds_up_no_run_that_is_done(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    with (
        serve_prefect(tmp_path / "home") as url,
        run_beside(url, small_region, tmp_path) as (run, _),
    ):
        pass
    deadline = time.monotonic() + ENDED_SECONDS
    while not list((tmp_path / "store").glob("demo/items/*.json")):
        assert time.monotonic() < deadline, run.shown
        run.read(0.5)
    published = time.monotonic()
    require_published(run, tmp_path, LEFT_SECONDS)
    print(f"| its server gone | ended {time.monotonic() - published:.1f} s after publication |")
    assert run.shown.count("Prefect") == 1
    assert "Prefect's server is gone, and does not show how this run ended" in run.shown

    again = Typed(arguments_of(request_of(small_region, tmp_path / "store")))
    assert again.wait(ENDED_SECONDS) == 0
    assert "Nothing to do" in again.shown


@pytest.mark.faults
def test_a_run_that_is_cancelled_in_the_ui_ends_so_and_continues(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    with (
        serve_prefect(tmp_path / "home") as url,
        run_beside(url, small_region, tmp_path) as (run, id_),
    ):
        cancel(url, id_)
        assert run.wait(LEFT_SECONDS) == 130, run.shown
        assert (
            "tar-pipeline: error: cancelled in Prefect; what is finished is kept, and the same "
            "request continues" in " ".join(run.shown.split())
        )
        assert "Traceback" not in run.shown
        assert run.left_behind() == []
        assert state_of(url, id_) == "Cancelled"
        assert not list((tmp_path / "store").glob("demo/items/*.json"))
        with run_beside(url, small_region, tmp_path) as (again, _):
            require_published(again, tmp_path)


@pytest.mark.faults
def test_a_run_that_is_cancelled_once_all_is_done_ends_as_what_it_is(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    with serve_prefect(tmp_path / "home") as url:
        environment = {"PREFECT_API_URL": url, "PREFECT_HOME": str(tmp_path / "client")}
        words = arguments_of(request_of(small_region, tmp_path / "store"))
        run = Typed(words, environment, CANCELLED_AT_THE_END)
        require_published(run, tmp_path)
        (found,) = httpx.post(f"{url}/flow_runs/filter", json={}).json()
        history = httpx.get(f"{url}/flow_run_states/", params={"flow_run_id": found["id"]}).json()
        names = [state["name"] for state in history]
        assert names[-2:] == ["Cancelling", "Completed"]


@pytest.mark.faults
def test_a_run_that_is_deleted_in_the_ui_ends_published(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    with (
        serve_prefect(tmp_path / "home") as url,
        run_beside(url, small_region, tmp_path) as (run, id_),
    ):
        assert httpx.delete(f"{url}/flow_runs/{id_}").is_success
        require_published(run, tmp_path)


@pytest.mark.faults
def test_a_database_that_is_locked_for_a_while_costs_a_run_nothing_but_time(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    with (
        serve_prefect(tmp_path / "home") as url,
        run_beside(url, small_region, tmp_path) as (run, _),
    ):
        file = tmp_path / "home" / "prefect.db"
        with closing(sqlite3.connect(file, timeout=60, isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            run.read(AWAY_SECONDS)
            database.execute("COMMIT")
        require_published(run, tmp_path)
