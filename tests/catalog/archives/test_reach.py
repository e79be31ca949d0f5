"""What a catalogue may lead to: files of its own kind of place, and none that lead on."""

from __future__ import annotations

from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rasterio.errors import RasterioError

from catalog.archives.items import scene_from_item
from catalog.archives.providers import Access
from catalog.archives.reach import within_reach
from catalog.pixels import open_files
from catalog.pixels.open_files import File, open_raster
from tests.support.loopback import answer, serving
from tests.support.object_store import aws_environment
from tests.support.scenes import item

API = "https://api.example.org"


@pytest.mark.parametrize(
    "href",
    [
        "/etc/passwd", "file:///etc/passwd", "https://example.org/a.vrt",
        "https://example.org/a.VRT?x=1", "http://127.0.0.1/a.tif", "http://localhost:8000/a.tif",
        "http://169.254.169.254/latest/meta-data/a.tif", "http://[::1]/a.tif",
    ],
)  # fmt: skip
def test_an_api_leads_neither_to_this_machine_nor_to_lists_of_files(href: str) -> None:
    scene = within_reach(scene_from_item(item("x", href), API), local_files=False, inside=False)
    assert not scene.assets
    assert scene.unusable is not None
    assert scene.unusable.startswith("its asset ")


@pytest.mark.parametrize("href", ["https://example.org/a.tif", "a.tif"])
def test_an_api_leads_to_remote_files(href: str) -> None:
    scene = scene_from_item(item("x", href), API)
    assert within_reach(scene, local_files=False, inside=False) == scene


@pytest.mark.parametrize(
    ("href", "annotation", "signed"),
    [
        ("s3://own/a.tif", None, True),
        ("s3://paid/a.tif", "s3://paid/a.xml", True),
        ("s3://other/a.tif", None, False),
        ("s3://paid/a.tif", "s3://other/a.xml", False),
        ("s3://own/../other/a.tif", None, False),
        ("S3://other/a.tif", None, False),
    ],
)
def test_keys_are_for_buckets_that_the_archive_or_the_user_names(
    href: str, annotation: str | None, signed: bool
) -> None:
    scene = scene_from_item(item("x", href), API)
    pays = Access(requester_pays=True, own_buckets=("paid",))
    asset = replace(scene.assets[0], annotation=annotation, access=pays)
    scene = replace(scene, assets=(asset,))
    (read,) = within_reach(scene, local_files=False, inside=False, own_buckets=("own",)).assets
    assert read.access.unsigned is not signed
    assert read.access.requester_pays is signed
    (read,) = within_reach(scene, local_files=True, inside=True).assets
    assert not read.access.unsigned


def test_an_object_store_that_only_this_machine_reaches_is_not_for_strangers() -> None:
    scene = scene_from_item(item("x", "s3://bucket/a.tif"), API)
    with aws_environment({"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}):
        reached = within_reach(scene, local_files=False, inside=False)
        assert "only this machine or its network can reach" in (reached.unusable or "")
        named = within_reach(scene, local_files=False, inside=False, own_buckets=("bucket",))
    assert named.unusable is None


def test_what_may_name_local_files_may() -> None:
    scene = scene_from_item(item("x", "/data/a.tif"), API)
    reached = within_reach(scene, local_files=True, inside=True)
    assert [asset.href for asset in reached.assets] == ["/data/a.tif"]


def test_a_vrt_under_another_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.vrt"
    body = (
        f'<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{secret}</SourceFilename></SimpleSource>"
        f"</VRTRasterBand></VRTDataset>"
    ).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            whole = f"bytes 0-{len(body) - 1}/{len(body)}"
            answer(self, 206, body, {"Content-Range": whole})

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as host:
        file = File(f"http://{host}/innocent.tif", Access(inside=True), ())
        with pytest.raises(RasterioError), open_raster(file, {}):
            pass
        monkeypatch.setattr(open_files, "REMOTE_DRIVERS", ("VRT",))
        with open_raster(file, {}) as followed:  # it is the drivers that keep from it
            assert followed.driver == "VRT"
