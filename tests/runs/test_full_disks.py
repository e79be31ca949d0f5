"""A disk that fills in the middle of a run: one error, and on when there is room."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from flows.cli.demo_region import DemoRegion
from tests.runs.test_kills import small_request
from tests.support.disks import fill, small_disk
from tests.support.kills import content_digests
from tests.support.regions import arguments_of
from tests.support.typed import Typed

RUN_SECONDS = 300
ENDED_SECONDS = 120  # without waiting for what does not pass by itself


@pytest.mark.faults
def test_a_disk_that_fills_in_a_run_is_named_and_the_same_command_continues(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    typed = Typed(arguments_of(small_request(small_region, tmp_path / "roomy", None)))
    assert typed.wait(RUN_SECONDS) == 0
    with small_disk(tmp_path / "disk", 40_000) as disk:
        store = disk / "store"
        arguments = arguments_of(small_request(small_region, store, None))
        run = Typed(arguments)
        deadline = time.monotonic() + RUN_SECONDS
        while not list(store.rglob("*.estimate.npz")):
            run.read(0.05)
            assert time.monotonic() < deadline
        ballast = fill(disk, leaving_bytes=200_000)
        assert run.wait(ENDED_SECONDS) == 1
        assert "the disk is full" in run.shown
        assert str(store) in run.shown
        assert "Traceback" not in run.shown
        assert not list(store.rglob("items/*.json"))
        ballast.unlink()
        assert Typed(arguments).wait(RUN_SECONDS) == 0
        assert content_digests(store) == content_digests(tmp_path / "roomy")
