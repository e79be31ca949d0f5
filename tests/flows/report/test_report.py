"""report.json and the tables: complete, plain JSON, and readable."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt

from catalog.archives.pairs import Unpaired
from flows.cli.demo_region import DemoRegion
from flows.outcome import SlotOutcome
from flows.plan.plan import Plan
from flows.progress import Stopwatch
from flows.report import artifacts
from flows.report.artifacts import plain_text
from flows.report.drift import Geometry, Step
from flows.report.report import (
    compile_report,
    print_plan,
    print_result,
)
from flows.report.save import look_for_steps, save_report
from flows.report.schema import Report, encode_report
from flows.stages.estimate import GroupEstimate, PairVerdict
from tar_engine.fields.field import Field
from tests.support.regions import plan_of
from tests.support.terminal import printed


@pytest.fixture
def plan(small_region: DemoRegion, tmp_path: Path) -> Plan:
    return plan_of(small_region, tmp_path / "store")


@pytest.fixture
def report(plan: Plan) -> Report:
    """One pair refused, one scene broken in the middle of the run."""
    (slot,) = plan.slots
    judged = [pair for pair in slot.pairs if pair.sar.id == "S1-DEMO-NORTH"]
    verdicts = tuple(
        PairVerdict(pair.optical.id, pair.sar.id, True, "97% agree", 0.31, 3.4, 900)
        if index
        else PairVerdict(
            pair.optical.id, pair.sar.id, False, "12% of 900 agree", np.inf, np.nan, 900
        )
        for index, pair in enumerate(judged)
    )
    outcome = SlotOutcome(
        slot,
        (GroupEstimate(Field("shift", np.eye(2, 3)), verdicts),),
        unreadable={"S1-DEMO-SOUTH": "scene S1-DEMO-SOUTH cannot be read from south.tif"},
        tiles=4,
    )
    return compile_report(plan, [outcome.with_shards(written=3, kept=1)], Stopwatch())


def test_a_report_is_plain_json_and_has_what_programs_rely_on(report: Report, plan: Plan) -> None:
    content = json.loads(encode_report(report))
    assert content["store"] == plan.request.store
    assert content["tiles"] == 4
    assert (content["shards_written"], content["shards_kept"]) == (3, 1)
    assert content["seconds"]["total"] >= 0
    assert [slot["slot"] for slot in content["slots"]] == ["2024-06-12"]
    for pair in content["pairs"]:
        assert {"optical", "sar", "accepted", "reason"} <= pair.keys()
        assert {"expected_error_px", "median_displacement_px"} <= pair.keys()
        assert pair["reason"]
    refused = [pair for pair in content["pairs"] if not pair["accepted"]]
    assert [pair["expected_error_px"] for pair in refused] == [None]


def test_every_scene_is_accounted_for(report: Report, plan: Plan) -> None:
    told = {left.scene for left in report.unpaired}
    told |= {scene for pair in report.pairs for scene in (pair.optical, pair.sar)}
    assert told == {scene.id for scene in (*plan.optical, *plan.sar)}


def test_the_result_shows_refusals_first_and_what_broke(report: Report, plan: Plan) -> None:
    text = printed(lambda console: print_result(console, report, already_told=plan.left_out))
    assert text.index("✗") < text.index("✓")
    assert "12% of 900 agree" in text
    assert "cannot be read from south.tif" in text
    assert "S2-DEMO-EARLY" not in text  # the plan told of it


def test_the_plan_is_one_line_or_every_pair(plan: Plan) -> None:
    short = printed(lambda console: print_plan(console, plan, pairs=False))
    assert "3 optical and 2 SAR scenes, 4 pairs, 1 day" in short
    assert "S2-DEMO-EARLY: the nearest overlapping SAR scene" in short
    assert "S2-DEMO-EAST" not in short
    assert "S2-DEMO-EAST" in printed(lambda console: print_plan(console, plan, pairs=True))


def test_long_reasons_are_one_line_and_no_markup(plan: Plan) -> None:
    reason = f"cannot be read: {'/a/long/path [red]' * 20}/x.tif"
    longer = replace(plan, unpaired=(Unpaired(plan.sar[0], reason),))
    text = printed(lambda console: print_plan(console, longer, pairs=False), width=80)
    assert f"{plan.sar[0].id}: {reason}\n" in text


def test_ids_are_no_markup_and_long_ones_no_harm(plan: Plan, report: Report) -> None:
    odd = "[bold]x[/] [/nothing] [link=http://127.0.0.1]y" + "z" * 250
    (slot,) = plan.slots
    pairs = tuple(replace(pair, optical=replace(pair.optical, id=odd)) for pair in slot.pairs)
    group = replace(slot.groups[0], pairs=pairs)
    named = replace(plan, slots=(replace(slot, groups=(group,)),))
    told = report.model_copy(update={"pairs": [p.model_copy(update={"optical": odd, "reason": odd})
                                               for p in report.pairs]})  # fmt: skip
    for show in (
        lambda console: print_plan(console, named, pairs=True),
        lambda console: print_result(console, told),
    ):
        text = printed(show, width=2000)
        assert odd in text


@pytest.mark.parametrize(
    "words",
    [
        "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "![a](http://127.0.0.1/i.png)",
        "[a](javascript:alert(1))", "[a]: http://127.0.0.1", "<http://127.0.0.1>",
        "`a` *b* ~c~ |d|",
        "S2A_MSIL2A_20201104T183541_N0209", "&lt;b&gt; &copy;", "\\[a](b)", "its 5 < 7 & [red]",
    ],
)  # fmt: skip
def test_cells_of_artifacts_show_words_as_they_are(words: str) -> None:
    """As a reader of Markdown that lets tags through understands them."""
    page = MarkdownIt("commonmark", {"html": True}).enable("table").render(plain_text(words))
    assert re.findall(r"<[^>]*>", page) == ["<p>", "</p>"]
    assert html.unescape(page) == f"<p>{words}</p>\n"


def test_the_catalogs_token_is_not_in_the_report(plan: Plan) -> None:
    signed = plan.request.model_copy(update={"catalog": "https://x.org/stac?token=S3CRET"})
    report = compile_report(replace(plan, request=signed), (), Stopwatch())
    assert report.request["catalog"] == "https://x.org/stac"
    assert b"S3CRET" not in encode_report(report)


def test_report_and_picture_lie_beside_the_mosaic(report: Report, plan: Plan) -> None:
    save_report(plan.mosaic_url, report, b"png")
    folder = Path(plan.mosaic_url)
    assert json.loads((folder / "report.json").read_text())["region"] == "demo"
    assert (folder / "preview.png").read_bytes() == b"png"
    assert 'tar_region_days{region="demo"} 0.0\n' in (folder / "metrics.prom").read_text()


def test_steps_are_told_in_the_report_and_as_an_artifact(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, list[dict[str, Any]]] = {}

    def show(key: str, _: str, rows: list[dict[str, Any]]) -> None:
        shown[key] = rows

    monkeypatch.setattr("flows.report.artifacts.show_table", show)
    geometry = Geometry(71, "descending")
    step = Step("sentinel-1a", geometry, date(2024, 6, 1), date(2024, 6, 13), -0.6, 0.8)
    report = compile_report(plan, (), Stopwatch(), [step])
    artifacts.show_result(plan, report, None)
    (told,) = json.loads(encode_report(report))["drift_steps"]
    assert told == {
        "satellite": "sentinel-1a", "relative_orbit": 71, "orbit_state": "descending",
        "before": "2024-06-01", "day": "2024-06-13", "size_px": 1.0, "dx_px": -0.6, "dy_px": 0.8,
    }  # fmt: skip
    assert shown["demo-drift"] == [told]
    shown.clear()
    artifacts.show_result(plan, compile_report(plan, (), Stopwatch()), None)
    assert shown.keys() == {"demo-result", "demo-accountability"}


@pytest.mark.parametrize("name", ["2024-06-01.json", "notes.json"])
def test_a_damaged_day_of_another_run_costs_only_the_steps(
    plan: Plan, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    items = Path(plan.mosaic_url, "items")
    items.mkdir(parents=True)
    for day in range(2, 9):
        (items / f"2024-06-0{day}.json").write_text("{}")
    (items / name).write_text("{}")
    assert look_for_steps(plan) == []
    assert "no steps were looked for" in caplog.text


def test_stages_inside_others_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 3.0, 6.0, 10.0, 10.0])
    monkeypatch.setattr(Stopwatch, "_now", lambda _: (next(now), 0.0))
    clock = Stopwatch()
    with clock("outer"), clock("inner"):
        pass
    assert clock.seconds() == {"inner": 3.0, "outer": 6.0, "total": 10.0}
