"""Which pairs share a field, and which scenes add nothing to their pass."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import shapely

from flows.cli.demo_region import DemoRegion
from flows.plan.groups import find_hidden, group_pairs
from tests.support.regions import plan_of
from tests.support.scenes import NOON, scene

BBOX = (0.0, 0.0, 2.0, 1.0)


def test_pairs_of_the_same_two_passes_are_one_group(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    plan = plan_of(small_region, tmp_path)
    (slot,) = plan.slots
    later = [
        replace(pair, sar=replace(pair.sar, id="LATER", datetime=pair.sar.datetime + timedelta(1)))
        for pair in slot.pairs[:1]
    ]
    groups = group_pairs([*slot.pairs[1:], *later], shapely.box(*plan.request.bbox))
    assert [len(group.pairs) for group in groups] == [3, 1]
    assert groups[1].sar[0].id == "LATER"


def test_granules_that_add_nothing_are_left_out() -> None:
    wide = scene("wide", (0.0, 0.0, 1.5, 1.0))
    edge = scene("edge", (1.2, 0.0, 1.5, 1.0))
    other = scene("other", (1.2, 0.0, 2.0, 1.0))
    next_day = scene("next-day", (1.2, 0.0, 1.5, 1.0), when=NOON + timedelta(days=1))
    hidden = find_hidden((edge, other, wide, next_day), shapely.box(*BBOX))
    assert [left.scene.id for left in hidden] == ["edge"]
