"""Signed when opened: a real token service, and a real store that refuses whoever has no token."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from catalog import retrying, signing
from catalog.archives.items import Asset
from catalog.archives.providers import Access
from catalog.errors import ArgumentError, SceneReadError
from catalog.pixels.scene import probe
from tests.support.loopback import serving
from tests.support.scenes import (
    aligned_lattice,
    noise,
    read_window,
    same,
    scene,
    scene_of,
    write_raster,
)

HOST = "sentinel1euwestrtc.blob.core.windows.net"
TOKEN = {"msft:expiry": "2999-01-01T00:00:00Z", "token": "se=2999-01-01&sig=S3CRET"}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was asked of the token service and, through a proxy, of the storage; paths and hosts."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            requests.append(f"{parts.hostname or 'token'}{parts.path}")
            if parts.hostname is None:
                status, body = 200, json.dumps(TOKEN).encode()
            elif "sig=S3CRET" in parts.query and parts.path.endswith("x.tif"):
                status, body = 200, (tmp_path / "x.tif").read_bytes()
            else:
                status, body = 403, b"no token"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        monkeypatch.setenv("PC_SDK_SAS_URL", f"http://{address}/token")
        monkeypatch.setenv("GDAL_HTTP_PROXY", address)
        monkeypatch.setattr(retrying, "FIRST_WAIT_SECONDS", 0.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            from planetary_computer.sas import TOKEN_CACHE
            from planetary_computer.settings import Settings
        Settings.get.cache_clear()
        TOKEN_CACHE.clear()
        yield requests
        Settings.get.cache_clear()
        TOKEN_CACHE.clear()


def test_files_are_signed_when_opened_and_logs_hold_no_token(
    tmp_path: Path, asked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    values = noise((1, 64, 64))
    local = scene_of(write_raster(tmp_path / "x.tif", values), ("vh",))
    href = f"http://{HOST}/s1-grd-rtc/x.tif"
    asset = Asset("vh", href, ("vh",), access=Access(signed=True))
    remote = scene("signed", local.footprint.bounds, assets=(asset,))
    assert not asked  # planning asks for nothing
    lattice = aligned_lattice()
    assert same(read_window([remote], lattice, lattice.window, ("vh",)), values.astype("f4"))
    assert asked[0] == "token/token/sentinel1euwestrtc/s1-grd-rtc"
    assert set(asked[1:]) == {f"{HOST}/s1-grd-rtc/x.tif"}  # the token is kept

    gone = Asset("vh", href.replace("x.tif", "y.tif"), ("vh",), access=Access(signed=True))
    with pytest.raises(SceneReadError, match=r"y\.tif: .*403") as caught:
        probe(scene("s", assets=(gone,)))
    told = f"{caught.value!r} {caught.value.__cause__!r} {caplog.text} {remote!r}"
    assert "S3CRET" not in told


def test_a_token_service_that_does_not_answer_is_a_read_error(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOKEN, "msft:expiry", "never")
    asset = Asset("vh", f"http://{HOST}/rtc/x.tif", ("vh",), access=Access(signed=True))
    with pytest.raises(SceneReadError, match="gives no token for it") as caught:
        probe(scene("s", assets=(asset,)))
    assert "S3CRET" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert f"{HOST}/rtc/x.tif" not in asked


def test_other_addresses_stay_as_they_are(asked: list[str]) -> None:
    for href in ("/data/x.tif", "https://example.org/x.tif", "s3://bucket/x.tif"):
        assert signing.signed(href) == href
    assert not asked


def test_without_the_package_a_plan_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ArgumentError, match=r"pip install 'tar-pipeline\[planetary-computer\]'"):
        signing.require_package()
