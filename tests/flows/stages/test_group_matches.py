"""Matches on their way: nothing lost, nothing reordered, and how long engines waited."""

from __future__ import annotations

import numpy as np
import pytest

from flows.stages.group_matches import Collected, EngineSpan, EngineTime, TileMatches
from tar_engine.fields.matches import Matches


def some(count: int, seed: int) -> Matches:
    random = np.random.default_rng(seed)
    values = random.uniform(0, 640, (count, 7)).astype(np.float32).astype(np.float64)
    return Matches(values[:, 0:2], values[:, 2:4], *values[:, 4:].T)


@pytest.mark.parametrize("rows", [1, 4, 6, 2**18])
def test_matches_arrive_to_the_bit_and_in_the_tiles_order(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.stages.group_matches.CHUNK_ROWS", rows)
    corners = [(-64, -64), (448, -64), (960, -64), (50_000, 40_000)]
    parts = [some(5, 0), some(0, 1), some(7, 2), some(3, 3)]
    found = Collected()
    for place in (3, 0, 1):  # 2 was given up
        found.add(place, TileMatches.of(parts[place], {}))
    assert [place in found for place in range(4)] == [True, True, False, True]
    group = found.of_group(corners, {"tile 2": "it killed every worker"})
    assert group.tiles == 4
    arrived = group.matches()
    expected = Matches.concatenate([parts[place].shifted(*corners[place]) for place in (0, 1, 3)])
    assert np.array_equal(arrived.optical_xy, expected.optical_xy)
    assert np.array_equal(arrived.sar_xy, expected.sar_xy)
    assert np.array_equal(arrived.confidence, expected.confidence)
    assert np.array_equal(arrived.error_px, expected.error_px)
    assert np.array_equal(arrived.rivals(), expected.rivals(), equal_nan=True)


def test_a_group_without_tiles_has_no_matches() -> None:
    assert len(Collected().of_group([], {}).matches()) == 0
    refused = Collected()
    refused.add(0, TileMatches.of(some(0, 0), {"S1": "it is truncated"}))
    group = refused.of_group([(0, 0)], {})
    assert len(group.matches()) == 0
    assert group.unreadable == {"S1": "it is truncated"}


def test_engines_wait_between_tiles_each_by_its_own_clock() -> None:
    spans = [
        EngineSpan("b", 1000.0, 1002.0),
        EngineSpan("a", 3.0, 5.0),
        EngineSpan("a", 0.0, 2.0),
        EngineSpan("b", 1002.0, 1004.0),
    ]
    time = EngineTime.of(spans)
    assert time == EngineTime(8.0, 1.0)
    assert time.wait_share == pytest.approx(1 / 9)
    assert (time + time).waiting_s == 2.0
    assert EngineTime.of([]).wait_share is None
