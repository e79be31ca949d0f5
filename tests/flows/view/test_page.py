"""The map as people use it: the real command, the real page, a real browser."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from catalog.cube.update import update_cube
from catalog.store.open import open_slot
from catalog.store.slot import SlotStore
from tests.support.browser import Page, needs_chromium, open_page
from tests.support.slots import FIRST, ONE_SHARD, moved_evenly, published

pytestmark = needs_chromium
DAYS = ("2020-11-04", "2020-11-10", "2020-12-02")
DESKTOP, PHONE = (900, 600), (390, 844)
DRAWN = """
(() => {
  const tiles = [...document.querySelectorAll("img.leaflet-tile")];
  return tiles.length > 0 && tiles.every((tile) => tile.complete && tile.naturalWidth > 1
    && getComputedStyle(tile).opacity === "1");
})()
"""
HASH = "Object.fromEntries(new URLSearchParams(location.hash.slice(1)))"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[SlotStore]:
    folder = tmp_path_factory.mktemp("store")
    stores = [
        moved_evenly(published(folder, ONE_SHARD, seed, slot=slot, generation=FIRST), seed, -2.5)
        for seed, slot in enumerate(DAYS)
    ]
    update_cube(str(folder), "la")
    return stores


@pytest.fixture(scope="module")
def address(stores: list[SlotStore]) -> Iterator[str]:
    """Of the page that `tar-pipeline view` serves, which ends when it is interrupted."""
    command = [sys.executable, "-m", "flows.cli.main", "view", stores[0].store_url, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        found = re.match(r"(http://127\.0\.0\.1:\d+/) ", server.stdout.readline())
        assert found, server.stderr.read()
        try:
            yield found[1]
        finally:
            server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
        assert server.stdout.read() == "Stopped.\n"
        assert server.stderr.read() == ""  # no address and no name in any log


@pytest.fixture(scope="module")
def page(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """One browser for all of them: it takes longer to start than to do what they ask."""
    with open_page(address, tmp_path_factory.mktemp("profile")) as page:
        yield page


def visit(page: Page, link: str, size: tuple[int, int]) -> None:
    """Follow a link, as from another page."""
    page.resize(*size)
    page.visit("about:blank")
    page.visit(link)
    page.wait_for(DRAWN)


def text(page: Page, id_: str) -> str:
    return str(page.evaluate(f"document.getElementById('{id_}').innerText"))


def choose(page: Page, side: str, layer: str) -> None:
    page.evaluate(
        f"(() => {{ const s = document.getElementById('{side}'); s.value = '{layer}';"
        " s.dispatchEvent(new Event('change')); })()"
    )


def test_the_map_is_used_as_people_use_it(
    page: Page, address: str, stores: list[SlotStore]
) -> None:
    # At a whole zoom, at which no picture is scaled.
    visit(page, f"{address}#view=17,33.754,-117.995", DESKTOP)
    # It begins with the newest day, SAR before and after, and speaks to nobody else.
    assert text(page, "date") == "2 December 2020"
    assert text(page, "tag-left") == "SAR VH as delivered"
    assert text(page, "tag-right") == "SAR VH registered"
    assert "moved back" in text(page, "legends")
    strangers = page.evaluate(
        "performance.getEntriesByType('resource').map((each) => new URL(each.name).origin)"
        ".filter((each) => each !== location.origin)"
    )
    assert strangers == []

    # Keys lead through the days, and the address remembers.
    page.press("ArrowLeft")
    page.wait_for("document.getElementById('date').innerText === '10 November 2020'")
    page.press("Home")
    assert page.wait_for(f"{HASH}.day === '{DAYS[0]}'")
    page.press("s")
    assert text(page, "tag-left") == "SAR VH registered"

    # The swipe: one side is all of the map.
    page.evaluate("document.getElementById('handle').focus()")
    page.press("End")
    page.wait_for(f"{HASH}.swipe === '100'")

    # Colours of the map are those of the legend.
    choose(page, "left", "quality")
    page.evaluate(
        "(() => { const o = document.getElementById('opacity'); o.value = 100;"
        " o.dispatchEvent(new Event('input')); })()"
    )
    page.wait_for(DRAWN)
    page.evaluate("document.querySelector('.leaflet-pane[style*=\"350\"]').style.display = 'none'")
    legend = page.evaluate(
        "[...document.querySelectorAll('.classes i')].map((i) => i.style.backgroundColor)"
    )
    colours = {tuple(map(int, re.findall(r"\d+", each))) for each in legend}
    shown = page.picture("#map")
    height, width = shown.shape[:2]
    middle = shown[height // 2 - 40 : height // 2 + 40, width // 2 - 90 : width // 2 - 40]
    assert {tuple(map(int, pixel)) for pixel in middle.reshape(-1, 3)} == colours

    # A click draws the pixel through time, with the numbers of the store.
    page.click((width / 2 - 30, 300))
    page.wait_for("document.getElementById('readout').innerText.includes('row')")
    page.evaluate("[...document.querySelectorAll('#groups button')][1].click()")
    page.wait_for("document.getElementById('readout').innerText.includes('dx')")
    read = text(page, "readout")
    row, column = (int(re.search(rf"{name} (\d+)", read)[1]) for name in ("row", "column"))
    assert "dx (right) 0 · dy (down) -2.5" in read
    page.evaluate("[...document.querySelectorAll('#groups button')][0].click()")
    page.wait_for("document.getElementById('readout').innerText.includes('VH')")
    value = float(open_slot(stores[0].url)["vh"][row, column])
    told = re.search(r"VH (\S+)", text(page, "readout"))[1]
    assert told == "–" if np.isnan(value) else float(told) == pytest.approx(value, rel=0.006)
    assert page.evaluate("document.querySelector('#plot canvas').width") > 200
    page.press("Escape")
    assert page.wait_for("document.getElementById('chart').hidden")


def test_a_link_leads_back_and_a_phone_shows_the_map(page: Page, address: str) -> None:
    link = f"{address}#region=la&day={DAYS[1]}&left=optical&right=displacement&swipe=30"
    visit(page, link, PHONE)
    assert text(page, "date") == "10 November 2020"
    assert text(page, "tag-right") == "Displacement, length"
    assert page.evaluate("document.getElementById('handle').ariaValueNow") == "30"
    # The map has most of the screen, nothing is cut off, and layers are a touch away.
    assert page.evaluate("document.getElementById('stage').clientHeight") > PHONE[1] / 2
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert page.evaluate("document.getElementById('layers').offsetHeight") == 0
    page.evaluate("document.getElementById('more').click()")
    assert page.evaluate("document.getElementById('layers').offsetHeight") > 100
    assert page.evaluate("document.getElementById('map').clientHeight") > 200


def test_a_link_is_somebody_elses_words(page: Page, address: str) -> None:
    nasty = "<img src=x onerror=document.title=1>"
    visit(page, f"{address}#region=la&day={nasty}&left={nasty}&chart={nasty}&at=1,2", DESKTOP)
    assert page.evaluate("document.title") == f"la, {DAYS[2]}"
    assert page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    assert "outside the region" in page.wait_for("document.getElementById('status').innerText")
