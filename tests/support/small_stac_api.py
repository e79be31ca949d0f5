"""A stand-in for a STAC API with transactions: on loopback, in memory, and at fault when asked.

It answers as stac-fastapi on pgstac was seen to (`pgstac.py`, whose tests are long): a POST of what
is there 409, a PUT or DELETE of what is not 404, items in pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.loopback import answer, serving

PAGE_SIZE = 3


@dataclass
class SmallStacApi:
    """What it has, what it was asked, and what it answers instead."""

    url: str = ""
    collections: dict[str, Any] = field(default_factory=dict)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By collection and id."""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and Authorization."""
    faults: dict[str, int] = field(default_factory=dict)
    """Statuses of requests that write what ends so: "" is all of them."""
    location: str = ""
    """Where a redirect leads to."""
    next_page: str = ""
    """Where each page leads to, instead of to the next."""

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    def handle(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """The status and content of an answer."""
        url = urlsplit(path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        written = str(body["id"]) if body else parts[-1]
        for end, status in self.faults.items():
            if method != "GET" and written.endswith(end):
                return status, {"detail": "as asked"}
        if len(parts) > 2:
            found = self.items.setdefault(parts[1], {}) if parts[1] in self.collections else None
            if found is None:
                return 404, {}
            if method == "GET":
                start = int(parse_qs(url.query).get("token", ["0"])[0])
                return 200, self._page(list(found.values()), parts[1], start)
            return _change(found, method, parts[3:], body)
        if method == "GET":
            there = parts[1] in self.collections
            return (200, self.collections[parts[1]]) if there else (404, {})
        if method == "DELETE":
            self.items.pop(parts[1], None)
        return _change(self.collections, method, parts[1:], body)

    def _page(self, items: list[Any], collection: str, start: int) -> dict[str, Any]:
        end = start + PAGE_SIZE
        there = self.next_page or f"{self.url}/collections/{collection}/items?token={end}"
        links = [{"rel": "next", "href": there}] if end < len(items) or self.next_page else []
        return {"type": "FeatureCollection", "features": items[start:end], "links": links}


@contextmanager
def small_stac_api() -> Iterator[SmallStacApi]:
    """One that is empty, for the length of the block."""
    api = SmallStacApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            api.requests.append((self.command, self.path, self.headers.get("Authorization")))
            status, content = api.handle(self.command, self.path, body)
            headers = {"Location": api.location} if api.location else {}
            answer(self, status, json.dumps(content).encode(), headers)

        do_GET = do_POST = do_PUT = do_DELETE = _handle

        def log_message(self, *_: object) -> None:
            """Not to standard error."""

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        api.url = f"http://{address}"
        yield api


def _change(found: dict[str, Any], method: str, parts: list[str], body: Any) -> tuple[int, Any]:
    """Write into a list, or delete from it."""
    if method == "POST":
        if body["id"] in found:
            return 409, {"detail": "is there"}
        found[body["id"]] = body
        return 201, body
    (id_,) = parts
    if id_ not in found:
        return 404, {"detail": "is not there"}
    if method == "DELETE":
        return 200, found.pop(id_)
    found[id_] = body
    return 200, body
