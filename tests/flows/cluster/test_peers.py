"""Workers share work with each other, and nobody can tell from the results."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from flows.cluster.peers import among_peers
from flows.cluster.stream import JobsFailed, run_one
from flows.cluster.workers import Workers
from tar_engine.config import FitConfig
from tar_engine.fields.fit import fit
from tests.support.matches import grid_xy, noisy_matches, terrain

PARTS = FitConfig(core_rows=6, core_columns=5, overlap_points=5)


@pytest.fixture
def workers(client: Client) -> Workers:
    return Workers(client)


def square_all(count: int) -> tuple[list[int], int]:
    """The squares, each by whichever worker, and the process of who asked for them."""
    numbers: Iterator[int] = iter(range(count))
    return among_peers(square, numbers), os.getpid()


def square(number: int) -> int:
    if number == 13:
        raise ValueError("unlucky")
    return number**2


def share_and_die_once(mark: Path) -> list[Path]:
    return among_peers(die_once, [mark] * 3)


def die_once(mark: Path) -> Path:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mark


def test_results_come_in_the_order_of_the_jobs(workers: Workers) -> None:
    squares, process = run_one(workers, lambda: workers.run(square_all, 12), "squares")
    assert squares == [number**2 for number in range(12)]
    assert process != os.getpid()


def test_without_jobs_there_is_nothing(workers: Workers) -> None:
    assert run_one(workers, lambda: workers.run(square_all, 0), "squares")[0] == []


def test_a_job_that_is_given_up_is_told_with_its_reason(workers: Workers) -> None:
    with pytest.raises(JobsFailed, match=r"squares: .*part 13: ValueError: unlucky"):
        run_one(workers, lambda: workers.run(square_all, 20), "squares")


def test_who_dies_while_sharing_begins_anew(workers: Workers, tmp_path: Path) -> None:
    mark = tmp_path / "died"
    assert run_one(workers, lambda: workers.run(share_and_die_once, mark), "it") == [mark] * 3


def test_a_field_of_peers_is_that_of_one_worker_to_the_bit(workers: Workers) -> None:
    xy = grid_xy(400)
    seen = noisy_matches(xy, terrain(xy), 0.2)
    seen = replace(seen, confidence=np.random.default_rng(0).random(len(xy)))
    alone = run_one(workers, lambda: workers.run(fit, seen, PARTS), "alone")
    shared = run_one(workers, lambda: workers.run(fit, seen, PARTS, among_peers), "shared")
    assert alone.field.kind == "smooth"
    assert alone.field.control is not None
    assert shared.field.control is not None
    assert np.array_equal(alone.field.control, shared.field.control)
    assert np.array_equal(alone.unseen_px, shared.unseen_px)
    assert repr(alone.verdict) == repr(shared.verdict)  # which has NaN in it
