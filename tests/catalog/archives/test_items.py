"""One STAC item as a scene: its bands however they are named, its numbers, its place and time."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from catalog.archives.items import Scene, scene_from_item
from catalog.errors import SearchError
from tests.support.scenes import NOON, item, scene

API = "http://127.0.0.1:9/stac"


def parse(**changes: Any) -> Scene:
    return scene_from_item({**item("x", "/data/x.tif"), **changes}, API)


def test_bands_by_every_way_items_name_them() -> None:
    tiff = {"type": "image/tiff; application=geotiff; profile=cloud-optimized", "roles": ["data"]}
    cases: list[tuple[dict[str, Any], tuple[str, ...]]] = [
        ({"B04": tiff, "B02": tiff, "SCL": tiff}, ("red", "blue")),
        ({"red": tiff, "nir": tiff, "green": tiff}, ("red", "green", "nir")),
        ({"x": {**tiff, "eo:bands": [{"name": "B8", "common_name": "nir"}]}}, ("nir",)),
        ({"x": {**tiff, "bands": [{"name": "B04", "eo:common_name": "red"}]}}, ("red",)),
        ({"VV": tiff, "vh": tiff}, ("vv", "vh")),
        ({"visual": tiff, "red": tiff, "nir": tiff}, ("red", "green", "blue")),
        ({"x": {**tiff, "sar:polarizations": ["HH"]}}, ("hh",)),
    ]
    for assets, bands in cases:
        placed = {key: {**asset, "href": f"/data/{key}.tif"} for key, asset in assets.items()}
        assert parse(assets=placed).bands == bands


def test_nodata_and_scaling_are_taken_from_the_asset() -> None:
    declared = {"href": "/x.tif", "nodata": "nan", "raster:scale": 0.5, "raster:offset": -1}
    (asset,) = parse(assets={"vv": declared}).assets
    assert asset.nodata != asset.nodata
    assert (asset.scale, asset.offset) == (0.5, -1.0)
    older = {"href": "/x.tif", "raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1}]}
    (asset,) = parse(assets={"vv": older}).assets
    assert (asset.nodata, asset.scale, asset.offset) == (0.0, 0.0001, -0.1)


def test_a_file_whose_bands_differ_in_scale_is_left_out() -> None:
    bands = [{"name": name, "raster:scale": 0.0001} for name in ("red", "green", "blue")]
    asset = {"href": "/x.tif", "bands": bands, "raster:bands": [{"nodata": 0}] * 3}
    assert parse(assets={"visual": asset}).unusable is None
    asset["bands"] = [*bands[:2], {"name": "blue", "raster:scale": 0.5}]
    assert "visual differ in scale" in str(parse(assets={"visual": asset}).unusable)


@pytest.mark.parametrize(
    ("href", "readable"),
    [
        ("/data/x.tif", True),
        ("file:///data/x.tif", True),
        ("https://example.org/x.tif?token=1", True),
        ("s3://bucket/x.tif", True),
        ("ftp://example.org/x.tif", False),
        ("/vsizip//data/x.zip/x.tif", False),
        ("NETCDF:x.tif", False),
    ],
)
def test_only_plain_addresses_are_read(href: str, readable: bool) -> None:
    found = parse(assets={"visual": {"href": href, "type": "image/tiff"}})
    assert bool(found.assets) is readable
    assert (found.unusable is None) is readable


def test_an_item_without_data_stays_with_its_reason() -> None:
    found = parse(assets={"thumbnail": {"href": "/x.png", "type": "image/png"}})
    assert found.bands == ()
    assert found.unusable is not None
    assert "thumbnail" in found.unusable


def test_relative_hrefs_follow_the_item() -> None:
    links = [{"rel": "self", "href": "https://example.org/items/x.json"}]
    found = parse(links=links, assets={"visual": {"href": "../x.tif"}})
    assert found.assets[0].href == "https://example.org/x.tif"


def test_incomplete_items_are_named() -> None:
    for changes in ({"properties": {}}, {"assets": None}, {"geometry": {"type": "Nonsense"}}):
        with pytest.raises(SearchError, match="item 'x'"):
            parse(**changes)


def test_without_geometry_or_datetime_bbox_and_start_datetime_serve() -> None:
    found = parse(geometry=None, bbox=[1, 2, 0, 3, 4, 9])
    assert found.footprint.bounds == (1, 2, 3, 4)
    times = {"datetime": None, "start_datetime": "2020-11-04T12:00:00+02:00"}
    assert parse(properties=times).datetime == datetime(2020, 11, 4, 10, tzinfo=UTC)
    bowtie = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}
    assert parse(geometry=bowtie).footprint.is_valid


def test_the_solar_day_is_the_local_one() -> None:
    late = NOON.replace(hour=23, minute=30)
    assert scene("east", (169, 0, 170, 1), late).solar_day == date(2020, 11, 5)
    assert scene("west", (-170, 0, -169, 1), NOON.replace(hour=1)).solar_day == date(2020, 11, 3)


def test_scenes_of_a_pass_share_their_key() -> None:
    one = scene("a", (0, 0, 1, 1), relative_orbit=71, orbit_state="descending")
    two = scene("b", (0, 1, 1, 2), relative_orbit=71, orbit_state="descending")
    other = scene("c", (0, 1, 1, 2), relative_orbit=64, orbit_state="ascending")
    assert one.pass_key == two.pass_key != other.pass_key
