"""Every mistake in a request ends in one sentence that names the argument."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.plan.request import RegionRequest, RequestError

SOUND: dict[str, Any] = {
    "catalog": "https://example.org/stac",
    "optical": "sentinel-2",
    "sar": "sentinel-1",
    "bbox": (11.0, 46.0, 11.5, 46.5),
    "start": "2024-06-01",
    "end": "2024-06-10",
    "store": "s3://bucket/mosaics/",
}


def test_a_sound_request_has_defaults_and_a_tidy_store() -> None:
    request = RegionRequest.of(**SOUND)
    assert request.store == "s3://bucket/mosaics"
    assert (request.region, request.max_gap_days, request.resolution) == ("region", 6.0, None)


@pytest.mark.parametrize("orbit", ["best", "ascending", "descending", "44", 44])
def test_an_orbit_is_a_direction_or_a_number(orbit: object) -> None:
    assert RegionRequest.of(**SOUND, orbit=orbit).orbit == str(orbit)


def test_an_archive_brings_its_address_and_collections() -> None:
    rest = {k: v for k, v in SOUND.items() if k not in ("catalog", "optical", "sar")}
    request = RegionRequest.of(**rest, provider="planetary-computer")
    assert request.catalog == "https://planetarycomputer.microsoft.com/api/stac/v1"
    assert (request.optical, request.sar) == ("sentinel-2-l2a", "sentinel-1-rtc")
    given = RegionRequest.of(**SOUND, provider="copernicus", bands=["B04", "nir"])
    assert (given.catalog, given.optical) == (SOUND["catalog"], SOUND["optical"])
    assert given.bands == ("red", "nir")
    by_address = RegionRequest.of(
        **{**SOUND, "catalog": "https://earth-search.aws.element84.com/v1/"}
    )
    assert by_address.provider == "earth-search"
    assert RegionRequest.of(**SOUND).provider == "stac"
    assert RegionRequest.of(**given.model_dump()) == given


def test_local_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.json").write_text("{}")
    for store in ("out", f"file://{tmp_path}/out/"):
        request = RegionRequest.of(**{**SOUND, "catalog": "items.json", "store": store})
        assert request.catalog == str(tmp_path / "items.json")
        assert request.store == str(tmp_path / "out")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"bbox": (11.5, 46.0, 11.0, 46.5)}, "bbox west 11.5 must be less than east 11"),
        ({"bbox": (11.0, 46.5, 11.5, 46.0)}, "bbox south 46.5 must be less than north 46"),
        ({"bbox": (11.0, 46.0, 190.0, 46.5)}, "leaves the world"),
        ({"bbox": (11.0, -91.0, 11.5, 46.5)}, "leaves the world"),
        ({"bbox": (11.0, 46.0, float("nan"), 46.5)}, "bbox"),
        ({"bbox": (11.0, 46.0, 11.5)}, "bbox: Field required"),
        ({"end": "2024-05-31"}, "end: 2024-05-31 is before start 2024-06-01"),
        ({"start": "June"}, "start: Input should be a valid date"),
        ({"region": "a/b"}, "region 'a/b'"),
        ({"region": ".."}, "region '..'"),
        ({"region": ""}, "region ''"),
        ({"region": "Alps"}, "region 'Alps'"),
        ({"catalog": "no/such/items.json"}, "catalog: there is no file"),
        ({"catalog": "ftp://example.org"}, "catalog: 'ftp://example.org' is neither"),
        ({"store": "memory://x"}, "store: 'memory://x' is neither a folder nor s3://bucket"),
        ({"store": "ftp://host/x"}, "change --store"),
        ({"store": "s3://"}, "store: 's3://' is neither a folder nor s3://bucket/prefix"),
        ({"store": "s3:///x"}, "change --store"),
        ({"weights": "no-such.safetensors"}, "weights: there is no file"),
        ({"scheduler": "localhost:8786"}, "scheduler: 'localhost:8786' should look like tcp://"),
        ({"orbit": "sideways"}, "orbit: String should match pattern"),
        ({"orbit": "0"}, "orbit: String should match pattern"),
        ({"max_gap_days": -1}, "max-gap-days: Input should be greater than or equal to 0"),
        ({"slots": "radar"}, "slots: Input should be 'optical', 'sar' or 'both'"),
        ({"max_optical_age_days": -1}, "max-optical-age-days: Input should be greater than or"),
        ({"max_optical_age_days": 366}, "max-optical-age-days: Input should be less than or equal"),
        ({"resolution": 0}, "resolution: Input should be greater than 0"),
        ({"tiles": 3}, "tiles: Extra inputs are not permitted"),
        ({"provider": "nasa"}, "provider 'nasa' is not known; there are: earth-search, "),
        ({"bands": ("red", "vh")}, "bands: vh; there are: coastal (B01), blue (B02)"),
        ({"bands": ()}, "bands: none given"),
        ({"catalog": None}, "catalog: is missing; give it, or the provider that has it"),
        ({"stac_api": "items.json"}, "stac-api: 'items.json' is no http(s) address of a STAC API"),
        ({"sar": None}, "sar: is missing; give it, or the provider that has it"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_argument(
    wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(RequestError) as caught:
        RegionRequest.of(**{**SOUND, **wrong})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("argument", ["catalog", "store", "stac_api"])
@pytest.mark.parametrize(
    "address",
    ["{}://me:S3CRET@host/x", "{}://S3CRET@host/x", "{}://host/x?sig=S3CRET", "{}://host/x#S3CRET"],
)
def test_no_secret_becomes_part_of_a_request(argument: str, address: str) -> None:
    for scheme in ("https", "s3", "ftp"):
        with pytest.raises(RequestError, match=argument.replace("_", "-")) as caught:
            RegionRequest.of(**{**SOUND, argument: address.format(scheme)})
        assert "S3CRET" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    "wrong", [{"password": "S3CRET"}, {"catalog": ["S3CRET"]}, {"store": None, "crs": "S3CRET"}]
)
def test_a_complaint_repeats_neither_a_stray_value_nor_the_whole_request(
    wrong: dict[str, Any],
) -> None:
    with pytest.raises(RequestError) as caught:
        RegionRequest.of(**{**SOUND, **wrong})
    assert "S3CRET" not in f"{caught.value} {caught.value.__cause__}"


@given(st.tuples(*[st.floats(-400, 400)] * 4))
def test_a_bbox_is_taken_exactly_when_it_is_on_earth_and_in_order(
    bbox: tuple[float, float, float, float],
) -> None:
    west, south, east, north = bbox
    in_order = west < east or west - east >= 180  # across the antimeridian
    sound = -180 <= min(west, east) <= max(west, east) <= 180 and -90 <= south < north <= 90
    try:
        accepted = RegionRequest.of(**{**SOUND, "bbox": bbox}).bbox == bbox
    except RequestError:
        accepted = False
    assert accepted == (sound and in_order)


@given(st.text(max_size=12))
def test_no_accepted_region_name_can_leave_its_folder(name: str) -> None:
    try:
        accepted = RegionRequest.of(**{**SOUND, "region": name}).region
    except RequestError:
        return
    assert Path("store", accepted).resolve().parent == Path("store").resolve()
    assert "/" not in accepted
