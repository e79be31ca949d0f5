"""APIs that leave out a part of the specification: all items come, or it is said that not."""

from __future__ import annotations

import time
from typing import Any

import pytest

import catalog.archives.api
from catalog.archives.search import search
from catalog.errors import SearchError
from tests.support.quirky_api import Quirks, quirky_api
from tests.support.scenes import DAY, item

BBOX = (9.0, 49.0, 21.0, 51.0)
ITEMS = [item(f"i{n}", f"{n}.tif", box=(10.0 + n, 50.0, 10.5 + n, 50.1)) for n in range(7)]


def found_by(quirks: Quirks, collection: str = "optical") -> tuple[list[str], list[Any]]:
    """Ids of the scenes that a search finds, and what was asked for it."""
    with quirky_api(ITEMS, quirks) as (url, requests):
        return [scene.id for scene in search(url, collection, BBOX, DAY, DAY)], requests


EVERY = [f"i{n}" for n in range(7)]


@pytest.mark.parametrize("status", [403, 405])
def test_where_a_post_is_refused_a_get_is_sent_for_every_page(status: int) -> None:
    ids, requests = found_by(Quirks(post_status=status))
    assert ids == EVERY
    asked = [method for method, path in requests if path.startswith("/search")]
    assert asked == ["POST", "GET", "GET", "GET"]


def test_only_the_named_collection_is_looked_at() -> None:
    ids, requests = found_by(Quirks(listed=[{"type": "nonsense"}]))
    assert ids == EVERY
    assert not [path for _, path in requests if path == "/collections"]


@pytest.mark.parametrize(
    "listed", [["other", "optical"], [{"type": "nonsense"}, {"id": "optical", "extent": 7}], None]
)
def test_a_collection_that_is_not_told_by_itself_may_be_listed_or_not(listed: Any) -> None:
    ids, _ = found_by(Quirks(collection_status=404, listed=listed))
    assert ids == EVERY


def test_a_collection_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(SearchError, match="no collection 'optical'; it has: dem, sar"):
        found_by(Quirks(collection_status=404, listed=["sar", "dem", {"type": "nonsense"}]))


@pytest.mark.parametrize("matched", ["numberMatched", "numMatched", "context"])
def test_fewer_items_than_match_are_an_error_that_says_both_numbers(matched: str) -> None:
    with pytest.raises(SearchError, match=r"7 items of 'optical' match, and gave 3 of them"):
        found_by(Quirks(last_page=0, matched=matched))


@pytest.mark.parametrize("matched", ["numberMatched", None])
def test_an_empty_page_is_not_the_end_while_links_lead_on(matched: str | None) -> None:
    assert found_by(Quirks(empty_page=1, matched=matched))[0] == EVERY


def test_links_that_lead_on_from_empty_pages_end_somewhere() -> None:
    quirks = Quirks(empty_page=3, matched=None, page_size=2)
    with quirky_api([*ITEMS[:6], ITEMS[0]], quirks) as (url, requests):
        assert len(search(url, "optical", BBOX, DAY, DAY)) == 6
    assert len(requests) < 12


def test_a_busy_api_is_asked_again_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    assert found_by(Quirks(busy=["7", "nonsense", "60"]))[0] == EVERY
    assert [wait for wait in waits if wait >= 7] == [7, 60]


def test_a_wait_that_is_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog.archives.api, "LONGEST_WAIT_SECONDS", 90.0)
    with pytest.raises(SearchError, match=r"come again in 3600 s, .* no longer than 90 s"):
        found_by(Quirks(busy=["3600"]))
