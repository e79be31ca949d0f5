"""Runs that people end at a terminal, at random moments: the same command ends them well."""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path

import pytest

from flows.cli.demo_region import DemoRegion
from tests.runs.test_kills import small_request
from tests.support.kills import content_digests
from tests.support.regions import arguments_of
from tests.support.typed import CTRL_C, Typed

TIMES = 10
WHOLE_RUN_SECONDS = 300
ENDED_SECONDS = 10
SENTENCE = "interrupted; the same command continues where it stopped"


@pytest.mark.faults
def test_ctrl_c_at_any_moment_of_a_run(small_region: DemoRegion, tmp_path: Path) -> None:
    def typed(store: Path) -> Typed:
        return Typed(arguments_of(small_request(small_region, store, None)))

    began = time.monotonic()
    assert typed(tmp_path / "undisturbed").wait(WHOLE_RUN_SECONDS) == 0
    whole_s = time.monotonic() - began
    expected = content_digests(tmp_path / "undisturbed")
    chance = random.Random(0)
    ended_s = []
    while (number := len(ended_s)) < TIMES:
        store = tmp_path / f"{number}-{whole_s:.3f}"
        run = typed(store)
        run.read(chance.uniform(0.1 * whole_s, 0.9 * whole_s))
        if run.has_ended():  # the machine has less to do than it had
            assert run.wait(ENDED_SECONDS) == 0
            whole_s *= 0.8
            continue
        began = time.monotonic()
        run.press(CTRL_C)
        if number % 3 == 2:
            run.read(0.1)
            run.press(CTRL_C)
        assert run.wait(ENDED_SECONDS) == 130
        ended_s.append(time.monotonic() - began)
        assert run.shown.count(SENTENCE) == 1
        assert "Traceback" not in run.shown
        assert not run.left_behind()
        assert typed(store).wait(WHOLE_RUN_SECONDS) == 0
        assert content_digests(store) == expected
    print(
        f"\n| Ctrl-C at a terminal, every third twice | {TIMES} runs, {TIMES} continued to the "
        f"same bits | whole run {whole_s:.0f} s; ended in {statistics.median(ended_s):.1f} s in "
        f"the median, {max(ended_s):.1f} s at most |"
    )
