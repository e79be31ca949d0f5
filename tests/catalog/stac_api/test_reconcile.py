"""Whatever was in a STAC API and in a store before: afterwards the one shows what the other has."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pystac
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import ArgumentError, StoreError
from catalog.stac_api.connection import HOST, PASSWORD, TOKEN, USER, validated_api_url
from catalog.stac_api.entries import CHECKSUM, STORE, item_entry
from catalog.stac_api.reconcile import AWAY, MOST_FAILURES, ApiChange, last_announced, reconcile
from tests.support.cubes import LATTICE, publish_day
from tests.support.slots import SCHEMA, slot_store
from tests.support.small_stac_api import SmallStacApi, small_stac_api

DAYS = [f"2020-11-{day:02d}" for day in range(1, 9)]
GENERATIONS = [letter * 16 for letter in "abc"]
Days = Mapping[str, str]
"""Generations by day."""


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (HOST, TOKEN, USER, PASSWORD):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def api_of_module() -> Iterator[SmallStacApi]:
    with small_stac_api() as running:
        yield running


@pytest.fixture
def api(api_of_module: SmallStacApi) -> SmallStacApi:
    """Empty, and without fault."""
    empty = SmallStacApi(api_of_module.url)
    vars(api_of_module).update(vars(empty))
    return api_of_module


@pytest.fixture(scope="module")
def item(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The item of a published day."""
    store = slot_store(tmp_path_factory.mktemp("day"), slot=DAYS[0], generation=GENERATIONS[0])
    store.create(LATTICE, SCHEMA, {"weights_sha256": "f00"})
    return Path(publish_day(store).item_url).read_text()


def put_items(folder: Path, item: str, days: Days) -> None:
    """The store's region has these days, and no other."""
    items = folder / "la/items"
    shutil.rmtree(items, ignore_errors=True)
    items.mkdir(parents=True)
    for day, generation in days.items():
        text = item.replace(DAYS[0], day).replace(GENERATIONS[0], generation)
        (items / f"{day}.json").write_text(text)


def announce(api: SmallStacApi, folder: Path) -> ApiChange:
    return reconcile(api.url, str(folder), "la")


def shown(api: SmallStacApi, folder: Path) -> Days:
    """What the API shows of a store."""
    properties = [each["properties"] for each in api.items.get("la", {}).values()]
    own = (folder / "la").as_uri()
    return {p["tar:slot"]: p["tar:generation"] for p in properties if p.get(STORE) == own}


days_of_a_store = st.dictionaries(st.sampled_from(DAYS), st.sampled_from(GENERATIONS))


@settings(max_examples=10)
@given(before=days_of_a_store, after=days_of_a_store, refused=st.sets(st.sampled_from(DAYS)))
def test_whatever_was_there_before_exactly_what_is_published_is_shown(
    api_of_module: SmallStacApi, item: str, before: Days, after: Days, refused: set[str]
) -> None:
    api = api_of_module
    vars(api).update(vars(SmallStacApi(api.url, faults=dict.fromkeys(refused, 400))))
    with TemporaryDirectory() as name:
        folder = Path(name)
        put_items(folder, item, before)
        first = announce(api, folder)
        # What is refused keeps nothing else out.
        assert shown(api, folder) == {d: g for d, g in before.items() if d not in refused}
        assert len(first.announced.failures) == len(before.keys() & refused)
        api.faults.clear()
        theirs = {"id": "theirs", "properties": {}}
        if before:
            api.items.setdefault("la", {})["theirs"] = theirs
        put_items(folder, item, after)
        assert announce(api, folder).announced.failures == ()
        assert shown(api, folder) == after
        assert not before or api.items["la"]["theirs"] == theirs
        assert ("la" in api.collections) == bool(before or after)
        asked = len(api.requests)
        again = announce(api, folder)
        assert again.upserted == again.deleted == ()
        assert all(method == "GET" for method, *_ in api.requests[asked:])


def test_entries_are_stac_and_lead_to_the_store(
    api: SmallStacApi, item: str, tmp_path: Path
) -> None:
    put_items(tmp_path, item, dict.fromkeys(DAYS, GENERATIONS[1]))
    announce(api, tmp_path)
    region = (tmp_path / "la").as_uri()
    for each in api.items["la"].values():
        entry = pystac.Item.from_dict(each, migrate=False)
        slot = entry.properties["tar:slot"]
        assert entry.assets["mosaic"].href == f"{region}/slots/{slot}/{GENERATIONS[1]}.zarr"
        assert [(link.rel, link.href) for link in entry.links] == [
            ("canonical", f"{region}/items/{slot}.json")
        ]
    collection = pystac.Collection.from_dict(api.collections["la"], migrate=False)
    assert [link["rel"] for link in api.collections["la"]["links"]] == ["license", "canonical"]
    (times,) = collection.extent.temporal.intervals
    assert str(times[0]) <= str(times[1])


def test_entries_lead_into_a_bucket(item: str) -> None:
    published = pystac.Item.from_dict(json.loads(item), migrate=False)
    entry = item_entry(published, "s3://mosaics/all/la")
    group = f"s3://mosaics/all/la/slots/{DAYS[0]}/{GENERATIONS[0]}.zarr"
    assert entry["assets"]["mosaic"]["href"] == group
    assert entry["properties"][STORE] == "s3://mosaics/all/la"


def test_a_collection_of_another_store_or_program_stays(
    api: SmallStacApi, item: str, tmp_path: Path
) -> None:
    put_items(tmp_path, item, {DAYS[0]: GENERATIONS[0]})
    for other, told in (({}, "another program"), ({STORE: "s3://theirs/la"}, "s3://theirs/la")):
        api.collections["la"] = {"id": "la", **other}
        (line,) = announce(api, tmp_path).announced.failures
        assert f"but of {told}, and stays as it is" in line
        assert api.collections["la"] == {"id": "la", **other}
        assert "la" not in api.items


def test_an_item_that_is_there_though_no_page_shows_it_is_replaced(
    api: SmallStacApi, item: str, tmp_path: Path
) -> None:
    put_items(tmp_path, item, {DAYS[0]: GENERATIONS[0]})
    announce(api, tmp_path)
    api.items["la"][f"la-{DAYS[0]}"]["properties"] = {}
    assert announce(api, tmp_path).upserted == (f"la-{DAYS[0]}",)
    assert CHECKSUM in api.items["la"][f"la-{DAYS[0]}"]["properties"]


def test_an_api_that_refuses_everything_is_not_asked_for_everything(
    api: SmallStacApi, item: str, tmp_path: Path
) -> None:
    many = {f"2021-{month:02d}-{day:02d}": GENERATIONS[0]
            for month in (1, 2) for day in range(1, 15)}  # fmt: skip
    put_items(tmp_path, item, many)
    api.faults = dict.fromkeys(many, 400)
    assert len(announce(api, tmp_path).announced.failures) == MOST_FAILURES < len(many)
    assert all(status != 400 for status in AWAY)
    api.faults = {"": 403}
    (line,) = announce(api, tmp_path).announced.failures
    assert "answers 403 (" in line


def test_how_it_was_left_is_kept_beside_the_region(
    api: SmallStacApi, item: str, tmp_path: Path
) -> None:
    region = str(tmp_path / "la")
    assert last_announced(region) is None
    put_items(tmp_path, item, {DAYS[0]: GENERATIONS[0]})
    api.faults = {"": 405}
    left = announce(api, tmp_path).announced
    assert left.told == (
        f"the STAC API {api.url} is behind: POST {api.url}/collections: answers 405 "
        '({"detail": "as asked"}); does this API have the Transaction extension?'
    )
    assert last_announced(region) == left
    api.faults.clear()
    announce(api, tmp_path)
    assert last_announced(region) == announce(api, tmp_path).announced
    (tmp_path / "la/stac-api.json").write_text(json.dumps({"url": 3}))
    with pytest.raises(StoreError, match="damaged"):
        last_announced(region)


def test_a_store_that_cannot_be_read_deletes_nothing(
    api: SmallStacApi, item: str, tmp_path: Path
) -> None:
    put_items(tmp_path, item, dict.fromkeys(DAYS, GENERATIONS[0]))
    announce(api, tmp_path)
    before: dict[str, Any] = json.loads(json.dumps(api.items))
    (tmp_path / f"la/items/{DAYS[2]}.json").write_text("{")
    with pytest.raises(StoreError, match=DAYS[2]):
        announce(api, tmp_path)
    assert api.items == before


@pytest.mark.parametrize(
    "url", ["items.json", "ftp://host", "https://", "https://me:S3CRET@host", "http://host/?k=S3CRET"]
)  # fmt: skip
def test_an_address_is_a_plain_one(url: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        validated_api_url(url)
    assert "S3CRET" not in str(caught.value)
    assert validated_api_url("https://host:8080/stac/") == "https://host:8080/stac"
