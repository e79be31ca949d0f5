"""Layover and shadow in a mosaic: no SAR, and a quality of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from catalog.archives.items import Scene
from catalog.store.schema import LAYOVER_OR_SHADOW, REGISTERED, SlotSchema
from catalog.store.slot import SlotStore
from flows.stages.compose import Layer, ShardJob, compose
from tar_engine.fields.field import Field
from tar_engine.fields.nodes import NodeMap
from tests.support.grd import Radar, plateau
from tests.support.grd_scene import write_scene
from tests.support.scenes import NOON

RGB = ("red", "green", "blue")
UNMOVED = Field("shift", np.eye(2, 3))


def layer_of(optical: Scene, sar: Scene) -> Layer:
    error_px = NodeMap(np.full((5, 5), 0.2, np.float32))
    return Layer(
        (optical,), (sar,), UNMOVED, error_px, frozenset([(optical.id, sar.id)]), frozenset()
    )


def test_what_relief_hides_from_the_radar_is_told_and_another_scene_may_fill_it(
    tmp_path: Path,
) -> None:
    """A cliff of 400 m on 400 m faces the sensor."""
    made = write_scene(tmp_path, Radar(plateau(400), shape=(900, 1100), points=(5, 6)), 2.0)
    (shard,) = made.lattice.shards()
    sar = replace(made.sar, terrain=(made.dem,))
    schema = SlotSchema(RGB, ("vv",), {"S1": NOON, "S3": NOON}, {"S2": NOON})
    store = SlotStore("/nowhere", "region", "2020-11-04", "0" * 16)
    job = ShardJob(store, made.lattice, shard, (layer_of(made.optical, sar),), schema)
    canvas = compose(job)
    hidden = canvas["quality"].values == LAYOVER_OR_SHADOW
    assert np.isnan(canvas["vv"].values[hidden]).all()
    middle = hidden.shape[1] // 2
    assert hidden[:, middle + 5 : middle + 35].all()
    assert not hidden[:, : middle - 60].any()
    assert not hidden[:, middle + 100 :].any()

    elsewhere = replace(made.sar, id="S3")  # to which nothing hides this ground
    both = compose(replace(job, layers=(*job.layers, layer_of(made.optical, elsewhere))))
    assert (both["quality"].values[hidden] == REGISTERED).mean() > 0.99
    assert (both["sar_scene"].values[hidden] == 2).mean() > 0.99
