"""A region whose radar is GRD without a CRS: from its items to a mosaic, with a DEM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from distributed import Client

import catalog
from catalog.archives.items import Scene
from catalog.sentinel1 import geoid
from flows.plan.plan import Plan, PlanError, plan_region, plan_request, provenance
from flows.plan.request import RegionRequest
from flows.register_region import register_region
from tests.support.grd import Radar, mountains, region
from tests.support.grd_scene import GrdScene, write_scene

HALF_KM = 1.2
DAY = "2024-06-14"


def item(
    scene: Scene, collection: str, when: str, assets: dict[str, str | None], **properties: Any
) -> dict[str, Any]:
    box = list(scene.footprint.bounds)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": scene.id,
        "collection": collection,
        "geometry": shapely.geometry.mapping(shapely.box(*box)),
        "bbox": box,
        "properties": {"datetime": when, **properties},
        "links": [],
        "assets": {
            key: {"href": href, "type": "image/tiff; application=geotiff", "roles": ["data"]}
            if href.endswith(".tif")
            else {"href": href, "type": "application/xml", "roles": ["metadata"]}
            for key, href in assets.items()
            if href is not None
        },
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> GrdScene:
    radar = Radar(mountains, shape=(700, 900), points=(6, 8))
    return write_scene(tmp_path_factory.mktemp("grd"), radar, HALF_KM)


@pytest.fixture(scope="module")
def items(made: GrdScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (vv,) = made.sar.assets
    orbit = {"platform": "sentinel-1a", "sat:orbit_state": "ascending", "sat:relative_orbit": 15}
    grd = {
        "vv": vv.href, "schema-product-vv": vv.annotation, "schema-calibration-vv": vv.calibration,
        "schema-noise-vv": vv.noise,
    }  # fmt: skip
    features = [
        item(made.optical, "optical", f"{DAY}T10:20:31Z", {"visual": str(made.optical_path)}),
        item(made.sar, "sentinel-1-grd", f"{DAY}T17:06:00Z", grd, **orbit),
        item(made.dem, "cop-dem-glo-30", "2021-04-22T00:00:00Z",
             {"data": made.dem.assets[0].href}),
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("items") / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def request_of(items: Path, store: Path, **changes: Any) -> RegionRequest:
    values: dict[str, Any] = {
        "catalog": str(items), "optical": "optical", "sar": "sentinel-1-grd",
        "bbox": region(HALF_KM - 0.1), "start": DAY, "end": DAY, "store": str(store),
        "dem": "cop-dem-glo-30", "orbit": "ascending",
    }  # fmt: skip
    return RegionRequest.of(**{**values, **changes})


def plan_of(request: RegionRequest) -> Plan:
    return plan_region(request, weights_sha256="0" * 64)


def test_the_plan_has_the_dem_and_the_orbit(items: Path, tmp_path: Path) -> None:
    plan = plan_of(request_of(items, tmp_path))
    assert not plan.unpaired
    (pair,) = plan.pairs
    assert [tile.id for tile in pair.sar.terrain] == ["dem"]
    assert pair.sar.assets[0].calibration is not None
    told = provenance(plan, plan.slots[0])
    assert told["sar_orbit_policy"] == "ascending"
    assert told["sar_orbits"] == [
        {"platform": "sentinel-1a", "relative_orbit": 15, "orbit_state": "ascending"}
    ]
    assert told["configuration"]["dem"] == "cop-dem-glo-30"
    known = geoid.undulation_of(geoid.EGM2008) is not None
    assert [warned.text for warned in plan.warnings] == ([] if known else [geoid.UNKNOWN])
    orbits = tmp_path / "orbits"
    orbits.mkdir()
    without = plan_of(request_of(items, tmp_path, orbit_files=orbits))
    assert "no orbit file covers it" in without.warnings[-1].text
    assert without.slots[0].generation == plan.slots[0].generation
    plain = plan_of(request_of(items, tmp_path, dem=None))
    assert plain.pairs[0].sar.terrain == ()
    assert plain.slots[0].generation != plan.slots[0].generation
    other = plan_of(request_of(items, tmp_path, orbit="16"))
    assert not other.pairs
    reasons = {left.scene.id: left.reason for left in other.unpaired}
    assert reasons["S1"] == "its relative orbit is 15, and 16 is asked for"


def test_a_dem_that_is_not_there_is_one_sentence(items: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"no collection 'srtm'; it has: cop-dem-glo-30, optical"):
        plan_request(request_of(items, tmp_path, dem="srtm"))
    elsewhere = items.with_name("elsewhere.json")
    content = json.loads(items.read_text())
    dem = content["features"][2]
    dem["bbox"] = [20, 50, 21, 51]
    dem["geometry"] = shapely.geometry.mapping(shapely.box(20, 50, 21, 51))
    elsewhere.write_text(json.dumps(content))
    with pytest.raises(PlanError, match="'cop-dem-glo-30' has no tile under the region"):
        plan_request(request_of(elsewhere, tmp_path))


def test_the_mosaic_is_sigma_nought_in_its_place(
    items: Path, tmp_path: Path, client: Client
) -> None:
    request = request_of(items, tmp_path, scheduler=client.scheduler.address)
    report = register_region(request).report
    assert report.status == "registered", report
    (pair,) = report.pairs
    assert pair.accepted, pair
    print(f"\nregion over relief with DEM: moved {pair.median_displacement_px:.3f} px (median)")
    assert pair.median_displacement_px is not None
    assert pair.median_displacement_px < 0.5
    mosaic = catalog.open_mosaic(report.mosaic).isel(time=0)
    power = mosaic["vv"].values
    assert np.isfinite(power).mean() > 0.9
    assert 1e-3 < float(np.nanmedian(power)) < 1
