"""What is found out about a day, before a pixel of it is written.

    memory ─┬─ each SAR pass, by radar ─────────────────┐
            └─ tiles of each group: few, or all ─ match ┴─ fit ─▶ an estimate for each group

Without memory all tiles are matched and fitted by themselves. With it a few tell how far the passes
lie from what is remembered; ground that the day's optical image does not show needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from flows.memory.radar import PassPosition
from flows.memory.recall import Remembered, name_memory, recall, tiles_to_match
from flows.outcome import SlotOutcome
from flows.plan.generation import SlotPlan
from flows.plan.groups import Group
from flows.plan.plan import slot_store, without_scenes, without_tiles
from flows.stages.estimate import GroupEstimate, estimates_to_bytes, load_estimates
from flows.stages.fit import abstain_without_optical
from flows.stages.group_matches import Collected, GroupMatches
from flows.stages.match import group_tiles
from flows.tasks import Run, fit_field, match_pairs, position_pass, weigh_field

MOST_TILES_FAILED = 0.5  # of a day's; a day that lost more is not worth publishing
LEAST_SEEN = 200  # matches from memory on, of which ...
LEAST_CONFIRMED = 0.6  # ... so many are confirmed, or memory does not hold
LEAST_MATCHES = 100  # confirmed; with fewer there is more to look at


class TooManyTilesFailed(RuntimeError):
    """Most of a day's tiles were given up; the message has the first reason."""


@dataclass(frozen=True)
class Found:
    """What matching a day brought. matches: by group. radar, positions: by SAR pass."""

    matches: Mapping[tuple[str, str], GroupMatches]
    radar: Mapping[str, GroupMatches]
    positions: Mapping[str, PassPosition]

    @property
    def every(self) -> list[GroupMatches]:
        return [*self.matches.values(), *self.radar.values()]


def estimate_slot(run: Run, outcome: SlotOutcome) -> SlotOutcome:
    """The fields and verdicts of a day: those a killed run left, or new ones.

    Scenes that turn out unreadable are dropped, and so are tiles that fail whoever tries them; the
    day is then another generation.
    """
    slot = outcome.slot
    if (saved := load_estimates(slot_store(run.plan, slot))) is not None:
        return replace(outcome, estimates=saved)
    memory = recall(run.plan, slot)
    found = _match_slot(run, slot, memory)
    unreadable = {id_: why for each in found.every for id_, why in each.unreadable.items()}
    failed = {name: why for each in found.every for name, why in each.failed.items()}
    tiles = sum(each.tiles for each in found.every)
    outcome = replace(
        outcome,
        unreadable={**outcome.unreadable, **unreadable},
        tiles=outcome.tiles + tiles,
        failed_tiles=failed,
        engine=sum((each.engine for each in found.every), outcome.engine),
    )
    if len(failed) > MOST_TILES_FAILED * tiles:
        raise TooManyTilesFailed(f"{len(failed)} of {tiles} tiles failed: {min(failed.values())}")
    if unreadable:
        slot = without_scenes(run.plan, slot, unreadable)
    if failed:
        slot = without_tiles(run.plan, slot, failed)
    estimates = tuple(_estimate_group(run, group, found, memory) for group in slot.groups)
    if slot.groups and not slot.published:
        slot_store(run.plan, slot).save_estimate(estimates_to_bytes(estimates))
    return replace(outcome, slot=slot, estimates=estimates)


def _match_slot(run: Run, slot: SlotPlan, memory: Mapping[str, Remembered]) -> Found:
    """Everything of a day that has to be looked at, on the workers."""
    radar, positions, matches = {}, {}, {}
    for key, group in {group.passes[1]: group for group in slot.groups}.items():
        if (remembered := _remembered(run, group, memory)) is not None:
            radar[key], positions[key] = position_pass(run, group.sar, remembered)
    for group in slot.groups:
        held = positions.get(group.passes[1])
        told = held is not None and held.verdict.accepted
        if group.optical and not (slot.kind == "sar" and told):
            matches[group.passes] = _match_group(run, group, memory, told=told)
    return Found(matches, radar, positions)


def _match_group(
    run: Run, group: Group, memory: Mapping[str, Remembered], *, told: bool
) -> GroupMatches:
    """A group's matches: from memory on where it is known and holds, else of all its tiles.

    `told`: whether radar tells where the SAR pass lies, so that few matches are no harm.
    """
    tiles = group_tiles(run.plan.lattice, group)
    remembered = _remembered(run, group, memory)
    if remembered is not None:
        for every in (False, True):  # where clouds hide the few, others may be clear
            some = tiles_to_match(tiles, remembered, every=every)
            found = match_pairs(run, group, some, Collected())
            if len(some) == len(tiles) and all(tile.start is None for tile in some):
                return found  # memory knows none of them, so that was all there is
            matches = found.matches()
            seen, confirmed = len(matches), int((matches.confidence > 0).sum())
            if seen >= LEAST_SEEN and matches.confirmed_share < LEAST_CONFIRMED:
                break
            if confirmed >= LEAST_MATCHES or (every and told):
                return found
    return match_pairs(run, group, tiles, Collected())


def _estimate_group(
    run: Run, group: Group, found: Found, memory: Mapping[str, Remembered]
) -> GroupEstimate:
    matches = found.matches.get(group.passes)
    remembered = _remembered(run, group, memory)
    if remembered is not None:
        position = found.positions.get(group.passes[1])
        return weigh_field(run, group, matches, remembered, position)
    if matches is None:
        return abstain_without_optical(group)
    return fit_field(run, group, matches)


def _remembered(run: Run, group: Group, memory: Mapping[str, Remembered]) -> Remembered | None:
    """What is remembered of a group's viewing geometry, if all its SAR scenes share it."""
    names = {name_memory(scene, run.plan.lattice) for scene in group.sar}
    return memory.get(names.pop() or "") if len(names) == 1 else None
