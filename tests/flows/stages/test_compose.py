"""Pass two: what a shard shows, where from, and what its quality says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from catalog.archives.items import Asset, Mask, Scene
from catalog.archives.pairs import Pair
from catalog.grid import Lattice
from catalog.pixels.scene import probe
from catalog.store.schema import (
    ABSTAINED,
    CLOUD,
    NO_OPTICAL,
    NO_SAR,
    REGISTERED,
    REGISTERED_FROM_MEMORY,
    REGISTERED_RADAR_TO_RADAR,
    SlotSchema,
    optical_packing,
    stored_values,
)
from catalog.store.slot import SlotStore
from flows.plan.groups import Group
from flows.stages.compose import (
    Layer,
    ShardJob,
    compose,
    compose_shard,
    layers_of,
    slot_shards,
)
from flows.stages.estimate import GroupEstimate, PairVerdict
from flows.stages.fit import abstain_without_optical
from tar_engine.fields.field import ControlLattice, Field
from tar_engine.fields.nodes import NodeMap
from tests.support.scenes import CORNER, NOON, UTM, noise, same, scene_of, write_raster

SIDE = 96
HALF = SIDE // 2
RGB = ("red", "green", "blue")


def shift(dx: float, dy: float) -> Field:
    return Field("shift", np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]]))


def raster(folder: Path, name: str, values: np.ndarray, x0: int = 0) -> Scene:
    """A scene on the lattice's own pixels, its left edge at column `x0`."""
    corner = CORNER[0] + 10 * x0, CORNER[1]
    bands = RGB if len(values) == 3 else ("vh",)
    path = write_raster(folder / f"{name}.tif", values, corner=corner, nodata=0)
    return scene_of(path, bands, name)


@pytest.fixture
def lattice() -> Lattice:
    affine = Affine(10.0, 0.0, CORNER[0], 0.0, -10.0, CORNER[1])
    return Lattice(GeoBox((SIDE, SIDE), affine, UTM), shard_px=128)


def job_of(lattice: Lattice, *layers: Layer) -> ShardJob:
    (shard,) = lattice.shards()
    store = SlotStore("/nowhere", "region", "2020-11-04", "0" * 16)
    sar = {scene.id: NOON for layer in layers for scene in layer.sar}
    optical = {scene.id: NOON for layer in layers for scene in layer.optical}
    classes = any(scene.mask is not None for layer in layers for scene in layer.optical)
    return ShardJob(store, lattice, shard, layers, SlotSchema(RGB, ("vh",), sar, optical, classes))


def layer_of(
    optical: tuple[Scene, ...],
    sar: tuple[Scene, ...],
    field: Field | None,
    error_px: float,
    accepted: Iterable[tuple[str, str]],
    refused: Iterable[tuple[str, str]] = (),
) -> Layer:
    """A layer whose error is the same everywhere, falling by a tenth towards the right edge."""
    nodes = np.tile(np.linspace(error_px, 0.9 * error_px, 5, dtype=np.float32), (5, 1))
    return Layer(optical, sar, field, NodeMap(nodes), frozenset(accepted), frozenset(refused))


def stacked(canvas: xr.Dataset, *names: str) -> np.ndarray:
    """(variables, H, W)."""
    return np.stack([canvas[name].values for name in names])


def test_whole_pixel_displacements_move_pixels_bit_for_bit(
    tmp_path: Path, lattice: Lattice
) -> None:
    optical = noise((3, SIDE, SIDE))
    sar = noise((1, SIDE, SIDE), seed=1)
    layer = layer_of(
        (raster(tmp_path, "o", optical),),
        (raster(tmp_path, "s", sar),),
        shift(3, -2),
        0.4,
        [("o", "s")],
    )
    canvas = compose(job_of(lattice, layer))
    assert np.array_equal(stacked(canvas, *RGB), optical.astype(np.float32))
    inner = (slice(2, None), slice(None, SIDE - 3))
    assert np.array_equal(canvas["vh"].values[inner], sar[0, : SIDE - 2, 3:].astype(np.float32))
    assert np.array_equal(stacked(canvas, "dx", "dy")[:, 10, 10], [3, -2])
    assert (canvas["quality"].values[inner] == REGISTERED).all()
    assert np.allclose(canvas["expected_error"].values[inner], 0.38, atol=0.0201)
    # What SAR lies outside its scene stays open, and says so.
    assert (canvas["quality"].values[:, -3:] == NO_SAR).all()
    assert np.isnan(canvas["vh"].values[:, -3:]).all()
    assert np.isnan(stacked(canvas, "dx", "dy")[:, :, -3:]).all()


def two_and_two(folder: Path) -> tuple[tuple[Scene, Scene], tuple[Scene, Scene], np.ndarray]:
    """Two optical and two SAR scenes, side by side, cut from one image each."""
    optical, sar = noise((3, SIDE, SIDE)), noise((1, SIDE, SIDE), seed=1)
    optical_scenes = (
        raster(folder, "o-left", optical[:, :, :HALF]),
        raster(folder, "o-right", optical[:, :, HALF:], HALF),
    )
    sar_scenes = (
        raster(folder, "s-left", sar[:, :, :HALF]),
        raster(folder, "s-right", sar[:, :, HALF:], HALF),
    )
    return optical_scenes, sar_scenes, sar


def test_a_displacement_reaches_over_the_border_between_scenes(
    tmp_path: Path, lattice: Lattice
) -> None:
    optical, sar, image = two_and_two(tmp_path)
    pairs = [("o-left", "s-left"), ("o-right", "s-right")]
    canvas = compose(job_of(lattice, layer_of(optical, sar, shift(5, 0), 0.3, pairs)))
    assert np.array_equal(canvas["vh"].values[:, : SIDE - 5], image[0, :, 5:].astype(np.float32))
    assert (canvas["quality"].values[:, : SIDE - 5] == REGISTERED).all()
    error = canvas["expected_error"].values[:, : SIDE - 5]
    assert np.allclose(error, np.linspace(0.3, 0.27, SIDE + 1)[: SIDE - 5], atol=1e-6)


def test_a_refused_pair_is_abstained_and_its_neighbour_is_not(
    tmp_path: Path, lattice: Lattice
) -> None:
    optical, sar, _ = two_and_two(tmp_path)
    layer = layer_of(
        optical, sar, shift(0, 0), 0.3, [("o-left", "s-left")], [("o-right", "s-right")]
    )
    canvas = compose(job_of(lattice, layer))
    assert (canvas["quality"].values[:, :HALF] == REGISTERED).all()
    assert (canvas["quality"].values[:, HALF + 1 :] == ABSTAINED).all()
    assert np.isnan(canvas["vh"].values[:, HALF + 1 :]).all()
    assert np.isfinite(stacked(canvas, *RGB)).all()


def clouded(folder: Path, name: str, values: np.ndarray, classes: np.ndarray, x0: int = 0) -> Scene:
    """`raster` with scene classes (H, W) beside it."""
    corner = CORNER[0] + 10 * x0, CORNER[1]
    path = write_raster(folder / f"{name}-scl.tif", classes[None].astype(np.uint8), corner=corner)
    mask = Mask(Asset("scl", str(path), ("scl",)), "scene classes")
    return replace(raster(folder, name, values, x0), mask=mask)


def test_the_clearest_granule_shows_each_pixel_and_clouds_are_told(
    tmp_path: Path, lattice: Lattice
) -> None:
    """Two granules of two passes over one ground, a third of it under cloud in both."""
    first, second = noise((3, SIDE, SIDE), seed=2), noise((3, SIDE, SIDE), seed=3)
    sar = noise((1, SIDE, SIDE), seed=1)
    classes = np.full((2, SIDE, SIDE), 4)
    classes[0, 32:], classes[1, :64] = 9, 3  # cloud; shadow
    classes[1, 32:48], classes[0, 80:] = 8, 10  # likely cloud over cloud; cirrus before clear
    classes[1, 70:72, :5] = 1  # broken over cloud
    one = clouded(tmp_path, "one", first, classes[0])
    two = clouded(tmp_path, "two", second, classes[1])
    s = raster(tmp_path, "s", sar)
    layers = tuple(
        layer_of((scene,), (s,), shift(0, 0), 0.3, [(scene.id, "s")]) for scene in (one, two)
    )
    canvas = compose(job_of(lattice, *layers))
    shows_second = np.zeros((SIDE, SIDE), bool)
    shows_second[32:] = True
    shows_second[70:72, :5] = False
    expected = np.where(shows_second, second, first).astype(np.float32)
    assert np.array_equal(stacked(canvas, *RGB), expected)
    assert np.array_equal(canvas["optical_scene"].values, 1 + shows_second)
    cloudy = np.zeros((SIDE, SIDE), bool)
    cloudy[32:48] = True
    cloudy[70:72, :5] = True
    assert np.array_equal(canvas["quality"].values == CLOUD, cloudy)
    # Radar sees through.
    assert (canvas["quality"].values[~cloudy] == REGISTERED).all()
    assert np.array_equal(stacked(canvas, "vh"), sar.astype(np.float32))


def test_where_nothing_is_clear_the_optical_value_stays(tmp_path: Path, lattice: Lattice) -> None:
    values = noise((3, SIDE, SIDE))
    values[:, :20] = 0  # no data, whatever the mask says
    optical = clouded(tmp_path, "o", values, np.full((SIDE, SIDE), 9))
    layer = layer_of((optical,), (raster(tmp_path, "s", noise((1, SIDE, SIDE))),), None, 0.3, ())
    canvas = compose(job_of(lattice, layer))
    assert (canvas["quality"].values[20:] == CLOUD).all()
    assert (canvas["quality"].values[:20] == NO_OPTICAL).all()
    assert np.array_equal(stacked(canvas, *RGB)[:, 20:], values[:, 20:].astype(np.float32))


def test_a_group_without_a_field_abstains(tmp_path: Path, lattice: Lattice) -> None:
    optical, sar, _ = two_and_two(tmp_path)
    refused = frozenset((o.id, s.id) for o, s in zip(optical, sar, strict=True))
    canvas = compose(job_of(lattice, layer_of(optical, sar, None, 0.3, (), refused)))
    assert set(np.unique(canvas["quality"].values)) <= {ABSTAINED, NO_SAR}
    assert (canvas["quality"].values == ABSTAINED).mean() > 0.95


def test_where_no_optical_scene_has_data_there_is_nothing(tmp_path: Path, lattice: Lattice) -> None:
    optical = noise((3, SIDE, SIDE))
    optical[:, :20] = 0
    layer = layer_of(
        (raster(tmp_path, "o", optical),),
        (raster(tmp_path, "s", noise((1, SIDE, SIDE))),),
        shift(0, 0),
        0.4,
        [("o", "s")],
    )
    canvas = compose(job_of(lattice, layer))
    assert (canvas["quality"].values[:20] == NO_OPTICAL).all()
    assert np.isnan(stacked(canvas, *RGB)[:, :20]).all()
    assert (canvas["optical_scene"].values[:20] == 0).all()
    assert (canvas["optical_scene"].values[20:] == 1).all()
    assert np.isnan(canvas["vh"].values[:20]).all()
    assert (canvas["quality"].values[20:] == REGISTERED).all()


def test_a_second_sar_pass_fills_what_the_first_left_open(tmp_path: Path, lattice: Lattice) -> None:
    optical = (raster(tmp_path, "o", noise((3, SIDE, SIDE))),)
    image = noise((1, SIDE, SIDE), seed=1)
    first = raster(tmp_path, "first", image[:, :, :HALF])
    second = raster(tmp_path, "second", image)
    layers = (
        layer_of(optical, (first,), shift(0, 0), 0.2, [("o", "first")]),
        layer_of(optical, (second,), shift(1, 0), 0.7, [("o", "second")]),
    )
    canvas = compose(job_of(lattice, *layers))
    assert (canvas["dx"].values[:, :HALF] == 0).all()
    assert (canvas["dx"].values[:, HALF:-1] == 1).all()
    assert (canvas["expected_error"].values[:, :HALF] <= np.float32(0.2)).all()
    assert (canvas["expected_error"].values[:, HALF:-1] >= np.float32(0.6)).all()
    assert (canvas["sar_scene"].values[:, :HALF] == 1).all()
    assert (canvas["sar_scene"].values[:, HALF:-1] == 2).all()
    assert (canvas["sar_scene"].values[:, -1] == 0).all()


def test_a_shard_reaches_the_store_whole(tmp_path: Path, lattice: Lattice) -> None:
    layer = layer_of(
        (raster(tmp_path, "o", noise((3, SIDE, SIDE))),),
        (raster(tmp_path, "s", noise((1, SIDE, SIDE))),),
        shift(0.5, 0.25),
        0.4,
        [("o", "s")],
    )
    job = job_of(lattice, layer)
    job = replace(job, store=replace(job.store, store_url=str(tmp_path / "store")))
    job.store.create(lattice, job.schema, {})
    compose_shard(job)
    assert job.store.written_shards() == {(0, 0)}
    written, canvas = job.store.pixels("r"), compose(job)
    assert set(written) == set(canvas)
    for name, array in written.items():
        stored = stored_values(canvas[name].values, array.dtype, array.attrs)
        assert same(np.asarray(array), stored)


def test_native_numbers_of_two_baselines_are_kept_exactly(tmp_path: Path, lattice: Lattice) -> None:
    """Two granules side by side, one of each baseline: the same step, other offsets."""
    numbers = np.random.default_rng(0).integers(1, 65535, (3, SIDE, HALF), dtype=np.uint16)
    path = {"o-left": 0.0, "o-right": -0.1}
    scenes = []
    for x0, (name, offset) in zip((0, HALF), path.items(), strict=True):
        scene = raster(tmp_path, name, numbers, x0)
        (asset,) = scene.assets
        asset = replace(asset, scale=0.0001, offset=offset, nodata=0.0)
        scenes.append(probe(replace(scene, assets=(asset,))))
    packing = optical_packing([scene.assets[0] for scene in scenes])
    assert packing is not None
    layer = layer_of(tuple(scenes), (raster(tmp_path, "s", noise((1, SIDE, SIDE))),), None, 0.3, ())
    job = job_of(lattice, layer)
    packed = replace(job.schema, optical_packings=dict.fromkeys(RGB, packing))
    job = replace(job, schema=packed, store=replace(job.store, store_url=str(tmp_path / "store")))
    job.store.create(lattice, job.schema, {})
    compose_shard(job)
    slot = job.store.open()
    for name, offset, columns in (
        ("o-left", 0.0, slice(HALF)),
        ("o-right", -0.1, slice(HALF, SIDE)),
    ):
        seen = np.stack([slot[band].values[:, columns] for band in RGB]).astype(np.float64)
        assert np.array_equal(np.rint((seen - offset) / 0.0001), numbers), name


def test_a_shard_is_the_same_in_blocks_and_from_a_cut_of_its_fields(
    tmp_path: Path, lattice: Lattice, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = np.random.default_rng(3).normal(0, 2, (2, 14, 14))
    bent = Field("smooth", np.eye(2, 3), ControlLattice(-4, -4, 24.0, 14, 14), control)
    optical = (raster(tmp_path, "o", noise((3, SIDE, SIDE))),)
    sar = (raster(tmp_path, "s", noise((1, SIDE, SIDE))),)
    layer = layer_of(optical, sar, bent, 0.4, [("o", "s")])
    job = job_of(lattice, layer, replace(layer, field=None, error_px=None))
    whole = compose(job)
    monkeypatch.setattr("flows.stages.compose.BLOCK_PX", 40)
    assert compose(job).identical(whole)
    assert compose(job.cut()).identical(whole)
    field = job.cut().layers[0].field
    assert field is not None
    assert field.control is not None
    assert field.control[0].size < control[0].size


def test_layers_carry_what_became_of_each_pair(tmp_path: Path) -> None:
    optical, sar, _ = two_and_two(tmp_path)
    pairs = tuple(Pair(o, s, 1.0, timedelta(0)) for o, s in zip(optical, sar, strict=True))
    estimate = GroupEstimate(
        shift(1, 1),
        (
            PairVerdict("o-left", "s-left", True, "agree", 0.5, 1.4, 100),
            PairVerdict("o-right", "s-right", False, "no match", np.inf, np.nan, 0),
        ),
    )
    (layer,) = layers_of((Group(pairs, optical, sar),), (estimate,))
    assert layer.accepted == {("o-left", "s-left")}
    assert layer.refused == {("o-right", "s-right")}


def test_only_shards_that_optical_or_sar_alone_touches_are_written(
    tmp_path: Path, lattice: Lattice
) -> None:
    small = replace(lattice, shard_px=32)
    optical = raster(tmp_path, "o", noise((3, 20, 20)))
    sar = raster(tmp_path, "s", noise((1, 20, 20)))
    group = Group((Pair(optical, sar, 1.0, timedelta(0)),), (optical,), (sar,))
    assert [(shard.row, shard.col) for shard in slot_shards(small, (group,))] == [(0, 0)]
    elsewhere = raster(tmp_path, "alone", noise((1, 20, 20)), x0=70)
    alone = Group((), (), (elsewhere,))
    touched = [(shard.row, shard.col) for shard in slot_shards(small, (group, alone))]
    assert touched == [(0, 0), (0, 2)]


def test_ground_without_optical_takes_sar_by_a_layer_of_its_own(
    tmp_path: Path, lattice: Lattice
) -> None:
    """Left: no optical; right: optical under cloud, below which memory sees as well."""
    optical = clouded(tmp_path, "o", noise((3, SIDE, HALF)), np.full((SIDE, HALF), 9), HALF)
    image = noise((1, SIDE, SIDE), seed=1)
    upper = raster(tmp_path, "upper", image[:, :HALF])
    whole = raster(tmp_path, "whole", image)
    matched = layer_of((optical,), (whole,), shift(1, 0), 0.2, [("o", "whole")])
    alone = layer_of((), (upper, whole), shift(2, 0), 0.3, [("", "upper")], [("", "whole")])
    matched = replace(matched, quality=REGISTERED_FROM_MEMORY)
    alone = replace(alone, quality=REGISTERED_RADAR_TO_RADAR)
    canvas = compose(job_of(lattice, matched, alone))
    quality, inner = canvas["quality"].values, slice(1, HALF - 1)
    assert (quality[:, HALF:-1] == REGISTERED_FROM_MEMORY).all()
    assert (quality[inner, : HALF - 2] == REGISTERED_RADAR_TO_RADAR).all()
    assert (quality[HALF + 1 :, : HALF - 1] == ABSTAINED).all()
    assert np.array_equal(canvas["vh"].values[inner, :40], image[0, inner, 2:42].astype(np.float32))
    assert np.isnan(canvas["vh"].values[HALF + 1 :, : HALF - 1]).all()
    assert (canvas["expected_error"].values[inner, : HALF - 2] <= np.float32(0.3)).all()
    assert np.isnan(stacked(canvas, *RGB)[:, :, :HALF]).all()
    assert (canvas["sar_scene"].values[inner, : HALF - 2] == 2).all()
    cloudy = replace(matched, quality=REGISTERED)
    assert (compose(job_of(lattice, cloudy))["quality"].values[:, HALF:] == CLOUD).all()


def test_a_day_of_sar_alone_that_nothing_registers_abstains(
    tmp_path: Path, lattice: Lattice
) -> None:
    sar = raster(tmp_path, "s", noise((1, SIDE, HALF)))
    group = Group((), (), (sar,))
    layers = layers_of((group,), (abstain_without_optical(group),))
    canvas = compose(job_of(lattice, *layers))
    assert (canvas["quality"].values[:, : HALF - 1] == ABSTAINED).all()
    assert (canvas["quality"].values[:, HALF + 1 :] == NO_OPTICAL).all()
    assert np.isnan(canvas["vh"].values).all()
