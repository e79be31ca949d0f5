"""infra/monitoring/: the alert rules and the board, against schemas and the figures there are."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from flows.report.figures.metrics import RegionFigures
from tests.support.infra import INFRA

FOLDER = INFRA / "monitoring"
BOARD = json.loads((FOLDER / "board.json").read_text())
RULES = [
    rule
    for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
FIGURES = {family.name for family in RegionFigures([]).collect()}


def figures_in(node: Any) -> Iterator[str]:
    """The names that an expression selects series by; it has to be PromQL."""
    if isinstance(node, str):
        node = promql_parser.parse(node)
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name
    for part in ("lhs", "rhs", "expr", "args", "vector_selector"):
        below = getattr(node, part, None)
        for each in below if isinstance(below, list) else [below] if below is not None else []:
            yield from figures_in(each)


def expressions() -> dict[str, str]:
    """Every expression of the rules and of the board, by what it is for."""
    panels = {panel["title"]: panel["targets"] for panel in BOARD["panels"]}
    drawn = {name: target["expr"] for name, targets in panels.items() for target in targets}
    return {rule["alert"]: rule["expr"] for rule in RULES} | drawn


def test_rules_and_board_ask_for_figures_that_there_are_and_for_all_of_them() -> None:
    asked = {figure for text in expressions().values() for figure in figures_in(text)}
    assert asked == FIGURES


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    for rule in RULES:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert all(rule["annotations"][name] for name in ("summary", "description"))


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool here: rules are only parsed")
def test_rules_fire_as_their_tests_say() -> None:
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "rules.test.yaml"]):
        subprocess.run(["promtool", *command], cwd=FOLDER, check=True)


def test_the_board_is_what_grafanas_schema_knows() -> None:
    plugins.register_default_plugins()
    board = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(BOARD)))
    assert list(unlike(BOARD, board)) == []
    sizes = [panel["gridPos"] for panel in BOARD["panels"]]
    assert all(size["x"] + size["w"] <= 24 for size in sizes)
    assert len({(size["x"], size["y"]) for size in sizes}) == len(sizes)


def unlike(ours: Any, known: Any, path: str = "") -> Iterator[str]:
    """Where something of ours is not, or is otherwise, in what the schema made of it."""
    if isinstance(ours, dict) and isinstance(known, dict):
        for key, value in ours.items():
            yield from unlike(value, known.get(key), f"{path}/{key}")
    elif isinstance(ours, list) and isinstance(known, list) and len(ours) == len(known):
        for number, (one, other) in enumerate(zip(ours, known, strict=True)):
            yield from unlike(one, other, f"{path}/{number}")
    elif ours != known:
        yield path
