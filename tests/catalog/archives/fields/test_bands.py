"""Bands are found however an item names them, and of several files of one the finest is read."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.archives.items import Scene, scene_from_item
from tests.support.scenes import item

TIFF = {"type": "image/tiff; application=geotiff", "roles": ["data"]}
DUAL = {"sar:polarizations": ["VV", "VH"]}


def parse(assets: dict[str, dict[str, Any]], bands: Any = None, **properties: Any) -> Scene:
    placed = {key: {**TIFF, "href": f"/data/{key}.tif", **asset} for key, asset in assets.items()}
    made = {**item("x", "/data/x.tif", **properties), "assets": placed}
    return scene_from_item(made, "https://api", bands=bands)


def named(*names: str) -> dict[str, Any]:
    return {"eo:bands": [{"name": name} for name in names]}


@pytest.mark.parametrize(
    ("assets", "bands"),
    [
        ({"gamma0_vv": {}, "gamma0_vh": {}}, ("vv", "vh")),
        ({"vv-g-lin": {}, "vh-g-lin": {}}, ("vv", "vh")),
        ({"HH_sigma0_10m": {}, "measurement-hv": {}}, ("hh", "hv")),
        ({"noise-power-vv": {}, "vv_mask": {}, "incidence_angle_vh": {}, "hh": {}}, ("hh",)),
        ({"vv-g-log": {}, "vv-g-lin": {}}, ("vv",)),
        ({"vv_vh": {}}, ("vv", "vh")),
        ({"image": named("VV", "VH")}, ("vv", "vh")),
        ({"image": named("VV", "VH", "angle")}, ("vv", "vh")),
        ({"image": {}}, ("vv", "vh")),
        ({"image": {}, "ratio": {}}, ()),  # nobody knows which of them has what
        ({"image": named("B04", "B03", "B02", "B11")}, ("red", "green", "blue")),
    ],
)
def test_bands_are_found_however_they_are_named(
    assets: dict[str, dict[str, Any]], bands: tuple[str, ...]
) -> None:
    found = parse(assets, **DUAL)
    assert found.bands == bands
    assert (found.unusable is None) == bool(bands)
    assert len(found.assets) == len({asset.key for asset in found.assets})


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("coarse", "fine"),
    [
        ({"B02_20m": {}}, {"B02_10m": {}}),
        ({"B02_20m": named("B02")}, {"B02_10m": named("B02")}),
        ({"a": named("B02") | {"gsd": 60}}, {"b": named("B02") | {"gsd": 10}}),
        ({"a": named("B02") | {"gsd": "fine"}}, {"b": named("B02") | {"gsd": 10}}),
        (
            {"a": named("B02") | {"raster:bands": [{"spatial_resolution": 60}]}},
            {"b": named("B02") | {"raster:bands": [{"spatial_resolution": 10}]}},
        ),
        (
            {"a": named("B02") | {"proj:transform": [60, 0, 0, 0, -60, 0]}},
            {"b": named("B02") | {"proj:transform": [10, 0, 0, 0, -10, 0]}},
        ),
        ({"vv-g-log": {}}, {"vv-g-lin": {}}),
    ],
)
def test_the_finest_file_of_a_band_is_read_whatever_the_order(
    coarse: dict[str, Any], fine: dict[str, Any], order: int
) -> None:
    assets = dict([*coarse.items(), *fine.items()][::order])
    (asset,) = parse(assets).assets
    assert [asset.key] == list(fine)


def test_a_file_of_both_polarisations_is_read_once_beside_one_of_a_single() -> None:
    found = parse({"vv": {}, "both": named("VV", "VH")})
    assert [(asset.key, asset.bands) for asset in found.assets] == [("both", ("vv", "vh"))]
    assert found.bands == ("vv", "vh")


def test_bands_asked_for_come_out_of_a_file_of_many() -> None:
    found = parse({"all": named("B02", "B03", "B04", "B08", "B11")}, bands=("swir16", "red"))
    assert found.bands == ("swir16", "red")
    assert found.assets[0].bands == ("blue", "green", "red", "nir", "swir16")
