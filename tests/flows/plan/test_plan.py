"""Planning: what a request comes to, what is left out, and what the store already holds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from catalog.archives.items import Scene
from catalog.errors import SceneReadError
from catalog.store.publish import publish
from flows.cli.demo_region import DemoRegion
from flows.plan import scene_checks
from flows.plan.generation import SlotPlan, plan_slot
from flows.plan.plan import (
    Plan,
    PlanError,
    compare_with_store,
    plan_request,
    provenance,
    slot_store,
    with_memory,
    without_scenes,
    without_tiles,
)
from flows.stages.compose import slot_schema
from tests.support.regions import WEIGHTS_HASH, plan_of, request_of


def publish_as(plan: Plan, slot: SlotPlan) -> None:
    """What a run would leave of a day, but for its pixels."""
    store = slot_store(plan, slot)
    store.create(plan.lattice, slot_schema(slot), {})
    requested = {"requested_generation": slot.requested or slot.generation}
    sar = slot.sar if slot.kind == "sar" else ()
    publish(store, plan.lattice, slot.pairs, provenance(plan, slot) | requested, sar)


def test_a_region_is_planned_from_its_catalog(small_region: DemoRegion, tmp_path: Path) -> None:
    plan = plan_of(small_region, tmp_path)
    assert [slot.slot for slot in plan.slots] == ["2024-06-12"]
    assert {(pair.optical.id, pair.sar.id) for pair in plan.pairs} == {
        (f"S2-DEMO-{across}", f"S1-DEMO-{along}")
        for across in ("WEST", "EAST")
        for along in ("NORTH", "SOUTH")
    }
    (group,) = plan.slots[0].groups
    assert len(group.optical) == len(group.sar) == 2
    assert plan.slots[0].optical_bands == ("red", "green", "blue")
    assert plan.slots[0].sar_bands == ("vh",)
    ((early, reason),) = [(left.scene.id, left.reason) for left in plan.unpaired]
    assert early == "S2-DEMO-EARLY"
    assert "11.8 days away, more than the 6 days allowed" in reason
    assert not list(tmp_path.iterdir())


def test_bands_that_were_asked_for_are_the_only_ones(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    (slot,) = plan_of(small_region, tmp_path, bands=("blue", "red")).slots
    assert slot.optical_bands == ("blue", "red")
    plan = plan_of(small_region, tmp_path, bands=("red", "nir"))
    assert not plan.slots
    told = {left.reason for left in plan.unpaired if left.scene.collection == "demo-optical"}
    assert told == {"it has no band nir, which was asked for"}


def test_scenes_that_cannot_be_read_are_left_out_with_their_reason(
    small_region: DemoRegion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe(scene: Scene) -> Scene:
        if scene.id == "S1-DEMO-NORTH":
            raise SceneReadError("the file is truncated", scene.id, "north.tif")
        return scene

    monkeypatch.setattr(scene_checks, "probe", probe)
    plan = plan_of(small_region, tmp_path)
    assert {pair.sar.id for pair in plan.pairs} == {"S1-DEMO-SOUTH"}
    reasons = {left.scene.id: left.reason for left in plan.unpaired}
    assert reasons["S1-DEMO-NORTH"] == "cannot be read: the file is truncated"


def test_a_checkpoint_that_is_not_the_expected_one_is_refused_before_anything_else(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    request = request_of(small_region, tmp_path / "store", weights_sha256="ab" * 32)
    with pytest.raises(PlanError, match="sha256"):
        plan_request(request)
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_written_is_refused(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(PlanError, match="cannot be written"):
        plan_request(request_of(small_region, tmp_path / "file" / "store"))


def test_a_region_that_is_a_file_is_refused(small_region: DemoRegion, tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("no folder")
    with pytest.raises(PlanError, match="demo is not a folder"):
        plan_request(request_of(small_region, tmp_path))


def test_a_day_that_lost_a_scene_is_done_for_both_requests_that_come_to_it(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    """For that which asked for the lost scene too, and for one that never did."""
    plan = plan_of(small_region, tmp_path)
    (slot,) = plan.slots
    fewer = without_scenes(plan, slot, ["S1-DEMO-SOUTH"])
    again = without_scenes(plan, fewer, ["S2-DEMO-EAST"])
    for lost in (fewer, again):
        assert lost.requested == slot.generation
        publish_as(plan, lost)
        later = plan_of(small_region, tmp_path)
        assert not later.unfinished
        assert later.slots == (replace(lost, published=True),)
        told = {left.scene.id: left.reason for left in later.unpaired}
        assert "could not be read when 2024-06-12 was made" in told["S1-DEMO-SOUTH"]
    asked = plan_slot(slot.slot, again.pairs, plan.request, plan.lattice, WEIGHTS_HASH)
    assert asked.generation == later.slots[0].generation


def test_an_unknown_collection_is_named_with_those_there_are(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=r"'sentinel-9'.*demo-optical, demo-sar"):
        plan_request(request_of(small_region, tmp_path, sar="sentinel-9"))


def test_a_plan_that_waited_finds_what_another_run_published_meanwhile(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    plan = plan_of(small_region, tmp_path)
    (slot,) = plan.slots
    assert compare_with_store(plan) == plan

    fewer = without_scenes(plan, slot, ["S1-DEMO-SOUTH"])
    publish_as(plan, fewer)
    renewed = compare_with_store(plan)
    assert renewed == plan_of(small_region, tmp_path)  # as if it had been planned now
    assert renewed.slots == (replace(fewer, published=True),)
    publish_as(plan, slot)
    assert compare_with_store(plan).slots == (replace(slot, published=True),)
    # A day of which readers see another generation by now is to be made.
    assert compare_with_store(renewed).unfinished == (fewer,)


@pytest.mark.parametrize("slots", ["optical", "sar"])
def test_a_day_keeps_the_memory_it_was_made_with(
    small_region: DemoRegion, tmp_path: Path, slots: str
) -> None:
    """That memory grew since, or that there was none then, makes no day anew."""
    plan = plan_of(small_region, tmp_path, slots=slots)
    (slot,) = plan.slots
    assert with_memory(plan, slot, {}) == slot
    first, second = ({"descending-168-grd": version} for version in ("a" * 16, "b" * 16))
    made = with_memory(plan, slot, first)
    assert (made.groups, made.memory, made.requested) == (slot.groups, first, slot.generation)
    assert len({each.generation for each in (slot, made, with_memory(plan, made, second))}) == 3
    assert with_memory(plan, made, {}) == slot
    fewer = without_scenes(plan, made, ["S1-DEMO-SOUTH"])
    for published in (slot, made, fewer):
        assert published.kind == slot.kind
        publish_as(plan, published)
        later = plan_of(small_region, tmp_path, slots=slots)
        assert later.slots == (replace(published, published=True),)
        assert not compare_with_store(later).unfinished
        assert provenance(plan, published).get("memory", {}) == published.memory
    failed = without_tiles(plan, made, ["tile"])
    assert (failed.memory, failed.kind) == (first, slot.kind)
    assert with_memory(plan, failed, second).failed_tiles == ("tile",)


def test_remake_finishes_nothing_that_is_asked_for(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    plan = plan_of(small_region, tmp_path)
    (slot,) = plan.slots
    publish_as(plan, with_memory(plan, slot, {"descending-168-grd": "a" * 16}))
    assert not plan_of(small_region, tmp_path).unfinished
    again = plan_of(small_region, tmp_path, remake=True)
    assert again.unfinished == (slot,)
    assert compare_with_store(again).unfinished == (slot,)


def test_a_sar_slot_is_named_after_all_it_shows(small_region: DemoRegion, tmp_path: Path) -> None:
    def plan(**changes: object) -> Plan:
        return plan_of(small_region, tmp_path, slots="both", **changes)

    optical, sar = plan().slots
    assert (optical.slot, optical.kind) == ("2024-06-12", "optical")
    assert (sar.slot, sar.kind) == ("2024-06-14", "sar")
    assert [scene.id for scene in sar.optical][-1] == "S2-DEMO-EARLY"  # the oldest, shown last
    assert optical == plan_of(small_region, tmp_path).slots[0]
    # The age allowed decides only which scenes are shown: none is as old as that.
    assert plan(max_optical_age_days=25).slots[1] == sar
    names = {plan(max_optical_age_days=age).slots[1].generation for age in (0, 3, 30)}
    assert len(names) == 3
    (alone,) = plan(max_optical_age_days=0, start="2024-06-13").slots
    assert (alone.optical, alone.pairs, alone.optical_bands) == ((), (), ())
    assert alone.judged == (("", "S1-DEMO-NORTH"), ("", "S1-DEMO-SOUTH"))
    assert not without_scenes(plan(), alone, ["S1-DEMO-NORTH", "S1-DEMO-SOUTH"]).groups
    half = without_scenes(plan(), alone, ["S1-DEMO-NORTH"])
    assert (half.kind, [scene.id for scene in half.sar]) == ("sar", ["S1-DEMO-SOUTH"])
