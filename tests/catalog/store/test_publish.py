"""Publishing: valid STAC, deterministic bytes, and the item as the commit."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pystac
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pystac.extensions.datacube import DatacubeExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.validation import validate_dict

from catalog import objects
from catalog.archives.pairs import Pair
from catalog.errors import ArgumentError, StoreError
from catalog.grid import lattice_for
from catalog.store.publish import generation_name, publish, published_generation
from catalog.store.schema import SlotSchema
from catalog.store.slot import SlotStore
from catalog.store.stac import encoded, region_collection, slot_item
from tests.support.scenes import NOON, scene

BOX = (-118.0, 33.75, -117.97, 33.77)
LATTICE = lattice_for(BOX)
SCHEMA = SlotSchema(("red",), ("vh",), {"s": NOON}, {"o": NOON})
PIXELS = SCHEMA.empty(LATTICE.shape)
PROVENANCE = {
    "optical_scenes": ["o"],
    "sar_scenes": ["s"],
    "software": "tar-pipeline 0.1.0",
    "weights_sha256": "f00",
    "configuration": {"max_offset_px": 32.0},
}


def pairs(days: int = 0) -> list[Pair]:
    when = NOON + timedelta(days=days)
    optical = scene("o", (-118.1, 33.7, -117.98, 33.8), when)
    sar = scene("s", BOX, when + timedelta(days=3))
    return [Pair(optical, sar, 1.0, timedelta(days=3))]


def slot_store(store: object, slot: str = "2020-11-04", generation: str = "abc") -> SlotStore:
    return SlotStore(str(store), "la", slot, generation)


def create(store: object, slot: str = "2020-11-04", generation: str = "abc") -> SlotStore:
    """A slot whose group is there, so that it can be published."""
    made = slot_store(store, slot, generation)
    made.create(LATTICE, SCHEMA, {})
    return made


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_item_and_collection_are_valid_stac(tmp_path: Path) -> None:
    publish(create(tmp_path), LATTICE, pairs(), PROVENANCE)
    publish(create(tmp_path, "2020-11-09"), LATTICE, pairs(days=5), PROVENANCE)
    # The core schemas come with pystac. Those of the extensions are only to be had by network, so
    # what they describe is read back by pystac's own classes for these versions, further below.
    for name in ("items/2020-11-04.json", "items/2020-11-09.json", "collection.json"):
        validate_dict({**read(tmp_path / "la" / name), "stac_extensions": []})
    collection = pystac.Collection.from_file(str(tmp_path / "la/collection.json"))
    items = list(collection.get_items())
    assert [item.id for item in items] == ["la-2020-11-04", "la-2020-11-09"]
    assert all(item.get_collection() is collection for item in items)
    assert items[0].assets["mosaic"].get_absolute_href() == slot_store(tmp_path).url


def test_extensions_are_read_by_pystac(tmp_path: Path) -> None:
    publish(create(tmp_path), LATTICE, pairs(), PROVENANCE)
    publish(create(tmp_path, "2020-11-09"), LATTICE, pairs(days=5), PROVENANCE)
    collection = pystac.Collection.from_file(str(tmp_path / "la/collection.json"))
    item = next(iter(collection.get_items()))
    assert ProjectionExtension.get_schema_uri() in item.stac_extensions
    assert DatacubeExtension.get_schema_uri() in item.stac_extensions
    assert item.ext.proj.code == "EPSG:32611"
    assert item.ext.proj.bbox == list(LATTICE.geobox.boundingbox.bbox)
    x, y = LATTICE.centres(LATTICE.window)
    for owner, names in ((item, {"x", "y"}), (collection, {"x", "y", "time"})):
        dimensions = owner.ext.cube.dimensions
        assert set(dimensions) == names
        assert dimensions["x"].extent == [x[0], x[-1]]
        assert dimensions["y"].extent == [y[-1], y[0]]
        assert dimensions["y"].step == -10
        assert dimensions["x"].reference_system == 32611
        variables = owner.ext.cube.variables
        assert set(variables) == set(PIXELS)
        assert all(set(each.dimensions) == names for each in variables.values())
        assert variables["vh"].var_type == "data"
        assert variables["vh"].unit == "1"
    time = collection.ext.cube.dimensions["time"]
    assert time.extent == ["2020-11-04T00:00:00Z", "2020-11-09T00:00:00Z"]
    assert len(time.values) == 2
    summaries = collection.summaries.to_dict()
    assert summaries["proj:code"] == ["EPSG:32611"]
    assert summaries["gsd"] == [10.0]
    assert summaries["tar:software"] == [PROVENANCE["software"]]
    bands = {band["name"]: band for band in item.assets["mosaic"].to_dict()["bands"]}
    assert (bands["vh"]["data_type"], bands["quality"]["data_type"]) == ("float32", "uint8")
    assert collection.item_assets["mosaic"].properties["bands"] == list(bands.values())


def test_days_on_other_grids_are_no_part_of_the_cube(tmp_path: Path) -> None:
    coarse = lattice_for(BOX, resolution=20.0)
    items = [
        slot_item(slot_store(tmp_path, slot), lattice, PIXELS, pairs(days), PROVENANCE)
        for slot, days, lattice in (("2020-11-04", 0, coarse), ("2020-11-09", 5, LATTICE))
    ]
    collection = region_collection("la", items)
    dimensions = collection.ext.cube.dimensions
    assert dimensions["time"].values == ["2020-11-09T00:00:00Z"]
    assert dimensions["x"].step == 10.0
    assert collection.summaries.get_list("gsd") == [10.0, 20.0]


def test_the_item_says_what_when_where_and_from_what(tmp_path: Path) -> None:
    item = slot_item(slot_store(tmp_path), LATTICE, PIXELS, pairs(), PROVENANCE)
    properties = json.loads(encoded(item))["properties"]
    assert properties["datetime"] == properties["start_datetime"] == "2020-11-04T18:35:00Z"
    assert properties["end_datetime"] == "2020-11-07T18:35:00Z"
    assert properties["proj:code"] == "EPSG:32611"
    assert properties["proj:shape"] == list(LATTICE.shape)
    assert properties["proj:transform"] == list(LATTICE.transform)
    assert properties["tar:generation"] == "abc"
    for key, value in PROVENANCE.items():
        assert properties[f"tar:{key}"] == value
    assert item.assets["mosaic"].media_type == "application/vnd.zarr; version=3"
    footprint = shapely.geometry.shape(item.geometry)
    assert item.bbox == list(footprint.bounds)
    assert footprint.bounds[2] == -117.98  # the optical scene ends there, the region does not
    assert LATTICE.lonlat_extent().buffer(1e-6).contains(footprint)


def test_the_collection_spans_its_items(tmp_path: Path) -> None:
    items = [
        slot_item(slot_store(tmp_path, slot), LATTICE, PIXELS, pairs(days), PROVENANCE)
        for slot, days in (("2020-11-09", 5), ("2020-11-04", 0))
    ]
    extent = region_collection("la", items).extent.to_dict()
    assert extent["temporal"]["interval"] == [["2020-11-04T18:35:00Z", "2020-11-12T18:35:00Z"]]
    assert extent["spatial"]["bbox"] == [items[0].bbox]


def test_every_value_is_summarised_however_many(tmp_path: Path) -> None:
    versions = [f"tar-pipeline 0.{number}.0" for number in range(30)]
    items = [
        slot_item(
            slot_store(tmp_path, f"2020-11-{day:02}"), LATTICE, PIXELS, pairs(day),
            {**PROVENANCE, "software": software},
        )
        for day, software in enumerate(versions, start=1)
    ]  # fmt: skip
    collection = json.loads(encoded(region_collection("la", items)))
    assert collection["summaries"]["tar:software"] == sorted(versions)


def test_the_item_is_the_commit(tmp_path: Path) -> None:
    store = create(tmp_path)
    assert published_generation(str(tmp_path), "la", "2020-11-04") is None
    (tmp_path / "la/items").write_text("in the way")
    with pytest.raises(StoreError, match="items"):
        publish(store, LATTICE, pairs(), PROVENANCE)
    assert published_generation(str(tmp_path), "la", "2020-11-04") is None
    (tmp_path / "la/items").unlink()
    assert publish(store, LATTICE, pairs(), PROVENANCE) == store.item_url
    assert published_generation(str(tmp_path), "la", "2020-11-04") == "abc"
    publish(create(tmp_path, generation="def"), LATTICE, pairs(), PROVENANCE)
    assert published_generation(str(tmp_path), "la", "2020-11-04") == "def"
    links = read(tmp_path / "la/collection.json")["links"]
    assert [link["rel"] for link in links] == ["root", "license", "item"]


def test_publishing_again_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two", "two"):
        publish(create(tmp_path / name), LATTICE, pairs(), PROVENANCE)
    for name in ("items/2020-11-04.json", "collection.json"):
        one, two = (tmp_path / store / "la" / name for store in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_a_crs_without_code_is_spelled_out(tmp_path: Path) -> None:
    crs = "+proj=laea +lat_0=34 +lon_0=-118 +datum=WGS84 +units=m"
    item = slot_item(slot_store(tmp_path), lattice_for(BOX, crs), PIXELS, pairs(), PROVENANCE)
    properties = json.loads(encoded(item))["properties"]
    assert properties["proj:code"] is None
    assert "Lambert Azimuthal" in properties["proj:wkt2"]


def test_a_sar_slot_has_the_time_and_the_ground_of_its_radar(tmp_path: Path) -> None:
    pass_ = scene("s", (-118.0, 33.75, -117.975, 33.77), NOON + timedelta(days=20))
    east = scene("o", (-117.98, 33.7, -117.97, 33.8), NOON)
    shown = [Pair(east, pass_, 0.5, timedelta(days=20))]
    for used, start, title in (
        ([], "2020-11-24", "SAR registered by memory, no optical"),
        (shown, "2020-11-04", "SAR registered to the latest optical and by memory"),
    ):
        item = slot_item(slot_store(tmp_path, "2020-11-24"), LATTICE, PIXELS, used, {}, [pass_])
        properties = json.loads(encoded(item))["properties"]
        assert properties["datetime"] == properties["end_datetime"] == "2020-11-24T18:35:00Z"
        assert properties["start_datetime"] == f"{start}T18:35:00Z"
        assert properties["title"] == f"la, 2020-11-24: {title}"
        assert item.bbox is not None
        assert item.bbox[2] >= -117.97 if used else item.bbox[2] == -117.975


def test_nothing_to_publish_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no pairs"):
        publish(slot_store(tmp_path), LATTICE, [], PROVENANCE)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_item_is_told(tmp_path: Path) -> None:
    url = slot_store(tmp_path).item_url
    for content in (b"", b"[]", b'{"properties": {}}'):
        objects.put(url, content)
        with pytest.raises(StoreError, match="not an item of this program"):
            published_generation(str(tmp_path), "la", "2020-11-04")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text(), json_values), st.randoms())
def test_generation_names_depend_on_content_alone(payload: dict[str, Any], random: Any) -> None:
    keys = list(payload)
    random.shuffle(keys)
    name = generation_name(payload)
    assert name == generation_name({key: payload[key] for key in keys})
    assert len(name) == 16
    assert set(name) <= set("0123456789abcdef")
    assert name != generation_name({**payload, "one more": 1, **({} if payload else {"x": 2})})


def test_generation_names_are_stable_across_versions() -> None:
    # Changing this name orphans every published mosaic.
    assert generation_name({"pairs": [["a", "b"]], "weights": "f00"}) == "3a5b09033c829587"
