"""How passes of one viewing geometry differ: each pass's remainder over time, and steps in it.

For one relative orbit the terrain displaces SAR by the same field on every pass, to a few
hundredths of a pixel, so what one pass has beyond the field that all share is its own: the
satellite's timing, a processor's new version, or the optical image of that day, which is not quite
in its place either.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from catalog.store.days import DayOrDays, published_items, published_slots
from catalog.store.open import open_mosaic
from catalog.store.schema import REGISTERED, REGISTERED_RADAR_TO_RADAR

Floats = npt.NDArray[np.float64]

POLISHES = 20  # medians by turns settle in a few
LEAST_CELLS = 4  # of an overview that a pass shows; fewer say nothing of it
LEAST_PASSES = 3  # on either side of a step: two alike may be chance
LEAST_STEP_PX = 0.5
STEP_NOISES = 4.0  # a step is so many times what passes scatter by on either side
RECENT = timedelta(days=90)  # up to a region's newest day: what a run looks back over when it ends
MOST_RECENT_DAYS = 20  # of these; each costs a tenth of a second, and a dozen small reads
NORMAL_FROM_MAD = 1.4826  # standard deviation of normal values over their median deviation


@dataclass(frozen=True)
class Geometry:
    """What passes that look at the ground alike have in common."""

    relative_orbit: int | None
    orbit_state: str | None

    def __str__(self) -> str:
        number = "?" if self.relative_orbit is None else f"{self.relative_orbit:03d}"
        return f"{self.orbit_state or 'orbit'} {number}"


@dataclass(frozen=True)
class PassDisplacement:
    """What was applied to one SAR pass on one day: displacement (2, h, w) float64, dx and dy in
    pixels of the lattice on the cells of an overview, NaN where the pass is not shown."""

    day: date
    platform: str | None
    geometry: Geometry
    displacement: Floats


@dataclass(frozen=True)
class Remainder:
    """What one pass has beyond the field of its geometry, pixels: the shift (dx, dy), and the
    median distance of its cells from field and shift together. NaN for the only pass of a geometry.
    """

    day: date
    platform: str | None
    geometry: Geometry
    dx_px: float
    dy_px: float
    scatter_px: float


@dataclass(frozen=True)
class Step:
    """A lasting change in the remainders of one satellite: the first day after it, and its size."""

    platform: str | None
    geometry: Geometry
    before: date
    after: date
    dx_px: float
    dy_px: float

    def __str__(self) -> str:
        return (
            f"{self.platform or 'SAR'}, {self.geometry}: a step of ({self.dx_px:+.2f}, "
            f"{self.dy_px:+.2f}) px between {self.before} and {self.after}"
        )


def find_recent_steps(region_url: str) -> list[Step]:
    """Steps in a region's newest published days, those of the last three months, twenty at most.

    Few days cannot show a step and are not read. Raises as `read_passes` does.
    """
    slots = published_slots(region_url)
    if len(slots) < 2 * LEAST_PASSES:
        return []
    first = str(date.fromisoformat(slots[-1]) - RECENT)
    recent = [slot for slot in slots if slot >= first][-MOST_RECENT_DAYS:]
    if len(recent) < 2 * LEAST_PASSES:
        return []
    passes, _ = read_passes(region_url, (recent[0], recent[-1]))
    return find_steps(split_passes(passes))


def read_passes(
    region_url: str, time: DayOrDays | None = None
) -> tuple[list[PassDisplacement], list[date]]:
    """The passes of a region's published days, from the coarsest overview that all days have.

    `time` is as for `catalog.open_mosaic`. A day whose item does not tell which scene is of which
    orbit counts where it has one orbit. Days that show no pass of a known orbit are returned
    beside.

    Raises StoreError when nothing is published there.
    """
    factors = open_mosaic(region_url, time=time).attrs["overview_factors"]
    names = ("dx", "dy", "quality", "sar_scene")
    coarsest = factors[-1] if factors else None
    mosaic = open_mosaic(region_url, time=time, bands=names, overview=coarsest)
    passes: list[PassDisplacement] = []
    without: list[date] = []
    # By day, not by place in the list: a run may have published another one meanwhile.
    published = published_items(region_url, time).values()
    items = {item["properties"]["tar:slot"]: item for item in published}
    for index, slot in enumerate(mosaic["time"].dt.strftime("%Y-%m-%d").values):
        found = _passes_of_day(mosaic.isel(time=index).load(), items[slot]["properties"])
        passes += found
        if not found:
            without.append(date.fromisoformat(slot))
    return passes, without


def _passes_of_day(mosaic: xr.Dataset, properties: Mapping[str, Any]) -> list[PassDisplacement]:
    """The passes of one day, (y, x), by the orbits that its item tells."""
    orbits, listed = properties.get("tar:sar_orbits", []), properties.get("tar:sar_scenes", [])
    only = 0 if len(orbits) == 1 else None
    orbit_of_scene = properties.get("tar:sar_scene_orbits", [only] * len(listed))
    scene_ids = mosaic["sar_id"].values[mosaic["sar_scene"].values]
    displacement = np.stack([mosaic["dx"].values, mosaic["dy"].values]).astype(np.float64)
    # Where memory answered alone, nobody measured what is the pass's own.
    measured = np.isin(mosaic["quality"].values, (REGISTERED, REGISTERED_RADAR_TO_RADAR))
    passes = []
    for number, orbit in enumerate(orbits):
        mine = [id_ for id_, its in zip(listed, orbit_of_scene, strict=True) if its == number]
        shown = measured & np.isin(scene_ids, mine)
        if shown.sum() >= LEAST_CELLS:
            passes.append(
                PassDisplacement(
                    date.fromisoformat(properties["tar:slot"]),
                    orbit["platform"],
                    Geometry(orbit["relative_orbit"], orbit["orbit_state"]),
                    np.where(shown, displacement, np.nan),
                )
            )
    return passes


def split_passes(passes: Sequence[PassDisplacement]) -> list[Remainder]:
    """What each pass has beyond the field of its geometry; by geometry, then by day.

    Field and shifts by turns, each the median of what the other leaves (median polish: Tukey,
    Exploratory Data Analysis, 1977): the order of passes does not matter, and a wrong one moves
    neither as long as most are right.
    """
    remainders: list[Remainder] = []
    ordered = sorted(passes, key=lambda each: (str(each.geometry), each.day, str(each.platform)))
    for _, alike in groupby(ordered, key=lambda each: each.geometry):
        mine = list(alike)
        shifts, scatters = np.full((1, 2), np.nan), np.full(1, np.nan)
        if len(mine) > 1:  # of one pass alone nobody can say what is its own
            shifts, scatters = polish_medians(np.stack([each.displacement for each in mine]))
        remainders += [
            Remainder(each.day, each.platform, each.geometry, float(dx), float(dy), float(scatter))
            for each, (dx, dy), scatter in zip(mine, shifts, scatters, strict=True)
        ]
    return remainders


def polish_medians(displacements: Floats) -> tuple[Floats, Floats]:
    """Shifts (N, 2) and scatters (N,) of displacements (N, 2, h, w), pixels, NaN where unknown.

    The median shift is zero: what all share is the field.
    """
    cells = displacements.reshape(*displacements.shape[:2], -1)
    cells = cells[..., np.isfinite(cells).all(axis=1).any(axis=0)]
    shifts = np.zeros(cells.shape[:2])
    for _ in range(POLISHES):
        field = np.nanmedian(cells - shifts[..., None], axis=0)
        shifts = np.nanmedian(cells - field, axis=2)
        shifts -= np.median(shifts, axis=0)
    field = np.nanmedian(cells - shifts[..., None], axis=0)
    distance = np.hypot(*np.moveaxis(cells - field - shifts[..., None], 1, 0))
    return shifts, np.nanmedian(distance, axis=1)


def find_steps(remainders: Sequence[Remainder]) -> list[Step]:
    """Lasting changes in the remainders of each satellite and geometry, in the order of days."""

    def whose(each: Remainder) -> tuple[str, str]:
        return str(each.geometry), str(each.platform)

    steps: list[Step] = []
    for _, mine in groupby(sorted(remainders, key=lambda r: (*whose(r), r.day)), key=whose):
        steps += [_step_between(*sides) for sides in pairwise(_split_at_steps(list(mine)))]
    return steps


def _split_at_steps(series: list[Remainder]) -> list[list[Remainder]]:
    """Passes in the order of their days, cut where a change lasts: by binary segmentation."""
    shifts = np.array([[each.dx_px, each.dy_px] for each in series])
    places = range(LEAST_PASSES, len(series) - LEAST_PASSES + 1)
    if not places:
        return [series]
    costs = [_distances(shifts[:k]).sum() + _distances(shifts[k:]).sum() for k in places]
    place = places[int(np.argmin(costs))]
    step_px = np.hypot(*(np.median(shifts[place:], axis=0) - np.median(shifts[:place], axis=0)))
    # From one pass to the next, which other steps in the series do not disturb.
    noise_px = NORMAL_FROM_MAD * np.median(np.hypot(*np.diff(shifts, axis=0).T)) / np.sqrt(2)
    if step_px < max(LEAST_STEP_PX, STEP_NOISES * noise_px):
        return [series]
    return [*_split_at_steps(series[:place]), *_split_at_steps(series[place:])]


def _distances(shifts: Floats) -> Floats:
    """How far shifts (N, 2) lie from their median, (N,) pixels."""
    return np.asarray(np.hypot(*(shifts - np.median(shifts, axis=0)).T))


def _step_between(before: Sequence[Remainder], after: Sequence[Remainder]) -> Step:
    sides = [
        np.median([[each.dx_px, each.dy_px] for each in side], axis=0) for side in (before, after)
    ]
    dx, dy = sides[1] - sides[0]
    first = after[0]
    return Step(first.platform, first.geometry, before[-1].day, first.day, float(dx), float(dy))


def draw_drift(region: str, remainders: Sequence[Remainder], steps: Sequence[Step]) -> bytes:
    """A PNG: dx above dy over time, one colour per satellite and geometry, steps as lines."""
    from matplotlib.figure import Figure  # as long to import as all the rest

    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    series: dict[str, list[Remainder]] = {}
    for each in sorted(remainders, key=lambda each: each.day):
        series.setdefault(f"{each.platform or 'SAR'}, {each.geometry}", []).append(each)
    for label, mine in series.items():
        days = [np.datetime64(each.day) for each in mine]
        above.plot(days, [each.dx_px for each in mine], "o-", markersize=4, label=label)
        below.plot(days, [each.dy_px for each in mine], "o-", markersize=4, label=label)
    for axes, name in ((above, "dx"), (below, "dy")):
        axes.set_ylabel(f"remainder along {name[1]}, px")
        axes.grid(alpha=0.3)
        for step in steps:
            axes.axvline(np.datetime64(step.after), color="#d7263d", linestyle="--")
    above.set_title(f"{region}: what each SAR pass has beyond the field of its geometry")
    above.legend(loc="best", fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
