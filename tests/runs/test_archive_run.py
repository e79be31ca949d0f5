"""A region from an archive with everything that archives have: offsets, clouds, broken scenes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from distributed import Client
from numpy.typing import NDArray
from shapely.geometry import box, mapping, shape

import catalog
from catalog.store.schema import QUALITY
from flows.cli.demo_region import DemoRegion
from flows.plan.plan import plan_region
from flows.plan.request import RegionRequest
from flows.register_region import register_region
from flows.report.schema import Report
from tests.support.archives import CONVENTIONS, write_scene

BANDS = ("red", "green", "blue", "nir")
CLOUD = QUALITY.index("cloud")


@dataclass(frozen=True)
class Granule:
    """What was written of one granule."""

    reflectance: NDArray[np.float64]
    classes: NDArray[np.uint8]
    corner: tuple[float, float]
    item: dict[str, Any]


def granule(folder: Path, drawn: Path, name: str, seed: int) -> Granule:
    """A drawn optical scene as Earth Search has it, with 4 bands and more than 30 % of cloud."""
    with rasterio.open(drawn) as source:
        height, width = source.height // 2 * 2, source.width // 2 * 2
        image = source.read()[:, :height, :width]
        corner = source.transform.c, source.transform.f
    # Whole ten-thousandths, no darker than 0.01.
    reflectance = np.rint(100 + np.concatenate([image, image[:1]]) * 6.0) / 10_000
    classes = np.full((height, width), 4, np.uint8)
    random = np.random.default_rng(seed)
    while np.isin(classes, (8, 9)).mean() < 0.32:
        y, x = random.integers(0, height // 2, 1)[0] * 2, random.integers(0, width // 2, 1)[0] * 2
        side = 2 * random.integers(20, 40)
        classes[y : y + side, x : x + side] = random.choice((8, 9))
    cloudy = np.isin(classes, (8, 9))
    white = random.integers(6000, 9000, reflectance.shape) / 10_000
    reflectance = np.where(cloudy, white, reflectance)
    item = write_scene(
        folder, CONVENTIONS["earth search, applied"], dict(zip(BANDS, reflectance, strict=True)),
        classes, name=name, corner=corner,
    )  # fmt: skip
    return Granule(reflectance, classes, corner, item)


@dataclass(frozen=True)
class Archive:
    """A catalogue with two sound granules, and four items that something is wrong with."""

    request: RegionRequest
    granules: tuple[Granule, Granule]
    ids: dict[str, str]


@pytest.fixture(scope="module")
def archive(small_region: DemoRegion, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("archive")
    scenes = small_region.catalog.parent
    drawn = json.loads(small_region.catalog.read_text())["features"]
    west = granule(folder, scenes / "S2-DEMO-WEST.tif", "T32TMS", 1)
    east = granule(folder, scenes / "S2-DEMO-EAST.tif", "T32TNS", 2)

    def like_west(name: str, convention: str, empty: float = 0.0, **options: Any) -> dict[str, Any]:
        values = np.full((4, 240, 240), 0.03)
        values[:, : int(240 * empty)] = np.nan
        bands = dict(zip(BANDS, values, strict=True))
        return write_scene(
            folder, CONVENTIONS[convention], bands, name=name, corner=west.corner, **options
        )

    # Minutes apart, or they would be one scene processed three times.
    minute = "2024-06-12T10:{}:59Z"
    doubly = like_west("T32TMA", "earth search, not applied", added=0, datetime=minute.format(12))
    bordered = like_west("T32TMB", "earth search, applied", 0.8, datetime=minute.format(14))
    truncated = like_west("T32TMC", "earth search, applied", datetime=minute.format(18))
    red = Path(truncated["assets"]["red"]["href"])
    red.write_bytes(red.read_bytes()[: red.stat().st_size // 2])
    misplaced = shape(east.item["geometry"]).bounds
    east.item["geometry"] = mapping(
        box(misplaced[0] + 0.028, misplaced[1], misplaced[2] + 0.028, misplaced[3])
    )

    sar = [item for item in drawn if item["collection"] == "demo-sar"]
    for item in sar:
        (asset,) = item["assets"].values()
        asset["href"] = str(scenes / asset["href"])
    items = [west.item, east.item, doubly, bordered, truncated, *sar]
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    request = RegionRequest.of(
        provider="earth-search",
        catalog=str(folder / "items.json"),
        optical="sentinel-2-l2a",
        sar="demo-sar",
        bbox=small_region.bbox,
        start=small_region.start,
        end=small_region.end,
        store=str(folder / "store"),
    )
    ids = {"west": west.item["id"], "east": east.item["id"], "doubly": doubly["id"],
           "bordered": bordered["id"], "truncated": truncated["id"]}  # fmt: skip
    return Archive(request, (west, east), ids)


@pytest.fixture(scope="module")
def report(archive: Archive, client: Client) -> Report:
    request = archive.request.model_copy(update={"scheduler": client.scheduler.address})
    return register_region(request).report


def test_the_run_completes_and_names_what_it_left_out(archive: Archive, report: Report) -> None:
    assert report.status == "registered"
    reasons = {left.scene: left.reason for left in report.unpaired}
    assert reasons.keys() == {archive.ids[name] for name in ("doubly", "bordered", "truncated")}
    assert "is excluded: 100% of its reflectances in red" in reasons[archive.ids["doubly"]]
    assert "show all of its ground" in reasons[archive.ids["bordered"]]  # where it has data
    assert "cannot be read" in reasons[archive.ids["truncated"]]
    assert len(report.pairs) == 4
    assert all(pair.accepted for pair in report.pairs), report.pairs


def test_a_geometry_that_contradicts_its_raster_is_warned_of_and_overruled(
    archive: Archive, report: Report
) -> None:
    told = {warned.scene: warned.warning for warned in report.warnings}
    assert told.keys() == {archive.ids["east"], archive.ids["bordered"]}
    assert "the raster is believed" in told[archive.ids["east"]]
    assert "80% of its item's geometry is zero or no data" in told[archive.ids["bordered"]]


def test_the_mosaic_shows_the_clearest_granule_and_says_where_there_is_only_cloud(
    archive: Archive, report: Report
) -> None:
    mosaic = catalog.open_mosaic(report.mosaic).isel(time=0).load()
    expected = np.full((4, *mosaic["quality"].shape), np.nan)
    hides = np.full(mosaic["quality"].shape, 9)
    rank = {4: 0, 8: 1, 9: 2}
    left, top = mosaic.x.values[0] - 5, mosaic.y.values[0] + 5
    for each in archive.granules:  # of one pass: both cover the same share, so by their names
        column, row = round((left - each.corner[0]) / 10), round((each.corner[1] - top) / 10)
        for y in range(hides.shape[0]):
            for x in range(hides.shape[1]):
                r, c = y + row, x + column
                if 0 <= r < each.classes.shape[0] and 0 <= c < each.classes.shape[1]:
                    level = rank[int(each.classes[r, c])]
                    if level < hides[y, x]:
                        hides[y, x], expected[:, y, x] = level, each.reflectance[:, r, c]
    cloudy = np.isin(hides, (1, 2))
    assert cloudy.mean() > 0.2
    assert np.array_equal(mosaic["quality"].values == CLOUD, cloudy)
    meanings = mosaic["optical_class"].attrs["flag_meanings"].split()
    told = np.array(meanings)[mosaic["optical_class"].values]
    assert np.array_equal(told == "likely_cloud", hides == 1)
    assert np.array_equal(told == "cloud", hides == 2)
    assert np.array_equal(told == "ground", hides == 0)
    shown = np.stack([mosaic[band].values for band in BANDS])
    assert np.array_equal(np.isnan(shown), np.isnan(expected))
    both = np.isfinite(expected)
    # In the overlap, equally clear granules show the same ground.
    assert np.abs(shown - expected)[both & ~cloudy].max() <= 1e-6
    assert float(np.isfinite(mosaic["vh"].values[cloudy]).mean()) > 0.9  # radar sees through


def test_the_provider_and_its_rules_are_part_of_the_generations_name(archive: Archive) -> None:
    def name(**changes: Any) -> str:
        values = archive.request.model_dump() | changes
        (slot,) = plan_region(RegionRequest.of(**values), "0" * 64).slots
        return slot.generation

    assert len({name(), name(bands=("red", "nir")), name(bands=("nir", "red"))}) == 3
    assert name() == name()
