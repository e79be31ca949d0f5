"""A STAC API of earnest, stac-fastapi on pgstac: it shows what is published, whatever befell it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest
import xarray as xr
import yaml
from distributed import Client as DaskClient
from pystac_client import Client

from catalog.retention import old_days, retire
from catalog.stac_api.reconcile import ApiChange, last_announced, reconcile
from catalog.store.schema import SlotSchema
from catalog.store.slot import SlotStore
from flows.cli.demo_region import OPTICAL_COLLECTION, SAR_COLLECTION, DemoRegion
from flows.cli.main import main
from tests.support.cubes import LATTICE, publish_day
from tests.support.pgstac import PASSWORD, TOKEN, USER, Pgstac, served_pgstac
from tests.support.slots import OPTICAL_SCENES, SCENES, slot_store

pytestmark = pytest.mark.faults

FIRST_DAY = date(2024, 3, 1)
DAYS, REMADE, RETIRED = 50, 5, 3
RED_VH = SlotSchema(("red",), ("vh",), SCENES, OPTICAL_SCENES)
RED_GREEN_VV_VH = SlotSchema(("red", "green"), ("vv", "vh"), SCENES, OPTICAL_SCENES)


@pytest.fixture(scope="module")
def api() -> Iterator[Pgstac]:
    with served_pgstac() as running:
        yield running


@pytest.fixture(autouse=True)
def token(api: Pgstac, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the environment; and the API is empty."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for each in httpx.get(f"{api.url}/collections").json()["collections"]:
        httpx.delete(f"{api.url}/collections/{each['id']}", headers=headers).raise_for_status()
    monkeypatch.setenv("TAR_STAC_API_HOST", api.host)
    monkeypatch.setenv("TAR_STAC_API_TOKEN", TOKEN)


def published_day(folder: Path, number: int, generation: str, schema: SlotSchema) -> SlotStore:
    """A day whose group has all that describes it, and no pixels."""
    slot = (FIRST_DAY + timedelta(days=number)).isoformat()
    store = slot_store(folder, slot=slot, generation=generation)
    store.create(LATTICE, schema, {"weights_sha256": "f00"})
    return publish_day(store)


def announce(api: Pgstac, folder: Path) -> ApiChange:
    return reconcile(api.url, str(folder), "la")


def announced_without_failure(api: Pgstac, folder: Path) -> ApiChange:
    change = announce(api, folder)
    assert change.announced.failures == ()
    return change


def require_exactly_what_is_published(api: Pgstac, folder: Path) -> None:
    """What a search finds says of every day what its item in the store says, and nothing else."""
    client = Client.open(api.url)
    found = list(client.search(collections=["la"], limit=7).items_as_dicts())
    there = {path.stem: json.loads(path.read_text()) for path in (folder / "la/items").iterdir()}
    assert sorted(item["properties"]["tar:slot"] for item in found) == sorted(there)
    for item in found:
        slot = item["properties"]["tar:slot"]
        own = {"tar:store", "tar:entry_sha256"}
        item["properties"] = {k: v for k, v in item["properties"].items() if k not in own}
        href = item["assets"]["mosaic"].pop("href")
        del there[slot]["assets"]["mosaic"]["href"]
        for part in ("id", "geometry", "bbox", "properties", "assets"):
            assert item[part] == there[slot][part], (slot, part)
        group = xr.open_zarr(href)
        assert {band["name"] for band in item["assets"]["mosaic"]["bands"]} <= group.keys()
    collection = client.get_collection("la").to_dict()
    told = json.loads((folder / "la/collection.json").read_text())
    for part in ("extent", "summaries", "cube:dimensions", "cube:variables"):
        assert collection[part] == told[part], part


def test_fifty_days_five_remade_three_retired_and_the_api_killed_in_the_middle(
    api: Pgstac, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(DAYS):
        published_day(tmp_path, number, f"{number:016x}", RED_VH)
    changes: list[ApiChange] = []
    sending = threading.Thread(target=lambda: changes.append(announce(api, tmp_path)))
    sending.start()
    while count_items(api) < DAYS // 3:
        time.sleep(0.02)
    api.kill()
    sending.join()
    assert 0 < len(changes[0].upserted) < DAYS
    say(capsys, "killed after", changes[0])

    remade = [
        published_day(tmp_path, number, f"{1000 + number:016x}", RED_GREEN_VV_VH)
        for number in range(RETIRED, RETIRED + REMADE)  # which the API has by now
    ]
    oldest = FIRST_DAY + timedelta(days=RETIRED)
    retire(str(tmp_path), "la", old_days(str(tmp_path), "la", oldest))
    down = announce(api, tmp_path)
    say(capsys, "still down", down)
    assert down.upserted == down.deleted == ()
    (line,) = down.announced.failures
    assert "Connection refused" in line
    assert api.url in line
    assert last_announced(str(tmp_path / "la")) == down.announced

    api.start()
    up = announced_without_failure(api, tmp_path)
    say(capsys, "up again", up)
    assert len(up.deleted) == RETIRED
    assert {f"la-{day.slot}" for day in remade} <= set(up.upserted)
    require_exactly_what_is_published(api, tmp_path)
    assert last_announced(str(tmp_path / "la")) == up.announced
    again = announced_without_failure(api, tmp_path)
    assert again.upserted == again.deleted == ()


def count_items(api: Pgstac) -> int:
    answer = httpx.get(f"{api.url}/collections/la/items", params={"limit": DAYS})
    return len(answer.json().get("features", []))


def say(capsys: pytest.CaptureFixture[str], what: str, change: ApiChange) -> None:
    with capsys.disabled():
        counts = f"{len(change.upserted)} sent, {len(change.deleted)} deleted"
        print(f"\n  {what}: {counts}; {' '.join(change.announced.failures) or 'all is there'}")


def test_entries_stay_as_they_are_when_the_newest_day_has_other_variables(
    api: Pgstac, tmp_path: Path
) -> None:
    """pgstac keeps of an item only what its collection's `item_assets` do not say."""
    published_day(tmp_path, 0, "a" * 16, RED_VH)
    announced_without_failure(api, tmp_path)
    published_day(tmp_path, 1, "b" * 16, RED_GREEN_VV_VH)
    announced_without_failure(api, tmp_path)
    require_exactly_what_is_published(api, tmp_path)


def test_the_collection_of_a_region_without_days_goes_but_what_others_put_there_stays(
    api: Pgstac, tmp_path: Path
) -> None:
    day = published_day(tmp_path, 0, "a" * 16, RED_VH)
    announced_without_failure(api, tmp_path)
    url, headers = f"{api.url}/collections/la", {"Authorization": f"Bearer {TOKEN}"}
    theirs = httpx.get(f"{url}/items").json()["features"][0] | {"id": "theirs", "links": []}
    del theirs["properties"]["tar:store"]
    httpx.post(f"{url}/items", json=theirs, headers=headers).raise_for_status()
    retire(str(tmp_path), "la", old_days(str(tmp_path), "la", date.max))
    assert announced_without_failure(api, tmp_path).deleted == (f"la-{day.slot}",)
    assert [each["id"] for each in httpx.get(f"{url}/items").json()["features"]] == ["theirs"]
    httpx.delete(f"{url}/items/theirs", headers=headers).raise_for_status()
    announced_without_failure(api, tmp_path)
    assert httpx.get(url).status_code == httpx.codes.NOT_FOUND


def test_a_collection_of_another_store_is_left_alone(api: Pgstac, tmp_path: Path) -> None:
    for store in (tmp_path / "first", tmp_path / "second"):
        published_day(store, 0, "a" * 16, RED_VH)
    announced_without_failure(api, tmp_path / "first")
    (line,) = announce(api, tmp_path / "second").announced.failures
    assert f"is not of {(tmp_path / 'second/la').as_uri()}" in line
    require_exactly_what_is_published(api, tmp_path / "first")


@pytest.mark.parametrize("given", [{}, {"TAR_STAC_API_TOKEN": "S3CRET-wrong"}])
def test_without_the_right_credentials_nothing_is_written_and_they_are_not_told(
    api: Pgstac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    for name in ("TAR_STAC_API_TOKEN", *([] if given else ["TAR_STAC_API_HOST"])):
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    published_day(tmp_path, 0, "a" * 16, RED_VH)
    caplog.set_level("DEBUG")
    (line,) = announce(api, tmp_path).announced.failures
    assert line.startswith(f"POST {api.url}/collections: answers 401")
    assert "S3CRET" not in line + caplog.text + (tmp_path / "la/stac-api.json").read_text()
    assert ("no credentials were sent" in line) == (not given)


def test_basic_authentication(api: Pgstac, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAR_STAC_API_TOKEN")
    monkeypatch.setenv("TAR_STAC_API_USER", USER)
    monkeypatch.setenv("TAR_STAC_API_PASSWORD", PASSWORD)
    published_day(tmp_path, 0, "a" * 16, RED_VH)
    announced_without_failure(api, tmp_path)
    require_exactly_what_is_published(api, tmp_path)


def test_an_api_that_lost_everything_gets_it_again(api: Pgstac, tmp_path: Path) -> None:
    published_day(tmp_path, 0, "a" * 16, RED_VH)
    announced_without_failure(api, tmp_path)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    httpx.delete(f"{api.url}/collections/la", headers=headers).raise_for_status()
    assert len(announced_without_failure(api, tmp_path).upserted) == 1
    require_exactly_what_is_published(api, tmp_path)


def test_nights_fill_an_api_that_was_down_and_take_from_it_what_they_retire(
    api: Pgstac, tmp_path: Path, small_region: DemoRegion, client: DaskClient,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    store = tmp_path / "store"
    region = {
        "name": "la", "bbox": list(small_region.bbox), "catalog": str(small_region.catalog),
        "optical": OPTICAL_COLLECTION, "sar": SAR_COLLECTION, "store": str(store),
        "scheduler": client.scheduler.address, "slots": "optical", "stac_api": api.url,
    }  # fmt: skip
    file = tmp_path / "regions.yaml"
    file.write_text(yaml.safe_dump({"regions": [region | {"keep_days": 30}]}))
    words = ["nightly", "--regions", str(file), "--days-back", "14", "--until"]
    api.kill()
    assert main([*words, small_region.end]) == 4
    told = capsys.readouterr().out
    assert f"registered: {store}/la; the STAC API {api.url} is behind: GET" in told
    assert (store / "la/items/2024-06-12.json").exists()
    api.start()
    assert main([*words, small_region.end]) == 0
    require_exactly_what_is_published(api, store)

    file.write_text(yaml.safe_dump({"regions": [region | {"keep_days": 1}]}))
    assert main([*words, small_region.end]) == 0
    assert not list((store / "la/items").iterdir())
    answer = httpx.get(f"{api.url}/collections/la")
    assert answer.status_code == httpx.codes.NOT_FOUND
