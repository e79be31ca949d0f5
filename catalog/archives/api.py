"""Asking a STAC API for items, whatever of the specification it leaves out.

Searches are POSTs, and GETs where these are refused; of the collections only the one that is
searched is looked at; pages are followed past a repeated or an empty one; and where the API tells
how many items match, so many have to come. What is read has its limits: of a page, of all, and of
pages.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any
from urllib.parse import quote, urljoin

from pystac_client import Client, ConformanceClasses
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import PystacClientWarning
from requests import RequestException
from urllib3 import BaseHTTPResponse, Retry
from urllib3.exceptions import InvalidHeader

from catalog.errors import SearchError
from catalog.grid import BBox
from catalog.outside.answers import TIMEOUT_SECONDS, Limits, bound
from catalog.retrying import ATTEMPTS, FIRST_WAIT_SECONDS

logger = logging.getLogger(__name__)

PAGE_SIZE = 100
RETRIES = ATTEMPTS - 1  # the first at once, or when the answer says to come again
LONGEST_WAIT_SECONDS = 120.0  # for an answer that says when to come again
RETRIED_STATUSES = (429, 500, 502, 503, 504)
POST_REFUSED = (403, 405, 501)
NOT_TOLD = (400, 401, 403, 404, 405, 501)  # of a collection, or of the list of all
MAX_REPEATED_PAGES = 3  # with nothing new on them, one after the other
LIMITS = Limits(
    answer_bytes=32 * 2**20,  # a page of Sentinel-2 has some megabytes
    all_bytes=2**30,
    seconds=600.0,
)
MAX_PAGES = 2000  # of one search, or of the list of collections
MAX_EMPTY_PAGES = 3  # one after the other; then it was the end, though links lead on


def fetch_items(
    api_url: str,
    collection: str,
    boxes: Sequence[BBox],
    first: datetime,
    last: datetime,
    *,
    inside: bool = False,
) -> list[Any]:
    """The items of a collection that an API finds in any of the boxes, each once, as they come.

    `inside`: whether its links may lead to this machine and its network.

    Raises SearchError when the API cannot be reached, is no item search, does not know the
    collection, gives fewer items than it says match, answers nonsense, or without end.
    """
    try:
        with warnings.catch_warnings():
            # Conformance is checked below, and there it is an error rather than a warning.
            warnings.simplefilter("ignore", PystacClientWarning)
            client = _open_client(api_url, inside=inside)
            if not client.conforms_to(ConformanceClasses.ITEM_SEARCH):
                raise SearchError(
                    f"{api_url} is no STAC API with item search (it does not declare that "
                    "conformance class); give the address of an API's landing page",
                    url=api_url,
                )
            _require_collection(client, collection, api_url)
            found: dict[str, Any] = {}
            for box in boxes:
                found |= _search_box(client, collection, box, first, last, api_url)
            return list(found.values())
    except (APIError, RequestException) as error:
        raise SearchError(
            f"the catalog {api_url} cannot be reached or failed to answer: {error}", url=api_url
        ) from error
    except SearchError:
        raise
    except Exception as error:
        # pystac raises whatever its parsing runs into when an address answers something else.
        raise SearchError(
            f"{api_url} does not answer like a STAC API ({type(error).__name__}: {error})",
            url=api_url,
        ) from error


class Patience(Retry):
    """Retries that come again when the answer says, unless that is too long."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        try:
            seconds = super().get_retry_after(response)
        except InvalidHeader:
            return None
        if seconds is None or seconds <= LONGEST_WAIT_SECONDS:
            return seconds
        raise SearchError(
            f"it asks to come again in {seconds:.0f} s, and a run waits no longer than "
            f"{LONGEST_WAIT_SECONDS:.0f} s",
            url="",
        )


def _open_client(api_url: str, *, inside: bool) -> Client:
    retry = Patience(
        total=RETRIES,
        backoff_factor=FIRST_WAIT_SECONDS,
        status_forcelist=RETRIED_STATUSES,
        allowed_methods=None,  # a search is a POST, and repeating it is harmless
    )
    io = StacApiIO(timeout=TIMEOUT_SECONDS)
    bound(io.session, LIMITS, inside=inside, retries=retry)
    return Client.open(api_url, stac_io=io, timeout=TIMEOUT_SECONDS)


def _io_of(client: Client) -> StacApiIO:
    assert isinstance(client._stac_io, StacApiIO)
    return client._stac_io


def _require_collection(client: Client, collection: str, api_url: str) -> None:
    """Look the collection up; where that tells nothing, look for it among all.

    What any other collection looks like does not matter. Raises SearchError when it is not there.
    """
    listed = client.get_single_link("data")
    all_url = (
        urljoin(f"{api_url}/", listed.href) if listed else f"{api_url.rstrip('/')}/collections"
    )
    try:
        json.loads(_io_of(client).request(f"{all_url}/{quote(collection, safe='')}"))
        return
    except APIError as error:
        if _status(error) not in NOT_TOLD:
            raise
    try:
        pages = list(_pages(_io_of(client), {"href": all_url}, all_url))
    except APIError as error:
        if _status(error) not in NOT_TOLD:
            raise
        logger.warning("%s does not tell its collections: is there %r?", api_url, collection)
        return
    every = [each for page in pages for each in page["collections"] if isinstance(each, Mapping)]
    known = sorted(each["id"] for each in every if isinstance(each.get("id"), str))
    if collection not in known:
        raise SearchError(
            f"{api_url} has no collection {collection!r}; it has: {', '.join(known) or 'none'}",
            url=api_url,
        )


def _search_box(
    client: Client, collection: str, box: BBox, first: datetime, last: datetime, api_url: str
) -> dict[str, Any]:
    """By id, the items found in one box. Raises SearchError when some of them do not come."""
    search = client.search(
        collections=[collection], bbox=box, datetime=(first, last), limit=PAGE_SIZE
    )
    found: dict[str, Any] = {}
    matched: list[int] = []
    repeated = empty = 0
    asked = {"href": search.url, "method": "POST", "body": search.get_parameters()}
    for page in _pages(_io_of(client), asked, search.url):
        known, items = len(found), page["features"]
        for item in items:
            found.setdefault(_key(item), item)
        matched += _matched(page)
        empty = 0 if items else empty + 1
        repeated = repeated + 1 if items and len(found) == known else 0
        if repeated == MAX_REPEATED_PAGES:
            raise SearchError(f"{api_url} answers with the same page again and again", url=api_url)
        if empty == MAX_EMPTY_PAGES:
            break
    if matched and len(found) < min(matched):  # there may be more of them by the last page
        raise SearchError(
            f"{api_url} says that {min(matched)} items of {collection!r} match, and gave "
            f"{len(found)} of them: its pages do not lead to all; ask again, or for fewer days",
            url=api_url,
        )
    return found


def _pages(io: StacApiIO, first: Mapping[str, Any], url: str) -> Iterator[dict[str, Any]]:
    """The pages from a first link on, one after the other as their links lead.

    Raises SearchError when they do not end.
    """
    link: Mapping[str, Any] | None = first
    body = first.get("body") or {}
    post_refused = False
    for number in count():
        if link is None:
            return
        if number == MAX_PAGES:
            raise SearchError(
                f"{url} is page {MAX_PAGES + 1} of one answer, and no more than {MAX_PAGES} are "
                "read; ask for fewer days or a smaller region",
                url=url,
            )
        url = urljoin(url, link["href"])
        query = {**(body if link.get("merge") else {}), **(link.get("body") or {})}
        method = str(link.get("method") or "GET").upper()
        answer = None
        if method == "POST" and not post_refused:
            try:
                answer = io.request(url, "POST", link.get("headers"), query)
            except APIError as error:
                if _status(error) not in POST_REFUSED:
                    raise
                post_refused = True
        if answer is None:
            # The address of a GET that leads on holds all that it asks.
            asked = _query_of(query) if method == "POST" else {}
            answer = io.request(url, "GET", link.get("headers"), asked)
        page = json.loads(answer)
        yield page
        link = next((each for each in page.get("links") or () if each.get("rel") == "next"), None)


def _key(item: Any) -> str:
    """What tells an item from others: its id, or of an odd one all that it has."""
    has_id = isinstance(item, Mapping) and isinstance(item.get("id"), str)
    return item["id"] if has_id else json.dumps(item, sort_keys=True)


def _matched(page: Mapping[str, Any]) -> list[int]:
    """How many items match in all, by each of the names that this has had."""
    context = page.get("context")
    told = [page.get("numberMatched"), page.get("numMatched")]
    told += [context.get("matched")] if isinstance(context, Mapping) else []
    return [number for number in told if isinstance(number, int)]


def _query_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a POST as the query of a GET."""
    return {
        key: ",".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in body.items()
    }


def _status(error: APIError) -> int | None:
    return getattr(error, "status_code", None)
