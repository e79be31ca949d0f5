"""Answers are read whole or refused by their size and time, and so are the pages of an API."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from catalog.archives import api
from catalog.archives.api import fetch_items
from catalog.errors import SearchError
from catalog.outside.answers import Limits, RefusedAnswer, session
from tests.support.loopback import answer, serving
from tests.support.quirky_api import Quirks, quirky_api
from tests.support.scenes import WORLD, item

LIMITS = Limits(answer_bytes=100_000, all_bytes=250_000, seconds=0.3)
PIECE = b"x" * 10_000
WHEN = datetime(2020, 11, 4, tzinfo=UTC), datetime(2020, 11, 5, tzinfo=UTC)


def test_what_is_within_the_limits_is_read_whole() -> None:
    body = b"y" * LIMITS.answer_bytes
    with (
        _answering(lambda to: answer(to, 200, body)) as url,
        session(LIMITS, inside=True) as asking,
    ):
        for _ in range(2):
            assert asking.get(url).content == body
        with pytest.raises(RefusedAnswer, match="in all, and no more is read"):
            asking.get(url)


def test_packed_answers_are_unpacked_and_bounded_unpacked() -> None:
    headers = {"Content-Encoding": "gzip"}
    for size, fits in ((50_000, True), (50_000_000, False)):
        body = gzip.compress(b"y" * size)
        with (
            _answering(lambda to, body=body: answer(to, 200, body, headers)) as url,
            session(LIMITS, inside=True) as asking,
        ):
            if fits:
                assert len(asking.get(url).content) == size
            else:
                with pytest.raises(RefusedAnswer, match=r"answers with more than 0 MiB"):
                    asking.get(url)


def test_an_answer_without_end_is_not_waited_for() -> None:
    def slowly(to: BaseHTTPRequestHandler) -> None:
        _begin(to)
        for _ in range(1000):
            to.wfile.write(b"x")
            time.sleep(0.01)

    def quickly(to: BaseHTTPRequestHandler) -> None:
        _begin(to)
        for _ in range(100_000):
            to.wfile.write(PIECE)

    for send, why in ((slowly, "takes longer than 0 s"), (quickly, "answers with more than")):
        with _answering(send) as url, session(LIMITS, inside=True) as asking:
            with pytest.raises(RefusedAnswer, match=why) as caught:
                asking.get(f"{url}/?sig=S3CRET")
            assert url in str(caught.value)
            assert "S3CRET" not in str(caught.value)


def test_an_answer_that_is_cut_off_is_an_error_of_requests() -> None:
    def cut(to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("Content-Length", "1000")
        to.end_headers()
        to.wfile.write(b"x" * 10)

    with (
        _answering(cut) as url,
        session(LIMITS, inside=True) as asking,
        pytest.raises(requests.ConnectionError),
    ):
        asking.get(url)


def test_a_page_that_is_too_large_ends_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "LIMITS", Limits(2**20, 2**30, 60.0))
    items = [item("large", "/a.tif", filler="x" * 2**21)]
    with (
        quirky_api(items, Quirks()) as (url, _),
        pytest.raises(SearchError, match=r"/search.* answers with more than 1 MiB"),
    ):
        fetch_items(url, "optical", [WORLD], *WHEN, inside=True)


def test_pages_without_end_end_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has something new, and leads to another."""
    monkeypatch.setattr(api, "MAX_PAGES", 20)
    items = [item(str(number), "/a.tif") for number in range(30)]
    with (
        quirky_api(items, Quirks(page_size=1)) as (url, asked),
        pytest.raises(SearchError, match=r"is page 21 of one answer, and no more than 20 are read"),
    ):
        fetch_items(url, "optical", [WORLD], *WHEN, inside=True)
    assert len(asked) <= 23


def test_lists_of_collections_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MAX_PAGES", 5)

    def endless(to: BaseHTTPRequestHandler) -> None:
        here = f"http://127.0.0.1:{to.server.server_address[1]}"
        if to.path == "/":
            body = {"type": "Catalog", "id": "x", "description": "x", "stac_version": "1.0.0",
                    "conformsTo": ["https://api.stacspec.org/v1.0.0/item-search"],
                    "links": [{"rel": "search", "href": f"{here}/search"}]}  # fmt: skip
            answer(to, 200, json.dumps(body).encode())
        elif to.path.startswith("/collections?"):
            page = int(to.path.rpartition("=")[2])
            links = [{"rel": "next", "href": f"{here}/collections?page={page + 1}"}]
            answer(to, 200, json.dumps({"collections": [], "links": links}).encode())
        elif to.path == "/collections":
            links = [{"rel": "next", "href": f"{here}/collections?page=1"}]
            answer(to, 200, json.dumps({"collections": [], "links": links}).encode())
        else:
            answer(to, 404, b"{}")

    with _answering(endless) as url, pytest.raises(SearchError, match="is page 6 of one answer"):
        fetch_items(url, "optical", [WORLD], *WHEN, inside=True)


def _begin(to: BaseHTTPRequestHandler) -> None:
    to.send_response(200)
    to.end_headers()  # without a length, it goes on to the end of the connection


@contextmanager
def _answering(send: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server that answers a GET so."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                send(self)
            except OSError:  # nobody listens any more
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as host:
        yield f"http://{host}"
