"""Overviews of a day as the flow makes them: on workers, after its shards, and again if missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from distributed import Client
from prefect import flow

from catalog.store.layout import overview_factors
from catalog.store.open import open_slot
from catalog.store.overviews import half_resolution
from catalog.store.schema import SlotSchema, is_flag, stored_values
from catalog.store.shards import write_shard
from catalog.store.slot import SlotStore
from catalog.store.upkeep import verify
from flows.cli.demo_region import DemoRegion
from flows.cluster.workers import Workers
from flows.plan.plan import Plan, slot_store
from flows.progress import Progress, Stopwatch
from flows.run_region import write_overviews
from flows.tasks import Run
from tests.support.regions import files_under, plan_of
from tests.support.scenes import same


def written_day(region: DemoRegion, folder: Path) -> tuple[Plan, SlotStore]:
    """A day of 392 px in shards of 128, some of them written, from noise."""
    plan = plan_of(region, folder)
    plan = replace(plan, lattice=replace(plan.lattice, shard_px=128))
    store = slot_store(plan, plan.slots[0])
    pair = plan.pairs[0]
    schema = SlotSchema(("red",), ("vh",), {"s": pair.sar.datetime}, {"o": pair.optical.datetime})
    store.create(plan.lattice, schema, {})
    random = np.random.default_rng(0)
    for shard in plan.lattice.shards()[1:6]:
        shape = shard.window.shape
        pixels = schema.empty(shape).copy(deep=True)
        for variable in pixels.values():
            flags = random.integers(0, 2, shape)
            variable.values[...] = flags if is_flag(variable) else random.random(shape)
        write_shard(store, shard, pixels)
    return plan, store


def test_a_rerun_makes_what_is_missing_and_nothing_else(
    small_region: DemoRegion, tmp_path: Path, client: Client
) -> None:
    plan, store = written_day(small_region, tmp_path)
    run = Run(plan, Workers(client), Progress(), Stopwatch())

    @flow(name="overviews")
    def overviews() -> None:
        write_overviews(run, plan.slots[0])

    overviews()
    assert overview_factors(plan.lattice) == (4, 8, 16)
    below = store.open()
    for factor in (4, 8, 16):
        assert store.written_shards(factor) == {(0, 0)}
        for name, array in store.pixels("r", factor).items():
            expected = half_resolution(below[name].values)
            if factor == 4:
                expected = half_resolution(expected)
            assert same(np.asarray(array), stored_values(expected, array.dtype, array.attrs))
        below = open_slot(store.url, factor)

    complete = files_under(tmp_path)
    overviews()
    assert files_under(tmp_path) == complete

    # A run that was killed between a shard and its receipt.
    receipts, *_ = store.parts
    Path(f"{receipts}/overviews/8/0.0.json").unlink()
    Path(f"{store.url}/overviews/8/vh/0/0").unlink()
    overviews()
    again = files_under(tmp_path)
    assert {name: content for name, (_, content) in again.items()} == {
        name: content for name, (_, content) in complete.items()
    }
    made = {name for name in again if again[name][0] != complete[name][0]}
    assert made
    assert all("overviews/8/" in name for name in made)
    store.seal()
    assert verify(store).faults == ()
