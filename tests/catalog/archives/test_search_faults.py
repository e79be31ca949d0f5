"""A real STAC API behind a proxy that fails, dawdles and repeats itself."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import catalog.archives.api
from catalog.archives.search import catalog_api, search
from catalog.errors import SearchError
from tests.support.loopback import answer, serving
from tests.support.scenes import DAY, WORLD, item, write_items

LONG_SECONDS, SHORT_SECONDS = 2.0, 0.02


@contextmanager
def awkward_api(
    upstream: str, *, delay_s: float, repeat: int, stuck: bool = False
) -> Iterator[tuple[str, list[str]]]:
    """The API at `upstream`, but the first search is answered 503 and every page comes late.

    Page `repeat` comes twice, and leads on to its successor the second time; for ever if `stuck`.
    Yields the URL and what was answered to each search.
    """
    answered: list[str] = []
    pages: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, self._forward(None))

        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(delay_s)
            if not answered:
                answered.append("503")
                self._answer(503, b"")
                return
            if len(pages) == repeat and (stuck or "again" not in answered):
                answered.append("again")
                self._answer(200, self._leading_here(pages[-1], query))
                return
            pages.append(self._forward(query))
            answered.append("page")
            self._answer(200, pages[-1])

        def _forward(self, query: bytes | None) -> bytes:
            request = urllib.request.Request(upstream + self.path, query)
            request.add_header("Content-Type", "application/json")
            with urllib.request.urlopen(request, timeout=30) as response:
                here = f"http://127.0.0.1:{self.server.server_port}"
                return response.read().replace(upstream.encode(), here.encode())

        def _leading_here(self, page: bytes, query: bytes) -> bytes:
            """The page with a link to the request that it came in place of."""
            content: dict[str, Any] = json.loads(page)
            for link in content["links"]:
                if link["rel"] == "next":
                    link["body"] = json.loads(query)
            return json.dumps(content).encode()

        def _answer(self, status: int, body: bytes) -> None:
            answer(self, status, body, {"Content-Type": "application/geo+json"})

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        yield f"http://{address}", answered


def many_items(folder: Path, count: int) -> str:
    """A catalog of scenes side by side."""
    corners = [(n % 50 * 2.0, n // 50 * 2.0) for n in range(count)]
    return write_items(
        folder,
        *(
            item(f"i{n:04}", f"{n}.tif", box=(x, y, x + 1.0, y + 1.0))
            for n, (x, y) in enumerate(corners)
        ),
    )


def searched(folder: Path, count: int, delay_s: float) -> tuple[list[str], list[str], float]:
    """Ids found through the awkward API, what it answered, and the seconds it took."""
    with (
        catalog_api(many_items(folder, count)) as real,
        awkward_api(real, delay_s=delay_s, repeat=4) as (url, answered),
    ):
        started = time.monotonic()
        found = search(url, "optical", WORLD, DAY, DAY)
        return sorted(scene.id for scene in found), answered, time.monotonic() - started


def test_each_scene_comes_once_from_an_awkward_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog.archives.api, "PAGE_SIZE", 10)
    ids, answered, _ = searched(tmp_path, 100, SHORT_SECONDS)
    assert ids == [f"i{n:04}" for n in range(100)]
    assert answered[0] == "503"
    assert answered.count("again") == 1
    assert answered.count("page") >= 10


def test_a_page_that_comes_for_ever_is_a_search_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog.archives.api, "PAGE_SIZE", 5)
    with (
        catalog_api(many_items(tmp_path, 40)) as real,
        awkward_api(real, delay_s=0.0, repeat=2, stuck=True) as (url, _),
        pytest.raises(SearchError, match="the same page again and again"),
    ):
        search(url, "optical", WORLD, DAY, DAY)


@pytest.mark.faults
def test_a_thousand_items_from_an_awkward_api(tmp_path: Path) -> None:
    ids, answered, seconds = searched(tmp_path, 1000, LONG_SECONDS)
    assert ids == [f"i{n:04}" for n in range(1000)]
    assert answered[0] == "503"
    print(
        f"\n| STAC API: first page 503, each {LONG_SECONDS:.0f} s late, one repeated | "
        f"{len(ids)} of 1000 scenes, once each, from {len(answered)} answers in {seconds:.0f} s |"
    )
