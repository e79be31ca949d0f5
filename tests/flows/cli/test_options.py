"""A request's fields are declared once: the same request can be made wherever people type."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.schema_tools.validation import validate

from catalog.errors import has_secret
from flows.cli.main import main
from flows.cli.options import add_request_options, request_values
from flows.plan.request import EDGES, RegionRequest
from flows.service.on_demand import on_demand
from flows.service.regions import GIVEN_BY_THE_RUN, load_regions

INFRA = Path(__file__).resolve().parents[3] / "infra"


@pytest.fixture
def typed(tmp_path: Path) -> dict[str, Any]:
    """A value for every field, none of them what it is by default; as JSON can say them."""
    weights = tmp_path / "own.safetensors"
    weights.touch()
    return {
        "provider": "planetary-computer", "catalog": "https://stac.example.org",
        "optical": "s2", "sar": "s1", "bbox": [-118.4, 33.7, -118.1, 34.1],
        "start": "2024-06-01", "end": "2024-06-04", "store": "s3://mosaics", "region": "la",
        "bands": ["red", "swir16"], "max_gap_days": 2.5, "min_overlap": 0.1,
        "max_cloud_cover": 40, "orbit": "44", "dem": "cop-dem-glo-30", "crs": "EPSG:32611",
        "resolution": 20, "max_offset_px": 64, "weights": str(weights),
        "weights_sha256": "00ff", "scheduler": "tcp://127.0.0.1:8786", "slots": "both",
        "max_optical_age_days": 12, "remake": True, "allow_local": True,
        "own_buckets": ["private"],
        "orbit_files": str(tmp_path), "stac_api": "https://stac.example.org/own",
    }  # fmt: skip


def test_the_sample_has_every_field(typed: dict[str, Any]) -> None:
    assert typed.keys() == RegionRequest.model_fields.keys()
    request = RegionRequest.of(**typed)
    for name, field in RegionRequest.model_fields.items():
        assert getattr(request, name) != field.default, name


def test_every_field_is_an_option_of_run(typed: dict[str, Any]) -> None:
    words: list[str] = []
    for name, value in typed.items():
        values = [] if value is True else value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    parser = argparse.ArgumentParser()
    add_request_options(parser)
    given = request_values(parser.parse_args(words))
    assert given.keys() == RegionRequest.model_fields.keys()
    assert RegionRequest.of(**given) == RegionRequest.of(**typed)


def test_what_is_not_typed_is_left_to_the_request() -> None:
    parser = argparse.ArgumentParser()
    add_request_options(parser)
    needed = ["--bbox", "1", "2", "3", "4", "--start", "x", "--end", "y", "--store", "z"]
    given = request_values(parser.parse_args(needed))
    assert given.keys() == {"bbox", "start", "end", "store"}
    assert all(RegionRequest.model_fields[name].is_required() for name in given)


def test_help_tells_what_the_fields_tell(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, field in RegionRequest.model_fields.items():
        assert f"--{name.replace('_', '-')} " in shown
        assert field.description
        # A line may break after a hyphen.
        assert field.description.replace(" ", "") in shown.replace(" ", "")
        if isinstance(field.default, float):
            assert f"{field.description} (default: {field.default:g})" in shown


def test_every_field_is_one_of_the_form_and_its_values_pass(typed: dict[str, Any]) -> None:
    form = on_demand.parameters.model_dump_for_openapi()
    assert form["definitions"]["RegionRequest"]["properties"].keys() == typed.keys()
    filled_in = typed | {"bbox": dict(zip(EDGES, typed["bbox"], strict=True))}
    assert validate({"request": filled_in, "dry_run": False}, form) == []
    (request, dry_run) = on_demand.validate_parameters({"request": filled_in}).values()
    assert (request, dry_run) == (RegionRequest.of(**typed), True)


@pytest.mark.parametrize("name", sorted(RegionRequest.model_fields))
def test_the_server_refuses_what_is_no_value_of_a_field_and_names_it(
    typed: dict[str, Any], name: str
) -> None:
    form = on_demand.parameters.model_dump_for_openapi()
    bbox = dict(zip(EDGES, typed["bbox"], strict=True))
    errors = validate({"request": typed | {"bbox": bbox, name: [{}]}}, form)
    assert errors
    assert all(list(error.path)[:2] == ["request", name] for error in errors)


@pytest.mark.parametrize("name", ["catalog", "store", "stac_api"])
@pytest.mark.parametrize(
    "rest", ["me:S3CRET@host/x", "S3CRET@host", "host/x?sig=S3CRET", "host/x#S3CRET", "host?a/b@c"]
)
@pytest.mark.parametrize("scheme", ["https://", " s3://", "\nftp://"])
def test_the_server_refuses_a_secret_before_a_run_could_store_or_log_it(
    typed: dict[str, Any], name: str, rest: str, scheme: str
) -> None:
    """What its schema lets pass and the request refuses, Prefect logs with all parameters."""
    assert has_secret((scheme + rest).strip())
    form = on_demand.parameters.model_dump_for_openapi()
    bbox = dict(zip(EDGES, typed["bbox"], strict=True))
    (error,) = validate({"request": typed | {"bbox": bbox, name: scheme + rest}}, form)
    assert list(error.path) == ["request", name]


@pytest.mark.parametrize(
    "address", ["https://host/a@b/v1", "s3://bucket/a", "/data/a?b#c@d/items.json", "C@d: e.json"]
)
def test_the_server_takes_addresses_without_a_secret(typed: dict[str, Any], address: str) -> None:
    form = on_demand.parameters.model_dump_for_openapi()
    filled_in = typed | {"bbox": dict(zip(EDGES, typed["bbox"], strict=True)), "catalog": address}
    assert validate({"request": filled_in}, form) == []


def test_every_field_that_the_run_does_not_give_is_taken_from_a_regions_file(
    typed: dict[str, Any], tmp_path: Path
) -> None:
    entry = {name: value for name, value in typed.items() if name not in GIVEN_BY_THE_RUN}
    file = tmp_path / "regions.yaml"
    file.write_text(yaml.safe_dump({"regions": [{"name": typed["region"], **entry}]}))
    (region,) = load_regions(file)
    assert region.fields.keys() == entry.keys()
    assert region.request(typed["start"], typed["end"]) == RegionRequest.of(**typed)


def test_the_sample_regions_file_names_every_field() -> None:
    comments = " ".join(re.findall(r"^# ?(.*)", (INFRA / "regions.yaml").read_text(), re.MULTILINE))
    for name in RegionRequest.model_fields.keys() - set(GIVEN_BY_THE_RUN):
        assert re.search(rf"\b{name}\b", comments), name


def test_a_request_is_told_to_programs_by_its_own_types_not_by_the_forms(
    typed: dict[str, Any],
) -> None:
    told = json.loads(RegionRequest.of(**typed).model_dump_json())
    schema = RegionRequest.model_json_schema(mode="serialization")
    assert validate(told, schema) == []
    assert told["bbox"] == typed["bbox"]
