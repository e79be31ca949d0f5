"""What comes back from matching: small enough that ten thousand tiles fit into one process."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from tar_engine.matches import Matches

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


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

    values: (N, 6) float32: optical x, y, SAR x, y, confidence, error. unreadable: scene id to
    reason. span is None where the engine was not asked.
    """

    values: Floats
    unreadable: dict[str, str]
    span: EngineSpan | None = None

    @classmethod
    def of(
        cls, matches: Matches, unreadable: dict[str, str], span: EngineSpan | None = None
    ) -> Self:
        """Of matches in pixels of the tile's window."""
        columns = (matches.optical_xy, matches.sar_xy, matches.confidence, matches.error_px)
        return cls(np.column_stack(columns).astype(np.float32), unreadable, span)


@dataclass(frozen=True)
class GroupMatches:
    """A group's matches, and what of it could not be had.

    values: (N, 6) as in `TileMatches`, tile by tile. counts: (T,) matches of each tile. corners:
    (T, 2) x, y of each tile's window in the lattice. unreadable: scenes that could not be read
    (id to reason). failed: tiles that were given up (name to reason). tiles: how many there were.
    """

    values: Floats
    counts: Ints
    corners: Ints
    unreadable: Mapping[str, str]
    failed: Mapping[str, str]
    tiles: int
    engine: EngineTime

    @classmethod
    def of(
        cls,
        found: dict[int, TileMatches],
        corners: Sequence[tuple[int, int]],
        failed: Mapping[str, str],
    ) -> Self:
        """Of the tiles `found`, by their place among `corners`; takes them out one by one.

        In the tiles' order, not in the order they finished: the same request, the same field.
        """
        places = sorted(found)
        unreadable = {id_: why for place in places for id_, why in found[place].unreadable.items()}
        engine = EngineTime.of(span for tile in found.values() if (span := tile.span) is not None)
        counts = np.array([len(found[place].values) for place in places], dtype=np.int64)
        values = np.empty((counts.sum(), 6), np.float32)
        start = 0
        for place, count in zip(places, counts, strict=True):
            values[start : start + count] = found.pop(place).values
            start += count
        kept = np.array([corners[place] for place in places], dtype=np.int64).reshape(-1, 2)
        return cls(values, counts, kept, unreadable, failed, len(corners), engine)

    def matches(self) -> Matches:
        """All of them in lattice pixels."""
        move = np.repeat(self.corners, self.counts, axis=0).astype(np.float64)
        wide = self.values.astype(np.float64)
        return Matches(wide[:, 0:2] + move, wide[:, 2:4] + move, wide[:, 4], wide[:, 5])
