"""What the map's addresses answer: what the store lists, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient

import catalog
from catalog import objects
from catalog.cube.repository import cube_url
from catalog.cube.update import update_cube
from catalog.errors import ArgumentError, StoreError
from flows.cli.main import main
from flows.view.days import Published
from flows.view.layers import RAMPS
from flows.view.server import PAGE, listen_at, view_app
from tests.support.slots import (
    FIRST,
    LATTICE,
    ONE_SHARD,
    SECOND,
    created,
    published,
    rioxarray_is_older_than_affine,
)

pytestmark = rioxarray_is_older_than_affine
DAYS = ("2020-11-04", "2020-11-10", "2020-12-02")
BASE = "http://127.0.0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days with their cube."""
    folder = tmp_path_factory.mktemp("store")
    for seed, slot in enumerate(DAYS):
        published(folder, ONE_SHARD, seed, slot=slot, generation=FIRST)
    update_cube(str(folder), "la")
    return folder


def browser_of(folder: Path) -> TestClient:
    return TestClient(view_app(Published(str(folder))), base_url=BASE)


@pytest.fixture
def browser(folder: Path) -> Iterator[TestClient]:
    with browser_of(folder) as client:
        yield client


def answer(browser: TestClient, address: str) -> Any:
    found = browser.get(address)
    assert found.status_code == 200, found.text
    return found.json()


def tile_address(browser: TestClient, day: str, layer: str = "quality") -> str:
    told = answer(browser, f"/api/regions/la/days/{day}")
    return f"/api/regions/la/days/{day}/{told['generation']}/{layer}/2/0/1.png"


def test_the_page_finds_regions_days_and_what_a_day_shows(browser: TestClient) -> None:
    assert answer(browser, "/api/store")["regions"] == [{"name": "la", "days": list(DAYS)}]
    told = answer(browser, f"/api/regions/la/days/{DAYS[1]}")
    names = [layer["name"] for layer in told["layers"]]
    assert names == ["optical", "sar-vh", "delivered-vh", *RAMPS, "quality"]
    west, south, east, north = told["bounds"]
    assert -118.01 < west < east < -117.98
    assert 33.74 < south < north < 33.77
    assert [scene["id"] for scene in told["scenes"]["sar"]] == ["s", "s-2"]
    assert told["scenes"]["optical"][0]["time"] == "2020-11-04T18:35:00Z"
    for layer in told["layers"]:
        assert layer["low"] < layer["high"]
        assert layer["unit"] or layer["classes"]
        assert ("moved back" in layer["note"]) == layer["name"].startswith("delivered")
    shares = [each["share"] for each in told["layers"][-1]["classes"]]
    assert sum(shares) == pytest.approx(1.0)


@pytest.mark.parametrize("has_cube", [True, False])
def test_a_pixel_through_time_is_that_of_every_day(
    folder: Path, browser: TestClient, has_cube: bool
) -> None:
    row, column = 50, 60
    if not has_cube:
        objects.remove_tree(cube_url(str(folder / "la")))
    mosaic = catalog.open_mosaic(folder / "la")
    lattice = ONE_SHARD
    lonlat = catalog_lonlat(lattice.crs_from_px(np.array([[column + 0.3], [row - 0.3]])))
    query = (
        f"lon={lonlat[0]}&lat={lonlat[1]}&variables=vh,dx,quality&first={DAYS[0]}&last={DAYS[2]}"
    )
    told = answer(browser, f"/api/regions/la/days/{DAYS[1]}/pixel?{query}")
    assert (told["row"], told["column"], told["days"]) == (row, column, list(DAYS))
    for name, values in told["values"].items():
        expected = mosaic[name].isel(y=row, x=column).values
        np.testing.assert_allclose(np.array(values, float), expected, rtol=1e-5)


def catalog_lonlat(crs_xy: np.ndarray) -> tuple[float, float]:
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(ONE_SHARD.crs, "EPSG:4326", always_xy=True)
    lon, lat = to_degrees.transform(*crs_xy)
    return float(lon[0]), float(lat[0])


INSIDE = "lon=-117.995&lat=33.754"


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/api/regions/other/days/2020-11-04", 404),
        ("/api/regions/la/days/2020-11-05", 404),
        ("/api/regions/la/days/" + quote("../../secret", safe=""), 404),
        ("/api/regions/" + quote("../la", safe="") + "/days/2020-11-04", 404),
        ("/api/regions/la/days/%3Cscript%3E", 404),
        (f"/api/regions/la/days/2020-11-05/{FIRST}/quality/2/0/1.png", 404),
        (f"/api/regions/la/days/2020-11-04/{SECOND}/quality/2/0/1.png", 404),
        (f"/api/regions/la/days/2020-11-04/{FIRST}/sar_scene/2/0/1.png", 404),
        (f"/api/regions/la/days/2020-11-04/{FIRST}/quality/2/4/1.png", 404),
        (f"/api/regions/la/days/2020-11-04/{FIRST}/quality/2/-1/1.png", 404),
        (f"/api/regions/la/days/2020-11-04/{FIRST}/quality/99/0/1.png", 422),
        (
            f"/api/regions/la/days/2020-11-04/pixel?{INSIDE}&variables=spatial_ref&first=&last=a",
            404,
        ),
        (f"/api/regions/la/days/2020-11-04/pixel?{INSIDE}&variables=vh&first=2021&last=2022", 404),
        ("/api/regions/la/days/2020-11-04/pixel?lon=0&lat=0&variables=vh&first=&last=a", 404),
        ("/api/regions/la/days/2020-11-04/pixel?lon=nan&lat=0&variables=vh&first=&last=a", 422),
        ("/../pyproject.toml", 404),
        ("/%2e%2e/server.py", 404),
    ],
)
def test_what_the_store_does_not_list_is_refused(
    browser: TestClient, address: str, status: int
) -> None:
    found = browser.get(address)
    assert found.status_code == status
    assert "Traceback" not in found.text


def test_every_answer_keeps_to_this_page(browser: TestClient) -> None:
    for address in ("/", "/view.js", "/api/store", tile_address(browser, DAYS[0]), "/nothing"):
        headers = browser.get(address).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert "immutable" in browser.get(tile_address(browser, DAYS[0])).headers["cache-control"]


def test_only_this_machine_is_answered(browser: TestClient) -> None:
    """A page of another name that leads here, as a rebound name does, learns nothing."""
    assert browser.get("/api/store", headers={"host": "evil.example"}).status_code == 400
    for host in ("localhost:8200", "127.0.0.1:8200", "[::1]:8200"):
        assert browser.get("/api/store", headers={"host": host}).status_code == 200
    with listen_at("127.0.0.1", 0) as listening:
        address, port = listening.getsockname()
        assert address == "127.0.0.1"
        with pytest.raises(ArgumentError, match="cannot be served"):
            listen_at("127.0.0.1", port)


def test_a_day_made_again_is_another_address(tmp_path: Path) -> None:
    published(tmp_path, ONE_SHARD, generation=FIRST)
    with browser_of(tmp_path) as browser:
        old = tile_address(browser, DAYS[0])
        before = browser.get(old).content
        published(tmp_path, ONE_SHARD, seed=5, generation=SECOND)
        new = tile_address(browser, DAYS[0])
        assert new == old.replace(FIRST, SECOND)
        assert browser.get(new).status_code == 200
        assert "made again" in browser.get(old).json()["error"]
    assert before


def test_a_damaged_day_is_told_and_the_others_are_shown(tmp_path: Path) -> None:
    published(tmp_path, LATTICE, slot=DAYS[0])
    damaged = published(tmp_path, LATTICE, slot=DAYS[1])
    objects.put(objects.join(damaged.url, "zarr.json"), b"{")
    with browser_of(tmp_path) as browser:
        told = browser.get(f"/api/regions/la/days/{DAYS[1]}")
        assert told.status_code == 502
        assert damaged.url in told.json()["error"]
        assert browser.get(tile_address(browser, DAYS[0])).status_code == 200


def test_a_store_without_a_published_day_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    created(tmp_path, ONE_SHARD)  # a run is writing it
    with pytest.raises(StoreError):
        Published(str(tmp_path)).require_a_day()
    assert main(["view", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"there is no published day in {tmp_path}" in said
    assert main(["view", "s3://key:secret@bucket"]) == 2
    assert "secret" not in capsys.readouterr().err


def test_the_libraries_of_the_page_are_those_of_the_lock_with_their_licences() -> None:
    wanted = json.loads((PAGE.parent / "package.json").read_text())["dependencies"]
    lock = json.loads((PAGE.parent / "package-lock.json").read_text())["packages"]
    shipped = {folder.name: folder for folder in (PAGE / "lib").iterdir()}
    assert shipped.keys() == wanted.keys()
    for name, folder in shipped.items():
        locked = lock[f"node_modules/{name}"]
        assert locked["version"] == wanted[name]
        assert locked["integrity"].startswith("sha512-")
        assert (folder / "LICENSE").stat().st_size > 300
    for name, file in (("leaflet", "leaflet.js"), ("uplot", "uPlot.iife.min.js")):
        assert wanted[name] in (shipped[name] / file).read_text()[:300]


def test_the_page_puts_no_words_of_a_store_into_markup() -> None:
    for script in PAGE.glob("*.js"):
        text = script.read_text()
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "bindPopup"):
            assert way not in text, script.name
