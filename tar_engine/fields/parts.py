"""A large smooth field in overlapping parts, each solved by itself, on whatever worker.

What a control point is told by matches further off than the overlap cannot be seen, so work and
memory grow with the area alone. A few parts tell how stiff the field should be. Then each climbs
down its own steps of tolerance, all at that stiffness and against one mean weight, so that no
border between them shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tar_engine.config import FitConfig
from tar_engine.fields.field import ControlLattice, Field
from tar_engine.fields.matches import Matches
from tar_engine.fields.rungs import Rung, fit_rung, prior_weight, solve_robustly
from tar_engine.fields.smoother import Smoother, Solved, one_blas_thread

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Result = TypeVar("Result")

LEAST_TRIED, TRIED_OF = 6, 12  # parts that choose for all: so many, or one of so many
GOLDEN = (5**0.5 - 1) / 2  # multiples of it, whole numbers left away, spread evenly


@dataclass(frozen=True)
class Part:
    """Some rows and columns of a field's lattice, and all that is needed to solve them.

    matches: those whose 4 x 4 control points lie in it. fold: (N,) int64, which they are held out
    with. start: (2, 3) float64, the affine beneath the field. density: matches per control point
    of the whole field.
    """

    lattice: ControlLattice
    matches: Matches
    fold: Int64
    start: Float64
    density: float
    config: FitConfig


class SolveParts(Protocol):
    """Whoever applies a function to parts: this process, or many. The results in their order."""

    def __call__(
        self, function: Callable[[Part], Result], parts: Iterable[Part], /
    ) -> list[Result]: ...


def one_by_one(function: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
    """In this process."""
    return [function(part) for part in parts]


@dataclass(frozen=True)
class Span:
    """Control points along one axis that are solved together, and those of them that are kept."""

    start: int
    stop: int
    first_kept: int
    end_kept: int

    @classmethod
    def of(cls, count: int, core: int, overlap: int) -> list[Span]:
        """Spans that keep each of `count` points once, at most `core` each, all about as many."""
        if count <= core + 2 * overlap:
            return [cls(0, count, 0, count)]
        spans = -(-count // core)
        ends = [count * number // spans for number in range(spans + 1)]
        return [cls(max(0, a - overlap), min(count, b + overlap), a, b) for a, b in pairwise(ends)]

    @property
    def every(self) -> slice:
        """Of all points, those that are solved."""
        return slice(self.start, self.stop)

    @property
    def kept(self) -> slice:
        """Of all points, those that are kept."""
        return slice(self.first_kept, self.end_kept)

    @property
    def own(self) -> slice:
        """The same, counted from the start."""
        return slice(self.first_kept - self.start, self.end_kept - self.start)

    def holds(self, first: Int64) -> Mask:
        """Whether four points from `first` on all lie in it."""
        return (first >= self.start) & (first + 4 <= self.stop)

    def answers(self, first: Int64) -> Mask:
        """Whether four points from `first` on are its own: the second of them is kept."""
        return (first + 1 >= self.first_kept) & (first + 1 < self.end_kept)


class Parts:
    """A smooth field's lattice over all matches, cut into parts, and put together again."""

    def __init__(self, seen: Matches, fold: Int64, start: Float64, config: FitConfig):
        self.seen, self.fold, self.start, self.config = seen, fold, start, config
        self.lattice = ControlLattice.over(seen.optical_xy, config.spacing_px)
        self.density = len(seen) / (self.lattice.rows * self.lattice.columns)
        row, _ = self.lattice.basis_y(seen.optical_xy[:, 1])
        column, _ = self.lattice.basis_x(seen.optical_xy[:, 0])
        acrosses = Span.of(self.lattice.columns, config.core_columns, config.overlap_points)
        self.spans: list[tuple[Span, Span]] = []
        # By part: indexes of the matches it holds, and for which of them it answers.
        self.held: list[npt.NDArray[np.intp]] = []
        self.answers: list[Mask] = []
        for down in Span.of(self.lattice.rows, config.core_rows, config.overlap_points):
            in_rows = np.flatnonzero(down.holds(row))
            for across in acrosses:
                held = in_rows[across.holds(column[in_rows])]
                self.spans.append((down, across))
                self.held.append(held)
                self.answers.append(down.answers(row[held]) & across.answers(column[held]))

    @property
    def are_one(self) -> bool:
        """Whether a single part holds the whole field."""
        return len(self.spans) == 1

    def try_stiffness(self, solve: SolveParts) -> dict[int, list[Rung]]:
        """A rung for each stiffness on some parts, by their places."""
        telling = [place for place in range(len(self.spans)) if self.answers[place].any()]
        count = max(LEAST_TRIED, len(telling) // TRIED_OF)
        some = sorted(sorted(telling, key=lambda place: place * GOLDEN % 1)[:count])
        found = solve(partial(fit_part, stiffness=self.config.stiffness), map(self.cut, some))
        return dict(zip(some, found, strict=True))

    def unseen_by_stiffness(self, tried: Mapping[int, Sequence[Rung]]) -> list[Float64]:
        """`unseen_px` for each stiffness that was tried."""
        return [
            self._unseen_px({place: rungs[number] for place, rungs in tried.items()})
            for number in range(len(self.config.stiffness))
        ]

    def solve(self, tried: Mapping[int, Sequence[Rung]], chosen: int, solve: SolveParts) -> Rung:
        """The whole field at the stiffness of that number, from what was tried."""
        if self.are_one:
            return tried[0][chosen]
        function = partial(
            fit_part,
            stiffness=(self.config.stiffness[chosen],),
            mean_weight=self._mean_weight({place: each[chosen] for place, each in tried.items()}),
        )
        everywhere = range(len(self.spans))
        found = solve(function, map(self.cut, everywhere))
        rungs = {place: each[0] for place, each in enumerate(found)}
        control = np.empty((2, self.lattice.rows, self.lattice.columns))
        for place, (down, across) in enumerate(self.spans):
            part = rungs[place].field.control
            assert part is not None
            control[:, down.kept, across.kept] = part[:, down.own, across.own]
        field = Field("smooth", self.start, self.lattice, control)
        return Rung(field, self._unseen_px(rungs), float("nan"))

    def _unseen_px(self, rungs: Mapping[int, Rung]) -> Float64:
        """(N,) of every match by the part that answers for it; NaN where that is not there."""
        unseen_px = np.full(len(self.seen), np.nan)
        for place, rung in rungs.items():
            answers = self.answers[place]
            unseen_px[self.held[place][answers]] = rung.unseen_px[answers]
        return unseen_px

    def cut(self, place: int) -> Part:
        """One part with its matches."""
        (down, across), held = self.spans[place], self.held[place]
        lattice = self.lattice.cut(down.every, across.every)
        matches, fold = self.seen.select(held), self.fold[held]
        return Part(lattice, matches, fold, self.start, self.density, self.config)

    def _mean_weight(self, tried: Mapping[int, Rung]) -> float:
        """Of all matches: as much less than at first as it became in the parts that were tried."""
        at_first = prior_weight(self.seen, self.config)
        before = sum(float(at_first[self.held[place]].sum()) for place in tried)
        after = sum(len(self.held[place]) * rung.mean_weight for place, rung in tried.items())
        return float(at_first.mean()) * after / max(before, 1e-12)


@one_blas_thread()
def fit_part(
    part: Part, stiffness: Sequence[float], mean_weight: float | None = None
) -> list[Rung]:
    """A rung for each stiffness.

    mean_weight: that of all the field's matches in the end, against which stiffness is meant; None
    for that of the part's own.
    """
    if not len(part.matches):
        nothing = np.zeros((2, part.lattice.rows, part.lattice.columns))
        field = Field("smooth", part.start, part.lattice, nothing)
        return [Rung(field, np.empty(0), 0.0)] * len(stiffness)
    solve = solver_of(part, mean_weight)
    return [
        fit_rung(partial(solve, stiff=each), part.matches, part.fold, part.start, part.config)
        for each in stiffness
    ]


def bend_most(part: Part) -> Field:
    """Its field as loose as any that is tried, from all of its matches."""
    solve = partial(solver_of(part), stiff=part.config.stiffness[-1])
    return solve_robustly(solve, part.matches, part.start, part.config)[0]


def solver_of(part: Part, mean_weight: float | None = None) -> Callable[..., Solved]:
    """What solves a part from its matches' weight (N,) and a stiffness; see `fit_part`."""
    smoother = Smoother(part.matches, part.start, part.lattice)

    def solve(weight: Float64, stiff: float) -> Solved:
        if mean_weight is None:
            mean = float(weight.mean())
        else:
            mean = mean_weight * np.count_nonzero(weight) / len(weight)  # some are held out
        return smoother.solve(weight, stiff, part.config.ridge, max(mean, 1e-12) * part.density)

    return solve
