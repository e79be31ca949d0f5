"""A generation's name changes with whatever changes a pixel, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.cli.demo_region import DemoRegion
from flows.plan.fields import InName
from flows.plan.generation import configuration, plan_slot
from flows.plan.plan import without_scenes
from flows.plan.request import RegionRequest
from tests.support.regions import WEIGHTS_HASH, plan_of, request_of

OTHER_VALUES: dict[str, Any] = {  # of the fields that a name tells by their value
    "provider": "copernicus", "bands": ("red", "green"), "dem": "cop-dem-glo-30",
    "max_offset_px": 16.0,
}  # fmt: skip


def marks_of(field: str) -> list[InName]:
    metadata = RegionRequest.model_fields[field].metadata
    return [mark for mark in metadata if isinstance(mark, InName)]


@pytest.mark.parametrize("field", RegionRequest.model_fields)
def test_every_field_of_a_request_says_how_it_gets_into_a_name(
    field: str, small_region: DemoRegion, tmp_path: Path
) -> None:
    (mark,) = marks_of(field)
    plain = request_of(small_region, tmp_path)
    if mark is InName.BY_VALUE:
        changed = request_of(small_region, tmp_path, **{field: OTHER_VALUES[field]})
        assert configuration(changed)[field] != configuration(plain).get(field)
    else:
        assert field not in configuration(plain)


def test_a_generation_is_named_after_all_that_decides_its_pixels(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    plan = plan_of(small_region, tmp_path)
    (slot,) = plan.slots

    def name(store: Path = tmp_path, **changes: object) -> str:
        return plan_of(small_region, store, **changes).slots[0].generation

    assert name() == slot.generation
    # What only decides where and when to look does not matter; what decides pixels does.
    assert name(store=tmp_path / "elsewhere", end="2024-06-16") == slot.generation
    west, south, east, north = small_region.bbox
    by_orbit = [replace(p, sar=replace(p.sar, orbit_file="/here/S1A.EOF")) for p in slot.pairs]
    moved = [replace(p, sar=replace(p.sar, orbit_file="/there/S1A.EOF")) for p in slot.pairs]
    on_geoid = [replace(p, sar=replace(p.sar, geoid="EPSG:3855")) for p in slot.pairs]
    names = {
        slot.generation,
        name(resolution=20.0),
        name(max_offset_px=16.0),
        name(bands=("red", "green", "blue")),
        name(bands=("red",)),
        name(bbox=(west, south, east, (south + north) / 2)),
        plan_slot(slot.slot, slot.pairs[:1], plan.request, plan.lattice, WEIGHTS_HASH).generation,
        plan_slot(slot.slot, slot.pairs, plan.request, plan.lattice, "1" * 64).generation,
        without_scenes(plan, slot, {"S2-DEMO-EAST"}).generation,
        *(
            plan_slot(slot.slot, pairs, plan.request, plan.lattice, WEIGHTS_HASH).generation
            for pairs in (on_geoid, by_orbit, moved)
        ),
    }
    assert len(names) == 11


def test_a_setting_at_its_default_is_no_part_of_a_name(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    """Or every mosaic there is would be made anew."""
    request = request_of(small_region, tmp_path)
    assert configuration(request) == {"max_offset_px": 32.0}
    given = request_of(small_region, tmp_path, provider="copernicus", bands=("B04",))
    assert configuration(given) == {
        "max_offset_px": 32.0, "provider": "copernicus", "bands": ["red"]
    }  # fmt: skip


def test_the_order_of_pairs_does_not_matter(small_region: DemoRegion, tmp_path: Path) -> None:
    plan = plan_of(small_region, tmp_path)
    (slot,) = plan.slots
    backwards = plan_slot(slot.slot, slot.pairs[::-1], plan.request, plan.lattice, WEIGHTS_HASH)
    assert backwards == slot
