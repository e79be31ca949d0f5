"""The regions file: what it may hold, and that a mistake is told with region and field."""

from __future__ import annotations

import json
import traceback
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.plan.request import RequestError
from flows.service.regions import load_regions

DEFAULTS = {
    "catalog": "https://stac.example.org/v1",
    "optical": "o",
    "sar": "s",
    "store": "s3://mosaics",
}
TRIANGLE = {"type": "Polygon", "coordinates": [[[1, 2], [3, 2], [3, 5], [1, 2]]]}
SAMPLE = Path(__file__).resolve().parents[3] / "infra" / "regions.yaml"


def written(folder: Path, *regions: dict[str, Any], **defaults: Any) -> Path:
    file = folder / "regions.yaml"
    file.write_text(yaml.safe_dump({"defaults": DEFAULTS | defaults, "regions": list(regions)}))
    return file


def test_the_sample_regions_file_can_be_loaded() -> None:
    bolzano, venice = load_regions(SAMPLE)
    assert bolzano.request(date(2024, 6, 1), date(2024, 6, 4)).bbox == (11.2, 46.4, 11.5, 46.6)
    request = venice.request(date(2024, 6, 1), date(2024, 6, 4))
    assert request.bbox == (12.1, 45.2, 12.6, 45.6)
    assert (request.region, request.max_cloud_cover) == ("lagoon-of-venice", 40)
    assert request.store == "s3://mosaics"


def test_a_night_makes_days_of_sar_passes_too_unless_the_file_says_otherwise(
    tmp_path: Path,
) -> None:
    box = {"bbox": [1, 2, 3, 4]}
    file = written(tmp_path, {"name": "a", **box}, {"name": "b", **box, "slots": "optical"})
    days = date(2024, 6, 1), date(2024, 6, 4)
    assert [each.request(*days).slots for each in load_regions(file)] == ["both", "optical"]


def test_a_region_may_say_how_many_days_it_keeps(tmp_path: Path) -> None:
    box = {"bbox": [1, 2, 3, 4]}
    regions = {"name": "a", **box}, {"name": "b", **box, "keep_days": None}
    file = written(tmp_path, *regions, keep_days=400)
    assert [each.keep_days for each in load_regions(file)] == [400, None]
    for wrong in (0, -3, True, "year", 2.5):
        with pytest.raises(RequestError, match=r"region 'a': keep_days: .* from 1 on"):
            load_regions(written(tmp_path, {"name": "a", **box, "keep_days": wrong}))


@pytest.mark.parametrize(
    "geometry",
    [
        TRIANGLE,
        {"type": "Feature", "properties": {}, "geometry": TRIANGLE},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": TRIANGLE}]},
    ],
)
def test_a_geometry_gives_its_box_inline_or_from_a_file(
    tmp_path: Path, geometry: dict[str, Any]
) -> None:
    (tmp_path / "outline.geojson").write_text(json.dumps(geometry))
    file = written(
        tmp_path, {"name": "a", "geometry": geometry}, {"name": "b", "geometry": "outline.geojson"}
    )
    for region in load_regions(file):
        assert region.fields["bbox"] == (1, 2, 3, 5)


def test_a_geometry_across_the_antimeridian_gives_a_box_across_it(tmp_path: Path) -> None:
    parts = [[[179, 1], [180, 1], [180, 2], [179, 1]], [[-180, 1], [-178, 1], [-180, 2], [-180, 1]]]
    split = {"type": "MultiPolygon", "coordinates": [[ring] for ring in parts]}
    around = {"type": "Polygon", "coordinates": [[[179, 1], [-178, 1], [-178, 2], [179, 1]]]}
    beside = {"features": [{"geometry": {"type": "Polygon", "coordinates": [r]}} for r in parts]}
    for geometry in (split, around, beside):
        (region,) = load_regions(written(tmp_path, {"name": "a", "geometry": geometry}))
        assert region.fields["bbox"] == (179, 1, -178, 2)
        assert region.request(date(2024, 6, 1), date(2024, 6, 1)).bbox == (179, 1, -178, 2)


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text("{}")
    file = written(
        tmp_path, {"name": "a", "bbox": [1, 2, 3, 4]}, catalog="items.json", store="mosaics"
    )
    request = load_regions(file)[0].request(date(2024, 6, 1), date(2024, 6, 1))
    assert request.catalog == str(tmp_path / "items.json")
    assert request.store == str(tmp_path / "mosaics")


def test_a_region_overrides_the_defaults_and_can_be_chosen(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        {"name": "a", "bbox": [1, 2, 3, 4], "sar": "x"},
        {"name": "b", "bbox": [1, 2, 3, 4]},
    )
    assert [r.fields["sar"] for r in load_regions(file)] == ["x", "s"]
    assert [r.name for r in load_regions(file, only=["b"])] == ["b"]
    with pytest.raises(RequestError, match=r"has no region c; it has a, b"):
        load_regions(file, only=["c"])


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"name": "a"}, "region 'a': bbox: is missing"),
        ({"bbox": [1, 2, 3, 4]}, "entry 1: name: is missing"),
        ({"name": "A b", "bbox": [1, 2, 3, 4]}, "region 'A b': region 'A b' is not a usable name"),
        ({"name": "a", "bbox": [1, 2, 3]}, "region 'a': bbox: "),
        ({"name": "a", "bbox": [1, 2, 3, 400]}, "region 'a': bbox "),
        ({"name": "a", "bbox": [1, 2, 3, 4], "geometry": TRIANGLE}, "region 'a': geometry: stands"),
        ({"name": "a", "geometry": {"type": "Nothing"}}, "region 'a': geometry: is no GeoJSON"),
        ({"name": "a", "geometry": "no.geojson"}, "region 'a': geometry: No such file"),
        ({"name": "a", "bbox": [1, 2, 3, 4], "store": "ftp://x"}, "region 'a': store: 'ftp://x'"),
        ({"name": "a", "bbox": [1, 2, 3, 4], "cloud": 5}, "region 'a': cloud: "),
        ({"name": "a", "bbox": [1, 2, 3, 4], "start": "x"}, "region 'a': start: does not belong"),
    ],
)
def test_a_mistake_names_the_region_and_the_field(
    tmp_path: Path, entry: dict[str, Any], told: str
) -> None:
    with pytest.raises(RequestError) as caught:
        load_regions(written(tmp_path, entry))
    assert str(caught.value).startswith(f"regions file {tmp_path}/regions.yaml: {told}")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("regions: [", "is not YAML"),
        ("regions: []", "regions: List should have at least 1 item"),
        ("[]", "its top: "),
        ("regions: [{name: a}]\nregion: x", "region: Extra inputs"),
        ("a: b\nstore: https://S3CRET@host: x", "is not YAML: mapping values .* in line 2"),
        ("defaults: S3CRET", "defaults: Input should be a valid dictionary"),
    ],
)
def test_a_broken_file_is_one_sentence_that_quotes_nothing_of_it(
    tmp_path: Path, content: str, told: str
) -> None:
    file = tmp_path / "regions.yaml"
    file.write_text(content)
    with pytest.raises(RequestError, match=told) as caught:
        load_regions(file)
    assert "S3CRET" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(RequestError, match="No such file"):
        load_regions(tmp_path / "missing.yaml")


def test_two_regions_cannot_share_a_name(tmp_path: Path) -> None:
    entry = {"name": "a", "bbox": [1, 2, 3, 4]}
    with pytest.raises(RequestError, match="name: a stands there twice"):
        load_regions(written(tmp_path, entry, entry))
