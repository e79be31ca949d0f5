"""Windows from kept chunks: the store's pixels, and never more memory than was said."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import objects
from catalog.errors import StoreError
from catalog.grid import Window
from catalog.store.open import load_window
from flows.view.chunks import Chunks
from flows.view.days import Day
from tests.support.slots import LATTICE, published

NAMES = ("vh", "dx", "quality")


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    store = published(tmp_path_factory.mktemp("store"))
    return Day("la", store.slot, store.url)


@given(st.data())
def test_a_window_is_what_the_store_has_there(day: Day, data: st.DataObject) -> None:
    level = day.level(data.draw(st.sampled_from(day.factors)))
    height, width = level.lattice.shape
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    sides = [data.draw(st.integers(1, side)) for side in (height - y0, width - x0)]
    window = Window(y0, x0, *sides)
    chunks = Chunks(most_bytes=data.draw(st.sampled_from([0, 20_000, 10**9])))
    expected = load_window(level.pixels, NAMES, window)
    for name, values in zip(NAMES, chunks.read(level, NAMES, window), strict=True):
        assert values.dtype == expected[name].dtype
        np.testing.assert_array_equal(values, expected[name].values)


def test_no_more_is_kept_than_was_said(day: Day) -> None:
    level, most = day.level(1), 3 * 32 * 32 * 4
    chunks = Chunks(most_bytes=most)
    windows = [Window(y, x, 8, 8) for y in range(0, 80, 8) for x in range(0, 80, 8)]
    with ThreadPoolExecutor(4) as threads:
        read = list(threads.map(lambda window: chunks.read(level, NAMES, window), windows))
    assert 0 < chunks.bytes <= most
    for window, values in zip(windows, read, strict=True):
        np.testing.assert_array_equal(values[0], load_window(level.pixels, NAMES, window)["vh"])


def test_a_chunk_that_cannot_be_read_is_asked_for_again(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    store = published(tmp_path_factory.mktemp("store"), LATTICE)
    level, chunks, window = Day("la", store.slot, store.url).level(1), Chunks(), Window(0, 0, 9, 9)
    place = objects.join(store.url, "vh/0/0")
    content = objects.get(place)
    assert content is not None
    objects.put(place, b"damaged")
    for _ in range(2):
        with pytest.raises(StoreError, match="cannot read vh of"):
            chunks.read(level, ["vh"], window)
    objects.put(place, content)
    chunks.read(level, ["vh"], window)
