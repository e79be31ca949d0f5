"""A published day becomes part of what its region remembers: one more version, and no other change.

The day's own evidence is laid beside that of the days before (`tar_engine.fields.ground`), and its
SAR, on the ground, into the reference image. Everything is determined by what was there before and
by the day, so a run that is killed in between makes the same again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from catalog.grid import Shard, Window
from catalog.memory.encoding import codes_from_db, db_from_codes
from catalog.memory.layout import REFERENCE_FACTOR as SIZE
from catalog.memory.layout import reference_lattice
from catalog.memory.store import MemoryStore
from catalog.store.publish import generation_name
from catalog.store.slot import SlotStore
from flows.memory.learnt import Day, add_day
from flows.memory.radar import halve, in_decibels
from flows.memory.recall import memory_names, memory_store, name_memory
from flows.plan.generation import SlotPlan
from flows.plan.plan import Plan, slot_store
from flows.stages.estimate import GroupEstimate, load_estimates

Floats = npt.NDArray[np.float32]

MOST_STACKED = 8  # days that the reference is the mean of; later ones count as the last of so many
DESPECKLED_PX = 0.8  # sigma of the Gaussian over the reference's pixels
BORDER_PX = 8  # read around a shard, so that a shift finds its pixels
DECIBEL_SHARE = 0.01  # of SAR below 0: more of it is no power


@dataclass(frozen=True)
class Lesson:
    """What a published day has to tell one memory."""

    store: MemoryStore
    slot: str
    generation: str
    previous: str | None
    """The version that it is added to; None begins a memory."""
    slots: tuple[str, ...]
    """The days that were looked at before."""
    estimate: GroupEstimate | None
    """None where the day tells nothing of this geometry."""

    @property
    def version(self) -> str:
        """The version that comes of it."""
        return generation_name(
            {"previous": self.previous, "slot": self.slot, "generation": self.generation}
        )


@dataclass(frozen=True)
class ReferenceJob:
    """Everything a worker needs to write one shard of a reference.

    shift: (dx, dy) lattice pixels that the day's ground lies off; None leaves the day out.
    """

    store: MemoryStore
    previous: str | None
    version: str
    shard: Shard
    day: SlotStore
    band: str
    decibel: bool
    shift: tuple[float, float] | None
    stacked: int


def lessons(plan: Plan, slot: SlotPlan) -> list[Lesson]:
    """What a published day has for the memories that it was not added to yet.

    Raises `StoreError`.
    """
    heads = {name: memory_store(plan, name).head() for name in memory_names(plan, slot.sar)}
    new = [name for name, head in heads.items() if head is None or slot.slot not in head.slots]
    estimates = (load_estimates(slot_store(plan, slot)) if new else None) or ()
    found = []
    for name in new:
        store, head = memory_store(plan, name), heads[name]
        own = (
            estimate
            for group, estimate in zip(slot.groups, estimates, strict=bool(estimates))
            if name_memory(group.sar[0], plan.lattice) == name and estimate.evidence is not None
        )
        found.append(
            Lesson(
                store=store,
                slot=slot.slot,
                generation=slot.generation,
                previous=head.version if head else None,
                slots=head.slots if head else (),
                estimate=next(own, None),
            )
        )
    return [each for each in found if each.estimate is not None or each.previous is not None]


def learn(plan: Plan, slot: SlotPlan, lesson: Lesson) -> list[ReferenceJob]:
    """Write the version's field, and say what is left to do for its reference.

    Raises `StoreError`.
    """
    estimate, previous = lesson.estimate, lesson.previous
    assert estimate is not None
    assert estimate.evidence is not None
    before = lesson.store.load_field(previous) if previous else None
    # The first day is where the ground is said to lie, until others have a say.
    shift = (0.0, 0.0) if before is None else estimate.optical_shift
    field = add_day(
        before,
        Day(lesson.slot, lesson.generation, estimate.evidence, shift or (np.nan, np.nan)),
    )
    day = slot_store(plan, slot)
    if before is None:
        band = slot.sar_bands[0]
        decibel = _comes_in_decibels(day, band)
    else:
        band, decibel = str(before.attrs["sar_band"]), bool(before.attrs["sar_decibel"])
    stacked = int(before.attrs["sar_days"]) if before is not None else 0
    if band not in slot.sar_bands:
        shift = None
    attrs = {
        "sar_band": band,
        "sar_decibel": decibel,
        "sar_days": stacked + (shift is not None),
        "previous": previous or "",
    }
    lesson.store.create(lesson.version, field, plan.lattice, attrs)
    return [
        ReferenceJob(
            store=lesson.store,
            previous=previous,
            version=lesson.version,
            shard=shard,
            day=day,
            band=band,
            decibel=decibel,
            shift=shift,
            stacked=stacked,
        )
        for shard in reference_lattice(plan.lattice).shards()
    ]


def write_reference_shard(job: ReferenceJob) -> None:
    """Runs on a worker: one shard of the reference, the day added to what was there.

    Raises `StoreError`.
    """
    window = job.shard.window
    before = None
    if job.previous is not None:
        before = db_from_codes(job.store.read_reference(job.previous, window))
    today = None if job.shift is None else read_day(job, job.shift)
    codes = codes_from_db(stack(before, today, job.stacked))
    job.store.write_reference(job.version, job.shard, codes)


def stack(before: Floats | None, today: Floats | None, stacked: int) -> Floats:
    """The mean over days (H, W) with one more; where only one of the two knows, that one."""
    if before is None or today is None:
        known = today if before is None else before
        assert known is not None
        return known
    mean = before + (today - before) / np.float32(min(stacked + 1, MOST_STACKED))
    return np.where(np.isnan(before), today, np.where(np.isnan(today), before, mean))


def read_day(job: ReferenceJob, shift: tuple[float, float]) -> Floats:
    """The day's SAR where the ground is, in decibels, despeckled, on a shard of the reference."""
    window = job.shard.window
    corner = window.y0 - BORDER_PX, window.x0 - BORDER_PX
    sides = window.height + 2 * BORDER_PX, window.width + 2 * BORDER_PX
    around = Window(*(SIZE * each for each in (*corner, *sides)))  # in pixels of the lattice
    full = around.cut(job.day.pixels("r")[job.band], np.nan)
    sar = halve(in_decibels(full, decibel=job.decibel))
    known = np.isfinite(sar)
    weight = ndimage.gaussian_filter(known.astype(np.float32), DESPECKLED_PX)
    smooth = ndimage.gaussian_filter(np.where(known, sar, 0.0), DESPECKLED_PX)
    smooth = np.where(known, smooth / np.maximum(weight, 1e-6), np.nan)
    dx, dy = shift
    back = (-dy / SIZE, -dx / SIZE)
    filled = np.where(np.isfinite(smooth), smooth, 0.0)
    moved = ndimage.shift(filled, back, order=1, mode="nearest")
    there = ndimage.shift(known.astype(np.float32), back, order=1, mode="constant")
    moved = np.where(there > 0.999, moved, np.nan)
    inner = slice(BORDER_PX, -BORDER_PX)
    return np.asarray(moved[inner, inner], np.float32)


def _comes_in_decibels(day: SlotStore, band: str) -> bool:
    """Whether a mosaic's SAR is decibels: power is never below 0."""
    factors = day.overview_factors()
    values = np.asarray(day.pixels("r", factors[-1] if factors else 1)[band][:])
    known = values[np.isfinite(values)]
    return bool(known.size and (known < 0).mean() > DECIBEL_SHARE)
