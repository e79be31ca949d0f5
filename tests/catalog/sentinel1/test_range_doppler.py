"""Range-Doppler of real Sentinel-1 annotations, against one worked out anew from the same XML.

Nothing is shared with it: the orbit is one polynomial of degree eight a coordinate, zero Doppler
and ground range are found by bracketing, place by place, ellipsoidal coordinates by hand.
"""

from __future__ import annotations

import zipfile
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.polynomial import Polynomial
from numpy.typing import NDArray
from scipy.optimize import brentq

from catalog.archives.providers import Access
from catalog.grid import Lattice, Window, lattice_for
from catalog.pixels.relief import (
    radar_from_lattice,
    range_doppler_from_lattice,
    view_by_range_doppler,
)
from catalog.sentinel1.annotation import AnnotationError
from catalog.sentinel1.geoid import no_undulation
from catalog.sentinel1.range_doppler import RangeDoppler, range_doppler_of
from tests.support.grd import Radar, ecef, flat, lonlat_of
from tests.support.grd_annotations import LIGHT_M_PER_S, write_annotation
from tests.support.scenes import REAL_PRODUCTS, require_products

Floats = NDArray[np.float64]
NAMES = (
    "S1A_IW_GRDH_1SDV_20150222T170725_20150222T170750_004739_005DD8_CEAB.zip",
    "S1A_IW_GRDH_1SDV_20150222T170750_20150222T170815_004739_005DD8_3768.zip",
    "S1A_IW_GRDH_1SDV_20210119T031653_20210119T031718_036201_043ED0_8255.zip",
    "S1B_IW_GRDH_1SDV_20211223T051122_20211223T051147_030148_039993_5371.SAFE",
)
WORST_PX = 0.1


def annotation_of(name: str, folder: Path) -> Path:
    """The annotation of the VV image of a real product, unpacked."""
    if name.endswith(".SAFE"):
        return next((REAL_PRODUCTS / name / "annotation").glob("*-vv-*.xml"))
    with zipfile.ZipFile(REAL_PRODUCTS / name) as product:
        inside = next(n for n in product.namelist() if "/annotation/s1" in n and "-vv-" in n)
        path = folder / f"{name}.xml"
        path.write_bytes(product.read(inside))
        return path


class Anew:
    """The same image, from its XML, slowly."""

    def __init__(self, path: Path):
        self.root = ElementTree.parse(path).getroot()
        self.first = np.datetime64(self._text("productFirstLineUtcTime"), "ns")
        self.line_s = float(self._text("azimuthTimeInterval"))
        self.spacing_m = float(self._text("rangePixelSpacing"))
        self.shape = int(self._text("numberOfLines")), int(self._text("numberOfSamples"))
        states = self.root.findall(".//orbit")
        at = np.array([self._seconds(state) for state in states])
        self.orbit = [
            Polynomial.fit(at, [float(s.findtext(f"position/{axis}", "")) for s in states], 8)
            for axis in "xyz"
        ]
        self.velocity = [axis.deriv() for axis in self.orbit]
        self.conversions = [
            (self._seconds(each, "azimuthTime"), Polynomial(
                [float(n) for n in each.findtext("grsrCoefficients", "").split()]
            ))
            for each in self.root.iterfind(".//coordinateConversionList/coordinateConversion")
        ]  # fmt: skip

    def _text(self, name: str) -> str:
        return self.root.findtext(f".//{name}", "")

    def _seconds(self, of: ElementTree.Element, name: str = "time") -> float:
        told = np.datetime64(of.findtext(name, ""), "ns")
        return float((told - self.first) / np.timedelta64(1, "ns")) * 1e-9

    def image_xy(self, longitude: float, latitude: float, height_m: float) -> tuple[float, float]:
        """Column and row, pixel centres at integers."""
        place = ecef(np.array(longitude), np.array(latitude), np.array(height_m))

        def ahead(seconds: float) -> float:
            satellite = np.array([axis(seconds) for axis in self.orbit])
            return float((place - satellite) @ [axis(seconds) for axis in self.velocity])

        seconds = brentq(ahead, -20.0, 45.0, xtol=1e-10)
        distance = np.linalg.norm(place - [axis(seconds) for axis in self.orbit])
        _, to_slant = min(self.conversions, key=lambda each: abs(each[0] - seconds))
        ground_m = brentq(lambda g: to_slant(g) - distance, -4_000, self.shape[1] * 10 + 4_000)
        return ground_m / self.spacing_m, seconds / self.line_s

    @cached_property
    def grid(self) -> dict[str, Floats]:
        """The geolocation grid: of each point its numbers, by name, (N,)."""
        points = self.root.findall(".//geolocationGridPoint")
        names = ("line", "pixel", "latitude", "longitude", "height", "slantRangeTime")
        return {name: np.array([float(p.findtext(name, "")) for p in points]) for name in names}


@pytest.fixture(scope="module", params=NAMES, ids=lambda name: name[17:32])
def real(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RangeDoppler, Anew]:
    require_products()
    path = annotation_of(request.param, tmp_path_factory.mktemp("annotation"))
    return range_doppler_of(str(path), Access()), Anew(path)


def places(anew: Anew, count: int, seed: int) -> tuple[Floats, Floats, Floats]:
    """Longitude, latitude and height of random places in the image, up to the summits of Earth."""
    rng = np.random.default_rng(seed)
    grid = anew.grid
    columns = len(np.unique(grid["pixel"]))
    rows = len(grid["pixel"]) // columns
    first = rng.integers(0, rows - 1, count) * columns + rng.integers(0, columns - 1, count)
    right, down = rng.random((2, count))
    weights = ((1 - right) * (1 - down), right * (1 - down), (1 - right) * down, right * down)
    corners = (first, first + 1, first + columns, first + columns + 1)
    longitude, latitude = (
        sum(weight * grid[name][at] for weight, at in zip(weights, corners, strict=True))
        for name in ("longitude", "latitude")
    )
    return longitude, latitude, rng.uniform(-400, 4_800, count)


def test_places_show_where_orbit_and_ranges_say(real: tuple[RangeDoppler, Anew]) -> None:
    geometry, anew = real
    at = places(anew, 150, seed=7)
    lines, slant_range, _ = geometry.view(*at)
    found = np.stack([geometry.columns(lines, slant_range), lines])
    expected = np.array([anew.image_xy(*place) for place in zip(*at, strict=True)]).T
    error = np.hypot(*(found - expected))
    print(f"\nreal annotation: median {np.median(error):.4f} px, worst {error.max():.4f} px")
    assert error.max() <= WORST_PX


def test_the_geolocation_grid_has_the_same_ranges(real: tuple[RangeDoppler, Anew]) -> None:
    """Of which the product's own numbers decide that the nearest conversion counts, and its way
    from ground to slant. The grid's lines are other ones: see the module."""
    geometry, anew = real
    grid = anew.grid
    columns = geometry.columns(grid["line"], grid["slantRangeTime"] * LIGHT_M_PER_S / 2)
    # Products of 2015 end without the conversion of their last line.
    covered = grid["line"] * anew.line_s < anew.conversions[-1][0] + 0.5
    assert covered.sum() >= 189
    assert np.abs(columns - grid["pixel"])[covered].max() < 0.01
    lines, slant_range, _ = geometry.view(grid["longitude"], grid["latitude"], grid["height"])
    error = np.stack([geometry.columns(lines, slant_range) - grid["pixel"], lines - grid["line"]])
    agree = np.hypot(*error) <= WORST_PX
    print(f"\n{agree.sum()} of {agree.size} points agree to {WORST_PX} px; along azimuth "
          f"{error[1].min():.3f} to {error[1].max():.3f}")  # fmt: skip
    assert (np.abs(error[:, covered]) <= [[0.02], [0.5]]).all()


def rough(longitude: Floats, latitude: Floats) -> Floats:
    """Relief of 1200 m, nowhere steep enough to be hidden."""
    return 900 + 600 * np.sin(longitude * 40) * np.sin(latitude * 50)


def around(anew: Anew, index: int) -> Lattice:
    """A region of 12 km around a point of the geolocation grid."""
    x, y = anew.grid["longitude"][index], anew.grid["latitude"][index]
    return lattice_for((x - 0.08, y - 0.055, x + 0.08, y + 0.055))


@pytest.mark.parametrize("index", [24, 182])
def test_windows_of_a_lattice_are_interpolated_as_exactly(
    real: tuple[RangeDoppler, Anew], index: int
) -> None:
    """With a DEM, and without one at the heights that the annotation tells."""
    geometry, anew = real
    lattice = around(anew, index)
    window = Window(300, 350, 150, 200)
    some = np.random.default_rng(index).integers(0, window.shape, (40, 2)).T
    lonlat = lonlat_of(lattice, window.positions())
    view = view_by_range_doppler(lattice, geometry, no_undulation)
    worst = {}
    for name, height, found in (
        (
            "DEM",
            rough(*lonlat),
            radar_from_lattice(
                view,
                lambda part: rough(*lonlat_of(lattice, part.positions())).astype(np.float32),
                window.positions(),
            ),
        ),
        (
            "no DEM",
            geometry.heights(*lonlat),
            range_doppler_from_lattice(lattice, geometry, window.positions()),
        ),
    ):
        at = (*lonlat[:, *some], height[*some])
        expected = np.array([anew.image_xy(*place) for place in zip(*at, strict=True)]).T
        worst[name] = np.hypot(*(found[:, *some] - expected)).max()
    print(f"\nin a window: {worst}")
    assert max(worst.values()) <= WORST_PX


def test_heights_between_points_are_those_of_the_annotation(
    real: tuple[RangeDoppler, Anew],
) -> None:
    geometry, anew = real
    grid = anew.grid
    assert np.abs(geometry.heights(grid["longitude"], grid["latitude"]) - grid["height"]).max() < 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("grsrCoefficients", "other", "has no <grsrCoefficients>"),
        ("<numberOfLines>600", "<numberOfLines>many", "invalid literal"),
        ("<numberOfLines>600", "<numberOfLines>0", "0 lines of"),
        ("<orbit>", "<other>", "in no order of time or too few"),
        ("geolocationGridPoint>", "other>", "0 points of a geolocation grid"),
        ("<x>", "<x>inf", "is no product annotation"),
        ("<gr0>0.0", "<gr0>nan", "not all of its numbers are finite"),
    ],
)
def test_a_broken_annotation_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = write_annotation(tmp_path / "iw-vv.xml", Radar(flat, shape=(600, 600), points=(3, 3)))
    text = path.read_text()
    assert old in text
    broken = text.replace(old, new).replace(old.replace("<", "</"), new.replace("<", "</"))
    path.write_text(broken)
    with pytest.raises(AnnotationError, match=says) as caught:
        range_doppler_of(str(path), Access())
    assert str(path) in str(caught.value)
