"""Heights above the geoid: told apart from those above the ellipsoid where PROJ has a grid."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyproj
import pytest
from numpy.typing import NDArray

from catalog.archives.items import Asset
from catalog.errors import SceneReadError
from catalog.grid import lattice_for
from catalog.pixels.scene import odd_heights, probe, source_window
from catalog.sentinel1 import geoid
from tests.support.grd import (
    LATITUDE,
    LONGITUDE,
    Radar,
    flat,
    lonlat_of,
    region,
    write_dem,
    write_grd,
)
from tests.support.grd_annotations import write_annotation
from tests.support.scenes import scene

Floats = NDArray[np.float64]
SMALL = Radar(flat, shape=(700, 900), points=(5, 6))


def undulation(longitude: Floats, latitude: Floats) -> Floats:
    """Of the geoid in the grid that is made here, metres."""
    return 45 + 0.4 * (longitude - LONGITUDE) - 0.3 * (latitude - LATITUDE)


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[None]:
    """PROJ with a grid of EGM2008, in NOAA's VDatum form (GTX)."""
    latitude, longitude = np.arange(40, 55, 0.5), np.arange(0, 20, 0.5)
    heights = undulation(*np.meshgrid(longitude, latitude)).astype(">f4")
    frame = struct.pack(">ddddii", 40, 0, 0.5, 0.5, len(latitude), len(longitude))
    (tmp_path / "egm08_25.gtx").write_bytes(frame + heights.tobytes())
    before = pyproj.datadir.get_data_dir()
    pyproj.datadir.append_data_dir(str(tmp_path))
    geoid._to_ellipsoid.cache_clear()
    yield
    pyproj.datadir.set_data_dir(before)
    geoid._to_ellipsoid.cache_clear()


def column_error(tmp_path: Path) -> float:
    """Mean of columns where flat ground is looked for less where it shows.

    Its DEM counts from a geoid 45 m above the ellipsoid. Its pixels tell where they are from.
    """
    counted = np.stack(np.meshgrid(np.arange(SMALL.shape[1]), np.arange(SMALL.shape[0]))) + 1
    grd = write_grd(tmp_path / "vv.tif", SMALL, counted.astype(np.uint16))
    annotation = write_annotation(tmp_path / "p.xml", SMALL)
    dem = write_dem(tmp_path / "dem.tif", lambda x, y: flat(x, y) - undulation(x, y), region(6))
    tile = scene("dem", region(6), assets=(Asset("data", str(dem), ("elevation",)),))
    asset = Asset("vv", str(grd), ("vv", "vh"), annotation=str(annotation))
    found = probe(scene("S1", region(5), assets=(asset,), terrain=(tile,)))
    known = geoid.undulation_of(geoid.EGM2008) is not None
    assert found.geoid == (geoid.EGM2008 if known else None)
    assert odd_heights(found) == (None if known else geoid.UNKNOWN)
    lattice = lattice_for(region(1.5))
    part = source_window(found, lattice, lattice.window.positions())
    assert part is not None
    values, xy = part
    lonlat = lonlat_of(lattice, lattice.window.positions())
    first = values[:, 0, 0].reshape(2, 1, 1).astype(np.float64) - 1
    error = xy + first - (SMALL.image_xy(*lonlat, flat(*lonlat)) - 0.5)
    assert np.abs(error[1]).max() < 0.05
    return float(error[0].mean())


@pytest.mark.usefixtures("grid")
def test_with_a_grid_of_the_geoid_ground_shows_where_it_should(tmp_path: Path) -> None:
    assert abs(column_error(tmp_path)) < 0.02
    known = geoid.undulation_of(geoid.EGM2008)
    assert known is not None
    place = np.array([LONGITUDE]), np.array([LATITUDE])
    np.testing.assert_allclose(known(*place), undulation(*place), atol=1e-3)


def test_without_one_the_shift_stays_and_is_told(tmp_path: Path) -> None:
    if geoid.undulation_of(geoid.EGM2008) is not None:
        pytest.skip("PROJ has a grid of EGM2008 here")
    assert column_error(tmp_path) == pytest.approx(4.5 / np.tan(np.radians(39)), abs=0.1)


def test_a_grid_that_planning_had_and_a_worker_lacks_is_missed(tmp_path: Path) -> None:
    tile = write_dem(tmp_path / "dem.tif", flat, region(6))
    if geoid.undulation_of(geoid.EGM2008) is not None:
        pytest.skip("PROJ has a grid of EGM2008 here")
    dem = scene("dem", region(6), assets=(Asset("data", str(tile), ("elevation",)),))
    grd = write_grd(tmp_path / "vv.tif", SMALL, np.full((1, *SMALL.shape), 50, np.uint16))
    annotation = str(write_annotation(tmp_path / "p.xml", SMALL))
    asset = Asset("vv", str(grd), ("vv",), annotation=annotation)
    planned = scene("S1", region(5), assets=(asset,), terrain=(dem,), geoid=geoid.EGM2008)
    lattice = lattice_for(region(1.5))
    with pytest.raises(SceneReadError, match="PROJ has no grid of EPSG:3855 here"):
        source_window(planned, lattice, lattice.window.positions())


@pytest.mark.parametrize(
    ("crs", "vertical"),
    [
        ("EPSG:4326", geoid.EGM2008),
        ("EPSG:32632", geoid.EGM2008),
        ("EPSG:9707", "EPSG:5773"),
        ("EPSG:9518", "EPSG:3855"),
        ("EPSG:4979", geoid.ELLIPSOIDAL),
    ],
)
def test_files_say_what_their_heights_are_above(crs: str, vertical: str) -> None:
    assert geoid.vertical_of(pyproj.CRS(crs)) == vertical


def test_heights_above_the_ellipsoid_stay_as_they_are() -> None:
    known = geoid.undulation_of(geoid.ELLIPSOIDAL)
    assert known is not None
    assert known(np.array([10.0]), np.array([46.0])).tolist() == [0]
    assert geoid.undulation_of("EPSG:0") is None
