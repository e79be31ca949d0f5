"""What comes back from matching: small enough that ten thousand tiles fit into one process."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from tar_engine.fields.matches import Matches

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

CHUNK_ROWS = 2**18  # 7 MiB


@dataclass(frozen=True)
class EngineSpan:
    """When one worker's engine had a tile, in seconds of that worker's clock."""

    worker: str
    started: float
    ended: float


@dataclass(frozen=True)
class EngineTime:
    """Seconds that engines matched, and that they waited between two tiles; over all workers."""

    matching_s: float = 0.0
    waiting_s: float = 0.0

    def __add__(self, other: EngineTime) -> EngineTime:
        return EngineTime(self.matching_s + other.matching_s, self.waiting_s + other.waiting_s)

    @property
    def wait_share(self) -> float | None:
        """Of the time between the first and the last tile; None when nothing was matched."""
        total = self.matching_s + self.waiting_s
        return self.waiting_s / total if total else None

    @classmethod
    def of(cls, spans: Iterable[EngineSpan]) -> Self:
        """Waits are those between the end of one tile and the start of the next."""
        matching_s = waiting_s = 0.0
        in_order = sorted(spans, key=lambda span: (span.worker, span.started))
        for _, own in itertools.groupby(in_order, key=lambda span: span.worker):
            mine = list(own)
            matching_s += sum(span.ended - span.started for span in mine)
            waits = (after.started - before.ended for before, after in itertools.pairwise(mine))
            waiting_s += sum(max(0.0, wait) for wait in waits)
        return cls(matching_s, waiting_s)


@dataclass(frozen=True)
class TileMatches:
    """One tile's matches, in pixels of its window: what the engine gave, to the bit.

    values: (N, 7) float32: optical x, y, SAR x, y, confidence, error, rival. unreadable: scene id
    to reason. span is None where the engine was not asked.
    """

    values: Floats
    unreadable: dict[str, str]
    span: EngineSpan | None = None

    @classmethod
    def of(
        cls, matches: Matches, unreadable: dict[str, str], span: EngineSpan | None = None
    ) -> Self:
        """Of matches in pixels of the tile's window."""
        columns = (
            matches.optical_xy,
            matches.sar_xy,
            matches.confidence,
            matches.error_px,
            matches.rivals(),
        )
        return cls(np.column_stack(columns).astype(np.float32), unreadable, span)


@dataclass(frozen=True)
class GroupMatches:
    """A group's matches, and what of it could not be had.

    chunks: (N, 7) float32 each, as in `TileMatches`, tile after tile as they arrived. starts,
    counts: (T,) where each tile's matches begin in all chunks together, and how many they are, in
    the tiles' order. corners: (T, 2) x, y of each tile's window in the lattice. unreadable: scenes
    that could not be read (id to reason). failed: tiles that were given up (name to reason).
    tiles: how many there were.
    """

    chunks: tuple[Floats, ...]
    starts: Ints
    counts: Ints
    corners: Ints
    unreadable: Mapping[str, str]
    failed: Mapping[str, str]
    tiles: int
    engine: EngineTime

    def matches(self) -> Matches:
        """All of them in lattice pixels.

        In the tiles' order, not in the order they finished: the same request, the same field.
        """
        if not self.chunks:
            return Matches.concatenate(())
        begins = np.repeat(self.starts - np.cumsum(self.counts) + self.counts, self.counts)
        wide = np.concatenate(self.chunks)[begins + np.arange(len(begins))].astype(np.float64)
        move = np.repeat(self.corners, self.counts, axis=0).astype(np.float64)
        return Matches(wide[:, 0:2] + move, wide[:, 2:4] + move, *wide[:, 4:].T)


class Collected:
    """Tiles as they arrive, by their place in the group.

    Their matches go into few large arrays: ten thousand small ones would leave a heap of holes,
    and be copied once more in the end.
    """

    def __init__(self) -> None:
        self._chunks: list[Floats] = []
        self._filled = CHUNK_ROWS  # of the last chunk
        self._rows = 0
        self._tiles: dict[int, tuple[int, int]] = {}  # place to (start, count)
        self._unreadable: dict[int, dict[str, str]] = {}
        self._spans: list[EngineSpan] = []

    def __len__(self) -> int:
        return len(self._tiles)

    def __contains__(self, place: int) -> bool:
        return place in self._tiles

    def add(self, place: int, tile: TileMatches) -> None:
        """Keep what came back of the tile at `place`."""
        self._tiles[place] = self._rows, len(tile.values)
        self._unreadable[place] = tile.unreadable
        if tile.span is not None:
            self._spans.append(tile.span)
        left = tile.values
        while len(left):
            if self._filled == CHUNK_ROWS:
                self._chunks.append(np.empty((CHUNK_ROWS, 7), np.float32))
                self._filled = 0
            part = left[: CHUNK_ROWS - self._filled]
            self._chunks[-1][self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            left = left[len(part) :]
        self._rows += len(tile.values)

    def of_group(
        self, corners: Sequence[tuple[int, int]], failed: Mapping[str, str]
    ) -> GroupMatches:
        """What was collected of a group with tiles at `corners`."""
        places = sorted(self._tiles)
        extents = np.array([self._tiles[place] for place in places], dtype=np.int64)
        starts, counts = extents.reshape(-1, 2).T
        return GroupMatches(
            chunks=(*self._chunks[:-1], *(last[: self._filled] for last in self._chunks[-1:])),
            starts=starts,
            counts=counts,
            corners=np.array([corners[place] for place in places], np.int64).reshape(-1, 2),
            unreadable={id_: why for p in places for id_, why in self._unreadable[p].items()},
            failed=failed,
            tiles=len(corners),
            engine=EngineTime.of(self._spans),
        )
