"""A small STAC API on loopback with the quirks that public ones were seen to have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.loopback import answer, serving

CONFORMS_TO = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/item-search",
]


@dataclass
class Quirks:
    """How an API departs from the specification."""

    post_status: int = 200
    """What a POST is answered with, 200 for pages."""
    collection_status: int = 200
    """What is answered to who asks for one collection."""
    listed: Sequence[Any] | None = ("optical",)
    """The collections in the list of all: ids, or whatever else; None: there is no list."""
    page_size: int = 3
    matched: str | None = "numberMatched"
    """Under which name it tells how many items match."""
    last_page: int | None = None
    """From this page on, counted from 0, `next` is lost."""
    empty_page: int | None = None
    """This page comes without items, though the next has some."""
    filters: bool = False
    """Whether it looks at the collection that is asked for."""
    busy: list[str] = field(default_factory=list)
    """Retry-After of the answers 429 that come before anything else."""


@contextmanager
def quirky_api(
    items: Sequence[dict[str, Any]], quirks: Quirks
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Serve items, whatever is asked for; yields the URL and the requests, method and path."""
    requests: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(("GET", self.path))
            url = urlsplit(self.path)
            here = f"http://127.0.0.1:{self.server.server_port}"
            if quirks.busy:
                self._answer(429, {}, {"Retry-After": quirks.busy.pop(0)})
            elif url.path == "/":
                self._answer(200, _landing(here))
            elif url.path == "/search":
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                self._answer(200, self._page(query, here))
            elif url.path == "/collections":
                known = [] if quirks.listed is None else [_listed(each) for each in quirks.listed]
                status = 404 if quirks.listed is None else 200
                self._answer(status, {"collections": known, "links": []})
            else:
                name = unquote(url.path.removeprefix("/collections/"))
                self._answer(quirks.collection_status, {"id": name, "type": "Collection"})

        def do_POST(self) -> None:
            requests.append(("POST", self.path))
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            here = f"http://127.0.0.1:{self.server.server_port}"
            page = self._page(query, here) if quirks.post_status == 200 else {}
            self._answer(quirks.post_status, page)

        def _page(self, query: dict[str, Any], here: str) -> dict[str, Any]:
            number = int(query.get("token", 0))
            start = number * quirks.page_size
            asked = query.get("collections", [])
            found = [each for each in items if not quirks.filters or _may_be_of(each, asked)]
            shown = found[start : start + quirks.page_size]
            if quirks.empty_page is not None and number >= quirks.empty_page:
                start -= quirks.page_size
                shown = found[start : start + quirks.page_size]
                shown = [] if number == quirks.empty_page else shown
            links = []
            if start + len(shown) < len(found) and number != quirks.last_page:
                token = {"token": str(number + 1)}
                # As in pystac-client#846 a POST leads on, though the first page was a GET.
                links = [{"rel": "next", "href": f"{here}/search", "method": "POST",
                          "body": token, "merge": True}]  # fmt: skip
            told: dict[str, Any] = {}
            if quirks.matched == "context":
                told = {"context": {"matched": len(items)}}
            elif quirks.matched:
                told = {quirks.matched: len(items)}
            return {"type": "FeatureCollection", "features": shown, "links": links, **told}

        def _answer(
            self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None
        ) -> None:
            answer(self, status, json.dumps(content).encode(), headers or {})

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as address:
        yield f"http://{address}", requests


def _may_be_of(item: Any, collections: Sequence[str]) -> bool:
    """Whether an item says that it is of one of these, or nothing that can be."""
    told = item.get("collection") if isinstance(item, dict) else None
    return not isinstance(told, str) or told in collections


def _landing(here: str) -> dict[str, Any]:
    links = [{"rel": "data", "href": f"{here}/collections"}]
    links += [{"rel": "search", "href": f"{here}/search", "type": "application/geo+json"}]
    return {
        "type": "Catalog", "id": "quirky", "description": "", "stac_version": "1.0.0",
        "conformsTo": CONFORMS_TO, "links": links,
    }  # fmt: skip


def _listed(collection: Any) -> Any:
    return {"id": collection, "type": "Collection"} if isinstance(collection, str) else collection
