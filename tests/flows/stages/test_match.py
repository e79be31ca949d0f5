"""Pass one: which tiles are read, what is matched in them, and what belongs to whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.archives.items import Asset, Mask, Scene
from catalog.archives.pairs import Pair
from catalog.errors import SceneReadError
from catalog.grid import Window, lattice_for
from catalog.pixels import composite
from flows.cli.demo_region import DemoRegion
from flows.cluster.stream import Done
from flows.cluster.workers import Workers
from flows.plan.groups import Group
from flows.progress import Progress
from flows.stages import match
from flows.stages.group_matches import Collected, TileMatches
from flows.stages.match import (
    TILE_PX,
    Tile,
    TileImages,
    batch_tiles,
    collect_matches,
    corners_of,
    group_tiles,
    match_group,
    match_tile,
    match_tiles,
    read_tile,
    read_tiles,
    settle_rivals,
)
from tar_engine.deformation import invert_affine
from tar_engine.errors import WeightsError
from tar_engine.fields.fit import fit
from tar_engine.fields.matches import Matches
from tar_engine.training.synthesis import synthetic_pair
from tests.support.pairs import warp_affine
from tests.support.regions import plan_of
from tests.support.scenes import aligned_lattice, noise, same, scene, scene_of, write_raster

BBOX = (10.0, 50.0, 10.14, 50.06)


def one_pair_group(box: tuple[float, float, float, float] = BBOX) -> Group:
    optical, sar = scene("optical", box), scene("sar", box)
    return Group((Pair(optical, sar, 1.0, timedelta(0)),), (optical,), (sar,))


def arrived(tile: Tile, found: TileMatches) -> Matches:
    """One tile's matches in lattice pixels."""
    collected = Collected()
    collected.add(0, found)
    return collected.of_group(corners_of([tile]), {}).matches()


def test_cores_of_tiles_cover_the_lattice_once_and_windows_have_one_size() -> None:
    lattice = lattice_for(BBOX)
    tiles = group_tiles(lattice, one_pair_group((9.0, 49.0, 11.0, 51.0)))
    count = np.zeros(lattice.shape, dtype=int)
    for tile in tiles:
        count[tile.core.slices] += 1
        assert tile.window.intersect(tile.core) == tile.core
    assert (count == 1).all()
    assert len({tile.window.shape for tile in tiles}) == 1


def test_tiles_away_from_every_pair_are_not_read() -> None:
    lattice = lattice_for(BBOX)
    west, south, *_ = BBOX
    tiles = group_tiles(lattice, one_pair_group((west, south, west + 0.01, south + 0.01)))
    assert [tile.core.x0 for tile in tiles] == [0]
    assert all(tile.core.y0 >= TILE_PX // 2 for tile in tiles)


@settings(max_examples=30)
@given(st.integers(-40, 600), st.integers(-40, 600))
def test_a_match_belongs_to_one_tile(x: int, y: int) -> None:
    """Half-open in pixels, so that a position on a border between two tiles is kept once."""
    windows = [Window(y0, x0, 256, 256) for y0 in (-256, 0, 256, 512) for x0 in (-256, 0, 256, 512)]
    position = np.array([[x - 0.5, y - 0.5]])
    assert sum(bool(match.is_inside(window, position)[0]) for window in windows) == 1


def test_a_tile_is_matched_to_the_truth(small_region: DemoRegion, tmp_path: Path) -> None:
    plan = plan_of(small_region, tmp_path)
    (tile,) = group_tiles(plan.lattice, plan.slots[0].groups[0])
    images = read_tile(plan.lattice, tile)
    assert images.optical.shape == (3, *tile.window.shape)
    assert images.sar.shape == (1, *tile.window.shape)
    found = match_tile(tile, images, weights=None, max_offset_px=32.0)
    assert not found.unreadable
    matches = arrived(tile, found)
    assert len(matches) > 300
    dx, dy = np.median(matches.sar_xy - matches.optical_xy, axis=0)
    assert dy == pytest.approx(0.8, abs=0.2)  # the demo's azimuth offset
    assert 0.5 < dx < 8.0


def test_sar_that_lies_beyond_the_prior_and_is_turned_is_found_by_the_network(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    plan = plan_of(small_region, tmp_path)
    (tile,) = group_tiles(plan.lattice, plan.slots[0].groups[0])
    side = tile.window.width
    pair = synthetic_pair(11, side)
    turn = torch.tensor([[[0.996, -0.087, 70.0], [0.087, 0.996, -20.0]]])  # 5 degrees
    sar = torch.from_numpy(pair.sar)[None].float()
    moved = warp_affine(sar, invert_affine(turn), side, side)[0].numpy()
    images = TileImages(pair.optical.astype(np.float32), moved, {})
    matched = match_tile(tile, images, weights=None, max_offset_px=16.0)
    found = fit(arrived(tile, matched))
    assert found.verdict.accepted, found.verdict.reason
    assert np.allclose(found.field.affine[:, :2], turn[0, :, :2], atol=0.02)


def test_a_scene_that_breaks_while_it_is_read_is_left_out_of_the_composite(
    small_region: DemoRegion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(small_region, tmp_path)
    (tile,) = group_tiles(plan.lattice, plan.slots[0].groups[0])
    whole = read_tile(plan.lattice, tile)
    genuine = composite.read_scene

    def read(found: Scene, *rest: Any) -> np.ndarray | None:
        if found.id == "S1-DEMO-SOUTH":
            raise SceneReadError("it is truncated", found.id, "south.tif")
        return genuine(found, *rest)

    monkeypatch.setattr(composite, "read_scene", read)
    partial = read_tile(plan.lattice, tile)
    assert partial.unreadable == {"S1-DEMO-SOUTH": "it is truncated"}
    assert np.array_equal(partial.optical, whole.optical, equal_nan=True)
    assert np.isnan(partial.sar).sum() > np.isnan(whole.sar).sum()


def test_what_clouds_hide_is_left_out_of_matching_and_a_clear_scene_fills_it(
    tmp_path: Path,
) -> None:
    values = noise((3, 64, 64), seed=1), noise((3, 64, 64), seed=2)
    classes = np.full((1, 64, 64), 4, np.uint8)
    classes[..., 40:] = 9
    mask = Mask(Asset("scl", str(write_raster(tmp_path / "scl.tif", classes)), ("scl",)),
                "scene classes")  # fmt: skip
    bands = ("red", "green", "blue")
    first = scene_of(write_raster(tmp_path / "1.tif", values[0]), bands, "first", mask=mask)
    second = scene_of(write_raster(tmp_path / "2.tif", values[1]), bands, "second")
    lattice = aligned_lattice()

    def read(*optical: Scene) -> np.ndarray:
        window = lattice.window
        return read_tile(lattice, Tile(window, window, optical, (), bands, ("vh",))).optical

    alone, both = read(first), read(first, second)
    assert np.isnan(alone[..., 40:]).all()
    for image in (alone, both):
        assert same(image[..., :40], values[0][..., :40].astype("float32"))
    assert same(both[..., 40:], values[1][..., 40:].astype("float32"))


def test_workers_refuse_another_checkpoint_than_the_planned_one(
    small_region: DemoRegion, tmp_path: Path, client: Client
) -> None:
    plan = plan_of(small_region, tmp_path)  # with a hash that no file has
    group = plan.slots[0].groups[0]
    tiles = group_tiles(plan.lattice, group)
    with (
        Progress() as progress,
        progress.bar("matching", "tiles") as bar,
        pytest.raises(WeightsError, match="expected 0000000000000000"),
    ):
        match_group(Workers(client), plan, group, tiles, bar, Collected())


def test_a_tile_without_common_ground_is_not_matched(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    plan = plan_of(small_region, tmp_path)
    (tile,) = group_tiles(plan.lattice, plan.slots[0].groups[0])
    images = read_tile(plan.lattice, replace(tile, sar=()))
    found = match_tile(tile, images, weights=None, max_offset_px=32.0)
    assert len(found.values) == 0
    assert found.span is None


def test_many_tiles_share_jobs_and_few_do_not() -> None:
    assert batch_tiles(3) == [range(0, 1), range(1, 2), range(2, 3)]
    assert batch_tiles(0) == []
    many = batch_tiles(10_001)
    assert [place for batch in many for place in batch] == list(range(10_001))
    assert {len(batch) for batch in many} == {1, 4}


def test_after_a_restart_tiles_share_jobs_with_the_same_others(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[int]] = []

    def answer(_: Workers, __: Any, batches: Sequence[Sequence[int]]) -> Iterator[Any]:
        for batch in batches:
            asked.append(batch)
            yield batch, Done([TileMatches(np.full((1, 7), 7.0, np.float32), {}) for _ in batch])

    monkeypatch.setattr(match, "stream", answer)
    monkeypatch.setattr(match, "JOBS_ARE_MANY", 1)
    tiles = group_tiles(lattice_for(BBOX), one_pair_group())[:1] * 10
    named = {str(place): tile for place, tile in enumerate(tiles)}
    found = Collected()
    for place in (0, 1, 2, 3, 5):
        found.add(place, TileMatches(np.zeros((1, 7), np.float32), {}))
    lattice, workers = lattice_for(BBOX), Workers(client)
    with Progress() as progress, progress.bar("matching", "tiles") as bar:
        collect_matches(workers, lattice, named, read_tiles, match_tiles, bar, found)
    assert asked == batch_tiles(10)[1:]
    assert len(found) == 10


def test_ground_that_repeats_is_no_evidence_and_weak_tiles_are_left_to_their_group() -> None:
    y, x = np.mgrid[8:640:16, 8:640:16]
    xy = np.column_stack([x.ravel(), y.ravel()]).astype(float)
    one = np.ones(len(xy))
    sure = Matches(xy, xy + 3.0, one, 0.1 * one, 161.0 * one)
    settled = settle_rivals(sure)
    assert (settled.confidence == 0).all()
    assert "repeats itself" in fit(settled).verdict.reason
    weak = replace(sure, confidence=0.01 * one)
    assert settle_rivals(weak).rival_px is None
    assert (settle_rivals(weak).confidence == weak.confidence).all()
