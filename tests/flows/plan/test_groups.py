"""Which pairs share a field, and which scenes add nothing to their pass."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import shapely

from catalog.archives.pairs import Pair
from flows.cli.demo_region import DemoRegion
from flows.plan.groups import find_hidden, group_day, group_pairs
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


def test_a_sar_slot_shows_the_newest_optical_pass_first_and_ends_with_its_passes_alone() -> None:
    new = scene("new", (0.0, 0.0, 0.5, 1.0), NOON)
    old = scene("old", BBOX, NOON - timedelta(days=6))
    wide = scene("wide", BBOX, relative_orbit=1)
    narrow = scene("narrow", (0.0, 0.0, 1.0, 1.0), relative_orbit=2)
    pairs = [Pair(o, s, 1.0, timedelta(0)) for s in (narrow, wide) for o in (old, new)]
    groups = group_day(pairs, [narrow, wide], shapely.box(*BBOX))
    assert [[scene.id for scene in group.optical] for group in groups] == [
        ["new"], ["new"], ["old"], ["old"], [], []
    ]  # fmt: skip
    alone = groups[-2:]
    assert [group.judged for group in alone] == [(("", "wide"),), (("", "narrow"),)]
    assert [group.passes for group in alone] == [("", wide.pass_key), ("", narrow.pass_key)]
    assert alone[0].name == "sentinel-1a 2020-11-04"
    assert len({group.passes for group in groups}) == len(groups)
    assert group_day(pairs[::-1], [wide, narrow], shapely.box(*BBOX)) == groups
