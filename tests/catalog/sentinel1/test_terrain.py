"""Relief: a made Sentinel-1 scene whose truth is known, read with and without a DEM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from catalog.archives.items import Asset, Scene
from catalog.errors import SceneReadError
from catalog.grid import Lattice, lattice_for
from catalog.pixels.scene import probe, source_window
from catalog.sentinel1.terrain import (
    EARTH_RADIUS_M,
    REACH_PX,
    layover_or_shadow,
    range_shift,
)
from tests.support.grd import (
    LATITUDE,
    LONGITUDE,
    M_PER_DEGREE,
    Radar,
    flat,
    lonlat_of,
    mountains,
    plateau,
    region,
    write_dem,
    write_grd,
)
from tests.support.grd_annotations import write_annotation
from tests.support.scenes import noise, read_window, scene

Floats = NDArray[np.float64]
MARGIN_PX = 150


class Made:
    """A full-size scene over a relief, written where a lattice of 6 km needs it.

    Its two bands hold the column and the row of each pixel, so that a value tells where it is from.
    """

    def __init__(
        self,
        folder: Path,
        relief: Callable[[Floats, Floats], Floats],
        half_km: float = 3,
        heading_deg: float = 348.0,
    ):
        self.radar = Radar(relief, heading_deg=heading_deg)
        self.lattice: Lattice = lattice_for(region(half_km))
        lonlat = lonlat_of(self.lattice, self.lattice.window.positions())
        self.height_m = relief(*lonlat)
        self.truth = self.radar.image_xy(*lonlat, self.height_m) - 0.5
        low, high = self.truth.min(axis=(1, 2)), self.truth.max(axis=(1, 2))
        x0, y0 = (np.floor(low) - MARGIN_PX).astype(int).tolist()
        x1, y1 = (np.ceil(high) + MARGIN_PX).astype(int).tolist()
        self.corner = (x0, y0)
        counted = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1))) + 1
        self.path = write_grd(
            folder / "grd.tif", self.radar, counted.astype(np.uint16), self.corner
        )
        self.annotation = write_annotation(folder / "annotation.xml", self.radar)
        dem = write_dem(folder / "dem.tif", relief, region(half_km + 3))
        tile = Asset("data", str(dem), ("elevation",))
        self.dem = scene("dem", region(half_km + 3), assets=(tile,))

    def scene(self, terrain: Sequence[Scene] = (), annotated: bool = True, **fields: Any) -> Scene:
        annotation = str(self.annotation) if annotated else None
        asset = Asset("vv", str(self.path), ("vv", "vh"), annotation=annotation)
        return scene("S1", region(5), assets=(asset,), terrain=tuple(terrain), **fields)

    def error_px(self, found: Scene) -> Floats:
        """(2, H, W): where `source_window` goes, less where the ground shows in truth."""
        part = source_window(found, self.lattice, self.lattice.window.positions())
        assert part is not None
        values, source_xy = part
        first = values[:, 0, 0].astype(float) - 1
        return source_xy + first.reshape(2, 1, 1) - self.truth


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("plain"), flat)


@pytest.fixture(scope="module")
def alps(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("alps"), mountains, half_km=4.5)


def told(name: str, error: Floats) -> Floats:
    length = np.hypot(*error)
    print(f"\n{name}: median {np.nanmedian(length):.3f} px, worst {np.nanmax(length):.3f} px")
    return length


@pytest.mark.parametrize(
    ("with_dem", "annotated", "worst_px"),
    [(False, True, 0.05), (True, True, 0.05), (False, False, 0.3), (True, False, 0.3)],
)
def test_flat_ground_lies_where_it_should(
    plain: Made, with_dem: bool, annotated: bool, worst_px: float
) -> None:
    """By orbit and ranges, and by the control points of a file alone."""
    error = plain.error_px(plain.scene([plain.dem] if with_dem else [], annotated))
    length = told(f"flat ground, DEM: {with_dem}, annotation: {annotated}", error)
    assert not np.isnan(length).any()
    assert length.max() <= worst_px


def test_relief_is_taken_out_by_the_dem(alps: Made) -> None:
    relief_m = float(np.ptp(alps.height_m))
    assert relief_m > 1500
    without = told(f"relief of {relief_m:.0f} m, no DEM", alps.error_px(alps.scene()))
    assert np.median(without) > 20
    corrected = told(f"relief of {relief_m:.0f} m, DEM", alps.error_px(alps.scene([alps.dem])))
    assert not np.isnan(corrected).any()
    assert corrected.max() <= 0.1
    # Without the annotation, from the usual orbit.
    nominal = alps.error_px(alps.scene([alps.dem], annotated=False))
    assert told("the same, nominal incidence", nominal).max() <= 1.5


def test_read_scene_and_source_window_put_pixels_in_the_same_place(alps: Made) -> None:
    for found in (alps.scene(), alps.scene([alps.dem])):
        error = alps.error_px(found)
        whole = read_window([found], alps.lattice, alps.lattice.window, ("vv", "vh"))
        assert np.abs(whole - 1 - (alps.truth + error)).max() < 0.01
        window = alps.lattice.tiles(300)[4]
        part = read_window([found], alps.lattice, window, ("vh", "vv"))
        assert np.abs(part[::-1] - whole[(slice(None), *window.slices)]).max() < 0.02


def test_layover_is_no_data(tmp_path: Path) -> None:
    """A cliff of 45 degrees faces a sensor that looks down at 39: it shows upside down."""
    cliff = Made(tmp_path, plateau(400))
    assert np.isfinite(cliff.error_px(cliff.scene())).all()
    error = cliff.error_px(cliff.scene([cliff.dem]))
    seen = np.isfinite(error[0])
    slope = np.gradient(cliff.height_m, 10.0, axis=1)
    assert not seen[slope > 0.95].any()
    assert seen[:, :200].all()
    assert seen[:, -200:].all()
    told("beside a cliff", error)
    # At the edges of the cliff the DEM's pixels smooth it.
    far = np.abs(np.arange(seen.shape[1]) - seen.shape[1] / 2) > 60
    assert np.nanmax(np.hypot(*error)[:, far]) <= 1.0


def test_shadow_is_no_data_as_far_as_it_falls(tmp_path: Path) -> None:
    """Behind a cliff of 700 m, 60 degrees steep, which no ray at 39 degrees reaches."""
    cliff = Made(tmp_path, plateau(700), heading_deg=192.0)
    seen = np.isfinite(cliff.error_px(cliff.scene([cliff.dem]))[0])
    longitude, _ = lonlat_of(cliff.lattice, cliff.lattice.window.positions())
    east_m = (longitude - LONGITUDE) * M_PER_DEGREE * np.cos(np.radians(LATITUDE))
    ends = 400 - 700 * np.tan(np.radians(39))
    assert not seen[(ends + 30 < east_m) & (east_m < 350)].any()
    assert seen[east_m < ends - 30].all()
    assert seen[east_m > 450].all()


@given(
    st.lists(st.floats(0, 900), min_size=30, max_size=60),
    st.floats(25, 47),
    st.integers(0, 3),
    st.integers(3, 12),
)
def test_what_is_hidden_is_what_comparing_each_with_each_finds(
    heights: list[float], angle_deg: float, quarter_turns: int, rows: int
) -> None:
    height = np.array(heights)
    away, altitude = 600e3 * np.tan(np.radians(angle_deg)), 600e3
    ground = away + 10.0 * np.arange(len(height))
    distance = np.hypot(ground, altitude - height) / 10
    angle = np.arctan2(ground, altitude - height)
    hidden = [
        (distance[:n] > distance[n]).any()
        or (distance[n + 1 :] < distance[n]).any()
        or (angle[:n] > angle[n]).any()
        for n in range(len(height))
    ]
    image = [np.tile(each, (rows, 1)) for each in (distance, angle)]
    row = np.tile(np.arange(rows)[:, None] + 0.0, (1, len(height)))
    turned = (np.rot90(each, quarter_turns) for each in (row, *image))
    found = np.rot90(layover_or_shadow(*turned), -quarter_turns)
    # What differs by less than can be told may be called either.
    close = np.abs(np.subtract.outer(distance, distance)) < 1e-2
    close |= np.abs(np.subtract.outer(angle, angle)) < 1e-6
    clear = close.sum(axis=1) == 1
    assert (found == np.array(hidden))[:, clear].all()


def test_ground_is_hidden_by_no_more_than_what_lies_in_reach() -> None:
    """So that windows which overlap agree on what both hold."""
    rng = np.random.default_rng(4)
    shape = 90, 700
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.0
    row, flat_range = y + 0.2 * x, x - 0.2 * y
    relief = gaussian_filter(rng.normal(0, 1, shape), 6) * 160
    whole = layover_or_shadow(row, flat_range - relief, flat_range * 1e-5 + relief * 1e-5)
    assert 0.05 < whole.mean() < 0.95
    part = np.s_[:, 150:650]
    cut = layover_or_shadow(
        row[part], (flat_range - relief)[part], (flat_range * 1e-5 + relief * 1e-5)[part]
    )
    inner = np.s_[20:-20, REACH_PX + 20 : -REACH_PX - 20]
    # Both sample the relief between pixels, each where its own frame lies.
    assert (cut[inner] == whole[part][inner]).mean() > 0.95


def test_shift_is_height_over_tangent_at_first_and_exact_after() -> None:
    rise, angle = np.array([-1500.0, -1.0, 0.0, 1.0, 1500.0]), np.full(5, 31.0)
    shift = range_shift(rise, angle, np.full(5, 800_000.0))
    plain = rise / np.tan(np.radians(31))
    assert np.abs(shift[1:4] - plain[1:4]).max() < 0.002
    assert 4 < np.abs(shift - plain).max() < 6
    assert (np.diff(shift) > 0).all()


@given(st.floats(-3_000, 5_000), st.floats(25, 47), st.floats(750e3, 1_000e3))
def test_raised_ground_is_as_far_as_the_place_where_it_shows(
    rise: float, angle_deg: float, distance: float
) -> None:
    angle = np.radians(angle_deg)
    sensor = distance * np.array([-np.sin(angle), np.cos(angle)])
    shift = float(range_shift(np.array(rise), np.array(angle_deg), np.array(distance)))
    turn = shift / EARTH_RADIUS_M
    shows = EARTH_RADIUS_M * np.array([-np.sin(turn), np.cos(turn) - 1])
    raised = np.array([0.0, rise])
    apart = np.linalg.norm(sensor - raised) - np.linalg.norm(sensor - shows)
    assert abs(apart) < 0.05


def test_what_is_missing_for_terrain_is_told_while_planning(alps: Made, tmp_path: Path) -> None:
    probe(alps.scene([alps.dem]))
    small = Radar(flat, shape=(600, 600), points=(3, 3))
    path = write_grd(tmp_path / "cut.tif", small, noise((1, 600, 600)))
    cut = Asset("vv", str(path), ("vv",))
    probe(scene("cut", region(3), assets=(cut,)))
    with pytest.raises(SceneReadError, match="no product annotation") as caught:
        probe(scene("cut", region(3), assets=(cut,), terrain=(alps.dem,)))
    assert caught.value.scene_id == "cut"
    lost = Asset("vv", str(path), ("vv",), annotation=str(tmp_path / "none.xml"))
    with pytest.raises(SceneReadError, match=r"scene cut: .*none\.xml is not there"):
        probe(scene("cut", region(3), assets=(lost,), terrain=(alps.dem,)))
    gone = scene("dem", region(6), assets=(Asset("data", "/no/dem.tif", ("elevation",)),))
    with pytest.raises(SceneReadError, match=r"/no/dem\.tif"):
        probe(alps.scene([gone]))
    with pytest.raises(SceneReadError, match=r"scene S1: its terrain, .*/no/dem\.tif") as caught:
        alps.error_px(alps.scene([gone]))
    assert caught.value.scene_id == "S1"


def test_ground_without_a_dem_tile_is_sea(plain: Made) -> None:
    """Copernicus leaves out tiles of open sea."""
    elsewhere = scene("dem", (0, 0, 1, 1), assets=plain.dem.assets)
    error = plain.error_px(plain.scene([elsewhere]))
    expected = -(0.0 - 412.0) / np.tan(np.radians(39)) / 10
    assert np.abs(np.median(error[0]) - expected) < 2
