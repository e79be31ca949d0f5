"""Pixels last read, kept by chunk: tiles beside each other need the same ones again and again.

A chunk is what the store decodes at once, so nothing smaller is worth keeping. They are kept
packed, as the store has them; only windows become floats. Never are more than `MOST_BYTES` of them
in memory beside those that are being read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalog import objects
from catalog.grid import Window
from catalog.store.schema import measured_values
from flows.view.days import Level

MOST_BYTES = 256 * 2**20

Key = tuple[str, int, str, int, int]
"""Group, factor, variable, row and column of a chunk."""


class Chunks:
    """Windows of levels, from chunks that are decoded once while they are kept."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._kept: OrderedDict[Key, Future[NDArray[Any]]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """In memory."""
        with self._lock:
            return self._bytes()

    def read(self, level: Level, names: Sequence[str], window: Window) -> list[NDArray[Any]]:
        """Variables on a window that lies within the level: float32, flags as they are stored.

        Raises StoreError.
        """
        return [self._read(level, name, window) for name in names]

    def _read(self, level: Level, name: str, window: Window) -> NDArray[Any]:
        array = level.stored[name]
        side = (array.shards or array.chunks)[0]
        parts = [
            (part, self._chunk(level, name, row, column, side))
            for row, column, part in _chunks_of(window, side)
        ]
        read = np.empty(window.shape, parts[0][1].dtype)
        for part, chunk in parts:
            inside = np.s_[
                part.y0 % side : part.y0 % side + part.height,
                part.x0 % side : part.x0 % side + part.width,
            ]
            rows = slice(part.y0 - window.y0, part.y1 - window.y0)
            columns = slice(part.x0 - window.x0, part.x1 - window.x0)
            read[rows, columns] = chunk[inside]
        return measured_values(read, array.dtype, array.attrs)

    def _chunk(self, level: Level, name: str, row: int, column: int, side: int) -> NDArray[Any]:
        key = level.group_url, level.factor, name, row, column
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
            else:
                mine = self._kept[key] = Future()
        if kept is not None:  # another thread may be reading it still
            return kept.result()
        try:
            whole = Window(row * side, column * side, side, side).clip(level.lattice.shape)
            assert whole is not None
            with objects.store_errors(f"read {name} of", level.group_url):
                chunk = np.asarray(level.stored[name][whole.slices])
        except BaseException as error:
            with self._lock:
                self._kept.pop(key, None)
            mine.set_exception(error)
            raise
        mine.set_result(chunk)
        self._forget()
        return chunk

    def _forget(self) -> None:
        """The longest unused, until what is kept is no more than it may be."""
        with self._lock:
            done = [key for key, each in self._kept.items() if each.done()]
            while self._bytes() > self.most_bytes and len(done) > 1:
                del self._kept[done.pop(0)]

    def _bytes(self) -> int:
        return sum(each.result().nbytes for each in self._kept.values() if each.done())


def _chunks_of(window: Window, side: int) -> Iterator[tuple[int, int, Window]]:
    """Row and column of every chunk that a window touches, and which part of the window it has."""
    for row in range(window.y0 // side, -(-window.y1 // side)):
        for column in range(window.x0 // side, -(-window.x1 // side)):
            part = Window(row * side, column * side, side, side).intersect(window)
            assert part is not None
            yield row, column, part
