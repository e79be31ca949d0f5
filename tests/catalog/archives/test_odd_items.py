"""Whatever an archive serves in an item: a scene, or a reason by its name, and nothing else."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from catalog.archives.acquisitions import one_of_each
from catalog.archives.items import Scene, read_items
from catalog.archives.pairs import pair_scenes
from catalog.archives.providers import PROVIDERS, Provider
from catalog.archives.sar_days import choose_sar, pair_latest
from tests.support.odd_items import mutated, removed, replaced
from tests.support.scenes import item

API = "https://stac.example.org"
REGION = (10.0, 50.0, 10.1, 50.1)
TIFF = {"type": "image/tiff", "roles": ["data"]}


def optical() -> dict[str, Any]:
    """An item with everything in it that anything reads."""
    made = item(
        "S2", "s2.tif",
        platform="sentinel-2a", **{
            "eo:cloud_cover": 12.5, "sat:orbit_state": "descending", "sat:relative_orbit": 65,
            "s2:processing_baseline": "05.09", "s2:generation_time": "2020-11-05T01:02:03Z",
            "s2:product_uri": "S2A_MSIL2A_20201104T183541_N0509_R027_T11SLT_20201104T203551.SAFE",
            "s2:datastrip_id": "S2A_OPER_MSI_L2A_DS_VGS2_20201104T203551_S20201104T183812_N05.09",
            "proj:transform": [10, 0, 600000, 0, -10, 5200020], "gsd": 10,
        },
    )  # fmt: skip
    band = {"name": "B04", "common_name": "red", "eo:common_name": "red"}
    made["links"] = [{"rel": "self", "href": "https://stac.example.org/items/S2"}]
    made["assets"] = {
        "B04": {
            "href": "B04_10m.tif", **TIFF, "eo:bands": [band], "bands": [band], "file:size": 123,
            "raster:bands": [{"nodata": 0, "scale": 1e-4, "offset": -0.1}],
            "proj:transform": [10, 0, 600000, 0, -10, 5200020, 0, 0, 1],
        },
        "B02_20m": {"href": "s3://b/B02.tif", **TIFF, "nodata": "nan", "raster:scale": 0.5},
        "SCL": {"href": "/data/scl.tif", **TIFF},
    }  # fmt: skip
    return made


def sar() -> dict[str, Any]:
    made = item(
        "S1", "s1.tif", collection="sentinel-1-grd",
        platform="sentinel-1a", **{
            "sat:orbit_state": "descending", "sat:relative_orbit": 168, "sar:product_type": "GRD",
            "sar:polarizations": ["VV", "VH"], "processing:version": "003.71",
            "processing:datetime": "2020-11-04T20:00:00Z", "created": "2020-11-05T00:00:00Z",
            "processing:software": {"Sentinel-1 IPF": "003.71"},
            "start_datetime": "2020-11-04T18:35:41Z", "end_datetime": "2020-11-04T18:36:06Z",
        },
    )  # fmt: skip
    made["assets"] = {
        "vv": {"href": "vv.tif", **TIFF, "sar:polarizations": ["VV"]},
        "gamma0_vh": {"href": "vh.tif", **TIFF},
        "schema-product-vv": {"href": "a/annotation/vv.xml", "roles": ["metadata"]},
    }
    return made


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(
    odd=st.one_of(mutated(optical()), mutated(sar())),
    provider=st.sampled_from(list(PROVIDERS.values())),
)
def test_every_item_is_a_scene_or_has_its_reason(odd: Any, provider: Provider) -> None:
    scenes, refused = read_items([odd], API, provider)
    assert len(scenes) + len(refused) == 1
    for told in refused:
        assert told.id.encode()
        assert told.reason.encode()
    for scene in scenes:
        use(scene)


def use(scene: Scene) -> None:
    """What planning asks of a scene, before any file is opened."""
    assert json.dumps(scene.id).isascii()
    assert scene.solar_day
    assert scene.pass_key
    ((kept,), _) = one_of_each([scene])
    good_optical, good_sar = read_items([optical(), sar()], API)[0]
    gap = timedelta(days=1)
    for pairing in (
        pair_scenes([kept, good_optical], [good_sar], REGION, gap),
        pair_scenes([good_optical], [kept, good_sar], REGION, gap),
        pair_latest([kept], [good_sar], REGION),
    ):
        for left in pairing.unpaired:
            assert left.reason
    choose_sar([kept, good_sar], REGION)


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (replaced(optical(), ("properties", "eo:cloud_cover"), "clear"), 'cloud_cover is "clear"'),
        (replaced(optical(), ("assets", "B04", "eo:bands"), 7), "asset B04: eo:bands is 7"),
        (removed(optical(), ("assets", "B04", "href")), "asset B04: href is missing"),
        (removed(removed(optical(), ("geometry",)), ("bbox",)), "its bbox is missing"),
        (replaced(optical(), ("geometry", "coordinates"), []), "no area"),
        (replaced(optical(), ("properties", "datetime"), "yesterday"), "not a time"),
        (replaced(sar(), ("properties", "sat:relative_orbit"), "x"), "not the number of an orbit"),
        (replaced(optical(), ("properties", "eo:cloud_cover"), float("nan")), "from 0 to 100"),
        (7, "it is 7, not an object"),
    ],
)
def test_an_odd_item_among_good_ones_is_left_out_by_name(odd: Any, words: str) -> None:
    good = [replaced(optical(), ("id",), f"good {number}") for number in range(2)]
    scenes, (left,) = read_items([good[0], odd, good[1]], API)
    assert [scene.id for scene in scenes] == ["good 0", "good 1"]
    assert words in left.reason
    assert left.id == (
        odd["id"] if isinstance(odd, dict) else "item 2 of the answer, without a name"
    )


@pytest.mark.parametrize(
    "text",
    ["a\nb", "a\x1b[2J", "a\x9b2J", "a\u202eb", "a\u2028b", "a\ud800", "x" * 256],
    ids=["line", "escape", "C1 escape", "right to left", "separator", "surrogate", "long"],
)
def test_what_steers_a_terminal_or_fills_it_names_nothing(text: str) -> None:
    paths: tuple[tuple[str, ...], ...] = (("id",), ("collection",))
    odd = [replaced(optical(), path, text) for path in paths]
    renamed = optical()
    renamed["assets"] = {text: next(iter(renamed["assets"].values()))}
    scenes, refused = read_items([*odd, renamed], API)
    assert not scenes
    for left in refused:
        assert left.reason.isprintable()
        assert left.id.isprintable()
        assert len(left.reason) < 200
        assert len(left.id) < 100


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "../../x", "[/nothing]", "a b"])
def test_what_only_looks_odd_is_a_name(text: str) -> None:
    scenes, refused = read_items([replaced(optical(), ("id",), text)], API)
    assert [scene.id for scene in scenes] == [text]
    assert not refused


def test_outlines_that_are_a_tangle_or_endless_are_refused() -> None:
    """And long ones that are neither are not."""
    angles = np.linspace(0, 2 * np.pi, 5_000)
    around = np.stack([10 + np.cos(angles), 50 + np.sin(angles)], axis=1)
    tangle = np.random.default_rng(0).uniform(0, 50, (1_000, 2))
    assert not _refused_outline(around)
    assert "15001 positions, more than 10000" in _refused_outline(np.repeat(around, 3, axis=0))
    assert "crosses itself, with 1001 positions" in _refused_outline(tangle)


def _refused_outline(ring: NDArray[np.float64]) -> str:
    """Why an item with a ring (N, 2) as its outline is refused; nothing where it is not."""
    closed = [*ring.tolist(), ring[0].tolist()]
    _, refused = read_items([replaced(optical(), ("geometry", "coordinates"), [closed])], API)
    return "".join(left.reason for left in refused)


def test_what_is_null_is_not_told() -> None:
    odd = replaced(optical(), ("assets", "B04", "eo:bands", 0, "common_name"), None)
    for name in ("eo:cloud_cover", "sat:relative_orbit", "sat:orbit_state", "platform"):
        odd = replaced(odd, ("properties", name), None)
    ((scene,), ()) = read_items([odd], API)
    assert scene.cloud_cover is scene.relative_orbit is scene.orbit_state is None
    assert scene.bands == ("red", "blue")


def test_an_orbit_is_the_same_however_it_is_written() -> None:
    written = [
        ("Descending", "121"),
        (" descending ", 121),
        ("DESCENDING", 121.0),
        ("descending", "0121"),
    ]
    for state, number in written:
        odd = replaced(sar(), ("properties", "sat:orbit_state"), state)
        ((scene,), ()) = read_items(
            [replaced(odd, ("properties", "sat:relative_orbit"), number)], API
        )
        assert (scene.orbit_state, scene.relative_orbit) == ("descending", 121)
