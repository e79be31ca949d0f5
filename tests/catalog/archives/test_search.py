"""Search through the embedded rustac API, a real STAC server on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import shapely

import catalog.archives.api
import catalog.archives.search
from catalog.archives.search import catalog_api, look_up, refused_items, search
from catalog.errors import ArgumentError, SearchError
from catalog.longitudes import as_geojson_has_it
from tests.support.loopback import serving
from tests.support.quirky_api import Quirks, quirky_api
from tests.support.scenes import (
    DAY,
    REAL_ITEMS,
    WORLD,
    item,
    needs_real_data,
    write_items,
)

API = "http://127.0.0.1:9/stac"


@contextmanager
def http_server(*answers: tuple[int, str]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives the answers in order, the last one for ever; yields URL and requests."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[min(len(requests), len(answers) - 1)]
            requests.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        yield f"http://{address}", requests


def test_a_file_is_served_and_searched(tmp_path: Path) -> None:
    path = write_items(
        tmp_path,
        item("b", "b.tif", datetime="2020-11-04T00:00:00Z"),
        item("a", "a.tif", datetime="2020-11-04T23:59:59.5Z", box=(11.0, 50.0, 11.1, 50.1)),
        item("day after", "c.tif", datetime="2020-11-05T00:00:00Z"),
        item("day before", "d.tif", datetime="2020-11-03T23:59:59Z"),
        item("elsewhere", "e.tif", box=(20.0, 50.0, 20.1, 50.1)),
        item("other collection", "f.tif", collection="sar"),
    )
    with catalog_api(path) as url:
        found = search(url, "optical", (10.0, 49.0, 12.0, 51.0), DAY, DAY)
    assert [each.id for each in found] == ["b", "a"]
    assert found[0].assets[0].href == str(tmp_path / "b.tif")
    assert found[0].assets[0].bands == ("red", "green", "blue")
    assert found[0].datetime == datetime(2020, 11, 4, tzinfo=UTC)
    assert found[0].footprint.bounds == (10.0, 50.0, 10.1, 50.1)


def test_odd_items_of_a_file_are_left_out_and_the_others_served(tmp_path: Path) -> None:
    """Whatever the server cannot read, it cannot start with."""
    sound = item("sound", "a.tif")
    boxed = {**item("boxed", "b.tif", box=(11.0, 50.0, 11.1, 50.1)), "geometry": None}
    odd = [
        {**item("no shape", "c.tif"), "geometry": {"type": "Nonsense"}},
        {**item("odd links", "c.tif"), "links": 7},
        {**item("odd version", "c.tif"), "stac_version": 7},  # which nobody but the server reads
        {**item("elsewhere", "c.tif", collection="other"), "assets": 7},
        {**item("anywhere", "c.tif"), "collection": None},
    ]
    path = write_items(tmp_path, odd[0], sound, *odd[1:], boxed)
    with catalog_api(path) as url:
        assert [each.id for each in search(url, "optical", WORLD, DAY, DAY)] == ["boxed", "sound"]
        assert search(url, "other", WORLD, DAY, DAY) == ()
    told = {each.id: each.reason for each in refused_items(path, ["optical"])}
    assert list(told) == ["no shape", "odd links", "odd version", "anywhere"]
    assert "its links is 7, not a list of objects" in told["odd links"]


def test_an_item_with_a_box_across_the_antimeridian_alone_is_found_on_both_sides(
    tmp_path: Path,
) -> None:
    path = write_items(
        tmp_path, {**item("boxed", "b.tif"), "geometry": None, "bbox": [179.5, 50, -179.5, 51]}
    )
    with catalog_api(path) as url:
        for west, east in ((179.6, 179.9), (-179.9, -179.6), (179.9, -179.9)):
            (found,) = search(url, "optical", (west, 50.2, east, 50.4), DAY, DAY)
            assert found.footprint.area < 2


def test_odd_items_on_a_page_are_told_beside_the_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    page = [7, item("good", "/a.tif"), {"id": None}, {**item("odd", "/b.tif"), "geometry": "here"}]
    monkeypatch.setattr(catalog.archives.search, "fetch_items", lambda *_, **__: page)
    found = look_up(API, "optical", WORLD, DAY, DAY)
    assert [each.id for each in found.scenes] == ["good"]
    assert [each.id for each in found.dropped] == [
        "item 1 of the answer, without a name", "item 3 of the answer, without a name", "odd",
    ]  # fmt: skip


def test_all_pages_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog.archives.api, "PAGE_SIZE", 3)
    path = write_items(
        tmp_path, *(item(f"i{n}", f"{n}.tif", box=(n, 0.0, n + 1.0, 1.0)) for n in range(11))
    )
    with catalog_api(path) as url:
        assert len(search(url, "optical", WORLD, DAY, DAY)) == 11


def place(how: str, west: float, east: float) -> dict[str, Any]:
    """Geometry and box of a scene as archives write it, which may cross the antimeridian."""
    whole = shapely.box(west, 50.0, east, 50.5)
    cut, box = as_geojson_has_it(whole)
    written = cut
    if west < 180 < east and how != "split":
        around = shapely.box(east - 360, 50.0, west, 50.5)
        written = whole if how == "beyond 180" else around
    return {"geometry": shapely.geometry.mapping(written), "bbox": list(box)}


@pytest.mark.parametrize("how", ["split", "beyond 180", "around the world"])
def test_scenes_across_the_antimeridian_are_found_however_they_are_written(
    tmp_path: Path, how: str
) -> None:
    ends = {"across": (179.2, 180.5), "east": (180.2, 181.4), "west": (177.0, 178.9)}
    items = [item(name, "x.tif") | place(how, *edges) for name, edges in ends.items()]
    elsewhere = item("elsewhere", "x.tif", box=(0.0, 50.0, 1.0, 50.5))
    with catalog_api(write_items(tmp_path, *items, elsewhere)) as url:
        for west, east, names in (
            (179.6, -179.8, ["across", "east"]),
            (179.3, 179.5, ["across"]),
            (-179.9, -179.6, ["across", "east"]),
            (178.0, 180.0, ["across", "west"]),
        ):
            found = search(url, "optical", (west, 50.0, east, 50.5), DAY, DAY)
            assert sorted(each.id for each in found) == names
            assert len({each.solar_day for each in found}) == 1
            for each in found:
                first, last = ends[each.id]
                assert each.footprint.geom_type == "Polygon"
                assert each.footprint.area == pytest.approx((last - first) * 0.5)


def test_a_box_alone_may_cross_the_antimeridian_too() -> None:
    only_box = item("a", "x.tif") | {"geometry": None, "bbox": [179.5, 50.0, -179.5, 50.5]}
    with quirky_api([only_box], Quirks()) as (url, _):
        (found,) = search(url, "optical", (179.9, 50.0, -179.9, 50.1), DAY, DAY)
    assert found.footprint.bounds == (179.5, 50.0, 180.5, 50.5)


def test_an_unknown_collection_is_told_with_the_known_ones(tmp_path: Path) -> None:
    path = write_items(tmp_path, item("a", "a.tif"), item("b", "b.tif", collection="sar"))
    with (
        pytest.raises(SearchError, match="no collection 'nope'; it has: optical, sar") as caught,
        catalog_api(path) as url,
    ):
        search(url, "nope", WORLD, DAY, DAY)
    assert str(caught.value).startswith(f"{path} has no collection")  # not a port on loopback
    assert caught.value.url == str(path)


def test_bad_arguments_are_named_before_anything_is_asked() -> None:
    with pytest.raises(ArgumentError) as caught:
        search(API, "optical", WORLD, DAY, date(2020, 11, 3))
    assert caught.value.argument == "end"
    with pytest.raises(ArgumentError) as caught:
        search(API, "optical", (2.0, 0.0, 1.0, 1.0), DAY, DAY)
    assert caught.value.argument == "bbox"


def test_an_unreachable_api_is_a_search_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog.archives.api, "RETRIES", 1)
    with pytest.raises(SearchError, match=r"127\.0\.0\.1:9.*cannot be reached") as caught:
        search(API, "optical", WORLD, DAY, DAY)
    assert caught.value.url == API
    assert caught.value.__cause__ is not None


def test_a_catalogs_token_stays_out_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog.archives.api, "RETRIES", 0)
    with (
        pytest.raises(SearchError, match=r"http://127\.0\.0\.1:9/stac cannot be reached") as caught,
        catalog_api("http://127.0.0.1:9/stac?token=S3CRET") as url,
    ):
        search(url, "optical", WORLD, DAY, DAY)
    assert "S3CRET" not in repr(caught.value)


def test_what_is_no_api_is_a_search_error() -> None:
    landing = {
        "type": "Catalog",
        "id": "x",
        "stac_version": "1.0.0",
        "description": "",
        "links": [],
    }
    cases = [
        ((200, json.dumps({**landing, "conformsTo": []})), "no STAC API with item search"),
        ((200, json.dumps(landing)), "no STAC API with item search"),
        ((200, "<html>hello</html>"), "does not answer like a STAC API"),
        ((200, '{"type": "Feature"}'), "does not answer like a STAC API"),
        ((404, "nothing here"), "failed to answer"),
    ]
    for answer, words in cases:
        with http_server(answer) as (url, _), pytest.raises(SearchError, match=words):
            search(url, "optical", WORLD, DAY, DAY)


def test_transient_failures_are_retried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog.archives.api, "RETRIES", 2)
    with catalog_api(write_items(tmp_path, item("a", "a.tif"))) as real:
        with urllib.request.urlopen(real, timeout=5) as response:
            landing = response.read().decode()
        # The links in the landing page lead on to the real server.
        with http_server((503, ""), (429, ""), (200, landing)) as (url, requests):
            assert len(search(url, "optical", WORLD, DAY, DAY)) == 1
        assert len(requests) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        ("not json", "is not JSON"),
        ('{"type": "Feature"}', "not a STAC ItemCollection"),
        ('{"features": [{"id": "x"}]}', "no valid item: x is .* its properties is missing"),
        ('{"features": [7]}', "it is 7, not an object"),
    ],
)
def test_a_bad_catalog_file_is_a_search_error(
    tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "items.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SearchError, match=words) as caught, catalog_api(str(path)):
        pass
    assert caught.value.url == str(path)


def test_the_embedded_server_stops_with_its_block(tmp_path: Path) -> None:
    path = write_items(tmp_path, item("a", "a.tif"))
    with pytest.raises(RuntimeError, match="stop"), catalog_api(path) as url:
        raise RuntimeError("stop")
    with pytest.raises(OSError, match="refused"), urllib.request.urlopen(url, timeout=5):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_the_embedded_server_dies_with_a_killed_run(tmp_path: Path) -> None:
    path = write_items(tmp_path, item("a", "a.tif"))
    program = (
        "import sys, time\n"
        "from catalog.archives.search import catalog_api\n"
        "with catalog_api(sys.argv[1]) as url:\n"
        "    print(url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        url = run.stdout.readline().strip()
        with urllib.request.urlopen(url, timeout=5):
            pass
        os.kill(run.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=1):
                time.sleep(0.05)
        except OSError:
            return
    pytest.fail("the server outlived its run")


def test_a_url_needs_no_server() -> None:
    with catalog_api("https://example.org/stac") as url:
        assert url == "https://example.org/stac"


@needs_real_data
@pytest.mark.real_data
def test_real_items_are_found() -> None:
    november = date(2020, 11, 1), date(2020, 11, 30)
    with catalog_api(str(REAL_ITEMS)) as url:
        optical = search(url, "sentinel-2-visual", WORLD, *november)
        sar = search(url, "sentinel-1-grd-vh", WORLD, *november)
        part = search(url, "sentinel-1-grd-vh", (-118.0, 33.75, -117.9, 33.8), *november)
    assert len(optical) == len(sar) == 27
    assert {each.bands for each in optical} == {("red", "green", "blue")}
    assert {each.bands for each in sar} == {("vh",)}
    assert {each.orbit_state for each in sar} == {"descending"}
    assert all(Path(each.assets[0].href).exists() for each in [*optical, *sar])
    assert 0 < len(part) < 27
