"""The page of a day: self-contained, escaped, bounded, and moved by hand and by keyboard."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from catalog import objects
from catalog.archives.items import Scene
from catalog.store.schema import QUALITY
from flows.colours import COLOURS
from flows.outcome import SlotOutcome
from flows.plan.plan import Plan, plan_request
from flows.report.report import load_earlier_outcomes
from flows.report.slot_report import page_url, render_page, save_pages
from tests.support.browser import needs_chromium, open_page
from tests.support.regions import DemoRun, request_of

MOST_BYTES = 4_000_000


class Elements(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(page)
    return parser.found


@pytest.fixture(scope="module")
def plan(demo_run: DemoRun) -> Plan:
    return plan_request(request_of(demo_run.region, demo_run.store))


@pytest.fixture(scope="module")
def outcome(plan: Plan) -> SlotOutcome:
    (found,) = load_earlier_outcomes(plan)
    return found


@pytest.fixture(scope="module")
def page(plan: Plan, outcome: SlotOutcome) -> str:
    content = objects.get(page_url(plan, outcome.slot))
    assert content is not None
    return content.decode()


def test_the_run_left_a_page_that_needs_nothing_else(page: str, demo_run: DemoRun) -> None:
    assert len(page) < MOST_BYTES
    for tag, attributes in elements(page):
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            value = attributes.get(name) or "data:"
            assert value.startswith(("data:image/", "data:")), (tag, name)
    assert "url(" not in page.replace("url(#head)", "")
    assert "@import" not in page
    assert str(demo_run.store) not in page  # the same day gives the same bytes anywhere


def test_a_page_is_drawn_again_to_the_same_bytes(
    plan: Plan, outcome: SlotOutcome, page: str
) -> None:
    assert render_page(plan, outcome).decode() == page


def test_a_page_that_an_earlier_run_owed_is_made_up_for(
    plan: Plan, outcome: SlotOutcome, page: str
) -> None:
    """One that is not there, or is that of a generation that was replaced."""
    url = page_url(plan, outcome.slot)
    objects.remove(url)
    save_pages(plan, [])
    assert objects.get(url) == page.encode()
    objects.put(url, page.replace(outcome.slot.generation, "f" * 16).encode())
    save_pages(plan, [])
    assert objects.get(url) == page.encode()


def test_a_page_answers_what_a_person_asks(page: str, outcome: SlotOutcome, plan: Plan) -> None:
    text = re.sub(r"<[^>]+>", " ", page)
    assert f"<title>demo, {outcome.slot.slot}: SAR registered to optical</title>" in page
    for verdict in outcome.verdicts:
        assert verdict.optical in text
        assert verdict.reason in text
        assert f"{verdict.expected_error_px:.2f}" in text
    assert plan.weights_sha256 in text
    assert outcome.slot.generation in text
    assert "EPSG:32632" in text
    pictures = [attributes for tag, attributes in elements(page) if tag == "img"]
    assert len(pictures) == 6
    assert all(len(attributes.get("alt") or "") > 20 for attributes in pictures)
    labelled = {attributes.get("for") for tag, attributes in elements(page) if tag == "label"}
    sliders = {attributes.get("id") for tag, attributes in elements(page) if tag == "input"}
    assert sliders == labelled == {"at", "opacity"}


def test_names_are_escaped_and_refusals_come_first(plan: Plan, outcome: SlotOutcome) -> None:
    nasty = "</td><script>alert(1)</script>"
    first, *others = outcome.estimates[0].verdicts
    refused = replace(first, accepted=False, reason=nasty, expected_error_px=np.nan)
    estimate = replace(outcome.estimates[0], verdicts=(*others, refused))
    worse = replace(outcome, estimates=(estimate,), unreadable={"S2-<b>": nasty})
    page = render_page(plan, worse).decode()
    assert page.count("<script>") == 1
    assert "&lt;/td&gt;&lt;script&gt;" in page
    assert "S2-&lt;b&gt;" in page
    assert "1 refused" in page
    assert page.index("✗ refused") < page.index("✓ registered")


def test_sar_that_cannot_be_read_any_more_costs_one_picture(
    plan: Plan, outcome: SlotOutcome, tmp_path: Path
) -> None:
    def moved_away(scene: Scene) -> Scene:
        assets = tuple(replace(each, href=str(tmp_path / "gone.tif")) for each in scene.assets)
        return replace(scene, assets=assets)

    groups = tuple(
        replace(group, sar=tuple(moved_away(scene) for scene in group.sar))
        for group in outcome.slot.groups
    )
    page = render_page(plan, replace(outcome, slot=replace(outcome.slot, groups=groups))).decode()
    assert "cannot be read any more" in page
    assert "as it was delivered" not in page
    assert "after registration" in page


@needs_chromium
def test_the_slider_changes_what_is_seen(page: str, tmp_path: Path) -> None:
    """By keyboard and by mouse, in a real browser."""
    file = tmp_path / "page.html"
    file.write_text(page)
    with open_page(file.as_uri(), tmp_path / "profile") as tab:
        tab.evaluate("document.getElementById('at').focus()")
        middle = tab.picture("#swipe")
        tab.press("Home")
        registered = tab.picture("#swipe")
        tab.press("End")
        delivered = tab.picture("#swipe")
        assert np.abs(registered.astype(int) - delivered).mean() > 1.0
        width = middle.shape[1]
        inner = slice(60, None)  # below the two words in the corners
        left, right = slice(0, width // 2 - 6), slice(width // 2 + 6, -6)
        assert np.array_equal(middle[inner, left], delivered[inner, left])
        assert np.array_equal(middle[inner, right], registered[inner, right])
        tab.press("ArrowLeft", times=10)
        assert tab.evaluate("document.getElementById('at').value") == "90"
        box = tab.evaluate(
            "(() => { const b = document.getElementById('swipe').getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]; })()"
        )
        y = box[1] + box[3] / 2
        tab.drag((box[0] + 0.9 * box[2], y), (box[0] + 0.25 * box[2], y))
        assert tab.evaluate("document.getElementById('at').value") == "25"
        # Tab leads on to the other slider, which fades SAR away.
        tab.evaluate("document.getElementById('at').focus()")
        tab.press("Tab")
        assert tab.evaluate("document.activeElement.id") == "opacity"
        tab.press("Home")
        optical = tab.picture("#swipe")
        tab.evaluate("document.getElementById('at').focus()")
        tab.press("End")
        inner = slice(60, None)
        assert np.array_equal(
            optical[inner, 6 : width // 5], tab.picture("#swipe")[inner, 6 : width // 5]
        )
        assert tab.evaluate("performance.getEntriesByType('resource').length") == 0 or tab.evaluate(
            "performance.getEntriesByType('resource').every(r => r.name.startsWith('data:'))"
        )


def test_whatever_becomes_of_a_pixel_has_a_colour_of_its_own() -> None:
    assert set(COLOURS) == set(QUALITY)
    assert len(set(COLOURS.values())) == len(QUALITY)
