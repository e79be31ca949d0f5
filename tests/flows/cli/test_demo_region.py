"""The drawn region: its files are what they claim."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pystac
import rasterio
from rasterio.warp import transform_bounds

from flows.cli.demo_region import DemoRegion, write_region


def test_scenes_are_where_their_items_say(small_region: DemoRegion) -> None:
    items = json.loads(small_region.catalog.read_text())["features"]
    assert len(items) == 5
    for item in items:
        pystac.Item.from_dict(item)
        (asset,) = item["assets"].values()
        with rasterio.open(small_region.catalog.parent / asset["href"]) as raster:
            assert raster.crs.to_string() == item["properties"]["proj:code"]
            assert raster.nodata == 0
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            bounds = transform_bounds(raster.crs, "EPSG:4326", *raster.bounds)
        # The item's box goes through the corners, the other also through the bent edges.
        assert np.allclose(bounds, item["bbox"], atol=2e-5)


def test_the_region_lies_inside_its_truth(small_region: DemoRegion) -> None:
    with rasterio.open(small_region.truth) as truth:
        assert truth.count == 2
        left, bottom, right, top = transform_bounds("EPSG:4326", truth.crs, *small_region.bbox)
        assert truth.bounds.left <= left < right <= truth.bounds.right
        assert truth.bounds.bottom <= bottom < top <= truth.bounds.top


def test_a_region_written_twice_gives_the_same_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_region(tmp_path / name, size_px=96, seed=1)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
