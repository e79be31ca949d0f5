"""report.json is what its published schema says, and the schema is that of this version."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest

from flows.report.schema import Report, encode_report, encode_schema
from tests.support.regions import DemoRun


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    """As it is shipped."""
    return dict(json.loads(files("flows.report").joinpath("report.schema.json").read_bytes()))


def test_the_shipped_schema_is_that_of_the_model() -> None:
    shipped = files("flows.report").joinpath("report.schema.json").read_bytes()
    assert shipped == encode_schema(), (
        "after a change of the model: python -m flows.report.schema > "
        "flows/report/report.schema.json"
    )


def test_a_real_report_is_valid_and_every_part_of_it_is_described(
    demo_run: DemoRun, schema: dict[str, Any]
) -> None:
    content = json.loads((demo_run.store / "demo" / "report.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(content, schema, cls=jsonschema.Draft202012Validator)
    assert content.keys() == schema["properties"].keys()
    again = Report.model_validate(content)
    assert json.loads(encode_report(again)) == content


def test_a_report_without_what_programs_rely_on_is_invalid(
    demo_run: DemoRun, schema: dict[str, Any]
) -> None:
    for field in schema["required"]:
        content = {name: value for name, value in demo_run.report.items() if name != field}
        with pytest.raises(jsonschema.ValidationError, match=field):
            jsonschema.validate(content, schema)


def test_only_a_demo_knows_the_truth(demo_run: DemoRun) -> None:
    content = {name: value for name, value in demo_run.report.items() if name != "truth"}
    assert "truth" not in json.loads(encode_report(Report.model_validate(content)))
