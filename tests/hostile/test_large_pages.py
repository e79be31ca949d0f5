"""A page of 500 MB, as a stranger's API may send it: one error, and little memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.cli.demo_region import DemoRegion
from flows.cli.terminal import WRONG_REQUEST
from tests.support.loopback import answer, serving
from tests.support.quirky_api import CONFORMS_TO
from tests.support.regions import arguments_of, request_of
from tests.support.scenes import item
from tests.support.service import ROOT

PAGE_BYTES = 500_000_000
MOST_MIB = 1024
MORE_MIB = 150  # than without the page: twice what is read of an answer, and what varies
PIECE = b"x" * 2**20


def page() -> Iterator[bytes]:
    """An answer to a search, whole JSON, whose only item has a long title."""
    found = {"type": "FeatureCollection", "links": [], "features": [item("large", "/a.tif")]}
    head, _, tail = json.dumps({**found, "title": "#"}).encode().partition(b"#")
    left = PAGE_BYTES - len(head) - len(tail)
    yield head
    while left > 0:
        yield PIECE[:left]
        left -= len(PIECE)
    yield tail


def packed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same, a thousand times as small."""
    packing = zlib.compressobj(9, wbits=31)
    yield from (packing.compress(piece) for piece in pieces)
    yield packing.flush()


@contextmanager
def large_api(*, is_packed: bool) -> Iterator[tuple[str, list[int]]]:
    """An API whose searches answer with such a page; how much of each it could send."""
    sent: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here = f"http://127.0.0.1:{self.server.server_address[1]}"
            if self.path == "/":
                links = [{"rel": "search", "href": f"{here}/search"}]
                landing = {"type": "Catalog", "id": "x", "description": "x",
                           "stac_version": "1.0.0", "conformsTo": CONFORMS_TO,
                           "links": links}  # fmt: skip
                answer(self, 200, json.dumps(landing).encode())
            elif self.path.startswith("/search"):
                self._send_page()
            else:
                answer(self, 200, json.dumps({"id": "x", "type": "Collection"}).encode())

        do_POST = do_GET

        def _send_page(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/geo+json")
            if is_packed:
                self.send_header("Content-Encoding", "gzip")
            else:
                self.send_header("Content-Length", str(PAGE_BYTES))
            self.end_headers()
            sent.append(0)
            try:
                for piece in packed(page()) if is_packed else page():
                    self.wfile.write(piece)
                    sent[-1] += len(piece)
            except OSError:  # nobody listens any more
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as host:
        yield f"http://{host}", sent


HERE = """
import sys
from pathlib import Path
from flows.cli.main import main

code = main(sys.argv[2:])
Path(sys.argv[1]).write_text(Path("/proc/self/status").read_text())
sys.exit(code)
"""


def run_watched(words: list[str], folder: Path) -> tuple[int, str, float]:
    """A command's exit code, what it told, and the most memory it had, MiB.

    By its own account: what the kernel tells a parent counts the parent's memory too.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(folder / "prefect")}
    told, status = folder / "told.txt", folder / "status.txt"
    with told.open("wb") as file:
        run = subprocess.run(
            [sys.executable, "-c", HERE, str(status), *words],
            env=environment, stdout=file, stderr=file, check=False,
        )  # fmt: skip
    [highest] = re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())
    return run.returncode, told.read_text(), int(highest) / 1024


@pytest.mark.faults
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_page_of_500_mb_is_one_error_and_little_memory(
    small_region: DemoRegion, tmp_path: Path, is_packed: bool
) -> None:
    words = [*arguments_of(request_of(small_region, tmp_path / "store")), "--dry-run"]
    code, _, without_mib = run_watched(words, tmp_path)
    assert code == 0
    with large_api(is_packed=is_packed) as (url, sent):
        request = request_of(small_region, tmp_path / "store", catalog=url)
        code, told, peak_mib = run_watched([*arguments_of(request), "--dry-run"], tmp_path)
    print(f"\n{told.strip()}\nsent {[f'{n / 1e6:.1f} MB' for n in sent]}, peak {peak_mib:.0f} MiB,"
          f" without the page {without_mib:.0f} MiB")  # fmt: skip
    assert code == WRONG_REQUEST  # found before any work
    assert told.count("tar-pipeline: error: ") == 1
    assert "answers with more than 32 MiB, and no more is read of one answer" in told
    assert "Traceback" not in told
    assert peak_mib <= min(MOST_MIB, without_mib + MORE_MIB)
    assert not list(tmp_path.rglob("*.zarr"))
