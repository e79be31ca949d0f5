"""Files that are missing, broken, bare of georeference, or served badly: each is named."""

from __future__ import annotations

import http.server
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from catalog import retrying
from catalog.archives.items import Asset
from catalog.archives.providers import Access
from catalog.errors import SceneReadError
from catalog.grid import lattice_for
from catalog.pixels import rasters
from catalog.pixels.sanity import examine
from catalog.pixels.scene import probe, source_window
from tests.support.loopback import serving
from tests.support.scenes import (
    NOON,
    UTM,
    aligned_lattice,
    noise,
    read_window,
    same,
    scene,
    scene_of,
    write_raster,
)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    sound = write_raster(tmp_path / "x.tif", noise((1, 600, 600)), tiled=True, compress="deflate")
    found = scene_of(sound, ("vh",), "S1-007")
    probe(found)
    lattice = lattice_for(found.footprint.bounds)
    content = sound.read_bytes()

    def fails(words: str) -> None:
        for read in (
            lambda: probe(found),
            lambda: read_window([found], lattice, lattice.window, ("vh",)),
            lambda: source_window(found, lattice, lattice.window.positions()),
        ):
            with pytest.raises(SceneReadError, match=words) as caught:
                read()
            assert caught.value.scene_id == "S1-007"
            assert caught.value.href == str(sound)
            assert str(sound) in str(caught.value)

    sound.write_bytes(content[: len(content) // 2])
    fails("S1-007 cannot be read")
    sound.write_bytes(b"no raster at all")
    fails("not recognized as being in a supported file format")
    sound.unlink()
    fails("No such file")


@pytest.mark.parametrize("small", [True, False])
def test_damage_anywhere_in_a_local_file_is_found_by_probing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    if not small:  # then only the first, the middle and the last row of blocks are looked at
        monkeypatch.setattr(rasters, "SMALL_FILE_BYTES", 1)
    path = tmp_path / "x.tif"
    write_raster(path, noise((3, 640, 200)), tiled=True, blockxsize=64, blockysize=64,
                 compress="deflate", interleave="band")  # fmt: skip
    sound, found = path.read_bytes(), scene_of(path, ("red", "green", "blue"))
    probe(found)
    with rasterio.open(path) as source:
        offsets = {
            (band, row): int(source.get_tag_item(f"BLOCK_OFFSET_2_{row}", "TIFF", bidx=band))
            for band in (1, 2, 3)
            for row in range(10)
        }
    for (_, row), offset in offsets.items():
        path.write_bytes(sound[:offset] + b"\xff" * 500 + sound[offset + 500 :])
        if small or row in (0, 5, 9):
            with pytest.raises(SceneReadError, match=r"x\.tif"):
                probe(found)
        else:
            probe(found)


def test_rasters_without_georeference_are_refused(tmp_path: Path) -> None:
    bare = write_raster(tmp_path / "bare.tif", noise((1, 20, 20)), crs=None)
    with pytest.raises(SceneReadError, match="no coordinate reference system"):
        probe(scene("x", assets=(Asset("vh", str(bare), ("vh",)),)))
    flat = write_raster(tmp_path / "flat.tif", noise((1, 20, 20)))
    with pytest.raises(SceneReadError, match="1 bands where its item promises vv, vh"):
        probe(scene("x", assets=(Asset("vh", str(flat), ("vv", "vh")),)))


@pytest.mark.parametrize("kind", ["complex_int16", "complex64"])
def test_complex_numbers_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "slc.tif"
    placed = {"crs": UTM, "transform": Affine(10, 0, 5e5, 0, -10, 4e6)}
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=20, width=20, dtype=kind, **placed
    ) as raster:
        raster.write(np.full((1, 20, 20), 3 + 4j, "complex64"))
    single_look = scene("S1-SLC", assets=(Asset("vv", str(path), ("vv",)),))
    for read in (probe, examine):
        with pytest.raises(SceneReadError, match=rf"S1-SLC: .*complex numbers \({kind}\)"):
            read(single_look)


HERE = Access(inside=True)


@contextmanager
def flaky_server(folder: Path, failures: int) -> Iterator[tuple[str, list[int]]]:
    """Serves a folder, but its first answers are garbage; yields its URL and what it answered."""
    answered: list[int] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def do_GET(self) -> None:
            if len(answered) < failures:
                answered.append(-1)
                body = b"<html>please wait</html>"
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            else:
                answered.append(200)
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        yield f"http://{address}", answered


def test_remote_garbage_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT_SECONDS", 0.0)
    values = noise((1, 64, 64))
    local = scene_of(write_raster(tmp_path / "x.tif", values), ("vh",))
    box, lattice = local.footprint.bounds, aligned_lattice()
    with flaky_server(tmp_path, failures=1) as (url, answered):
        remote = scene("r", box, NOON, assets=(Asset("vh", f"{url}/x.tif", ("vh",), access=HERE),))
        assert same(read_window([remote], lattice, lattice.window, ("vh",)), values.astype("f4"))
        assert answered[0] == -1
    with flaky_server(tmp_path, failures=1000) as (url, _):
        remote = scene("r", box, NOON, assets=(Asset("vh", f"{url}/x.tif", ("vh",), access=HERE),))
        with pytest.raises(SceneReadError, match=f"scene r cannot be read from {url}"):
            probe(remote)


def test_signatures_of_addresses_stay_out_of_errors_and_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT_SECONDS", 0.0)
    (tmp_path / "garbage.tif").touch()
    with flaky_server(tmp_path, failures=1000) as (url, _):
        for name in ("garbage.tif", "none.tif"):
            href = f"{url}/{name}?sig=S3CRET&se=9"
            signed = scene("r", assets=(Asset("vh", href, ("vh",), access=HERE),))
            with pytest.raises(SceneReadError, match=f"{url}/{name}") as caught:
                probe(signed)
            assert "S3CRET" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert "once more" in caplog.text
    assert "S3CRET" not in caplog.text
