"""What is not there: bands that a day loses, and passes that the archive should have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from catalog.archives.items import Scene
from flows.plan.generation import SlotPlan
from flows.plan.request import RegionRequest
from flows.plan.scene_checks import Warned

REPEAT_DAYS = {"sentinel-1": 12, "sentinel-2": 10}  # of one satellite's ground track
LEAST_PASSES = 3  # of a satellite on an orbit; fewer do not tell whether each pass is kept


def find_gaps(
    optical: Sequence[Scene],
    sar: Sequence[Scene],
    slots: Sequence[SlotPlan],
    request: RegionRequest,
) -> tuple[Warned, ...]:
    """Warnings of the bands that days lose, and of passes between the days asked for."""
    return (
        *(warned for slot in slots for warned in find_lost_bands(slot)),
        *find_missing_passes(optical, request.start, request.end),
        *find_missing_passes(sar, request.start, request.end),
    )


def find_lost_bands(slot: SlotPlan) -> Iterator[Warned]:
    """The scenes without a band that others of their day and sensor have, for which it is lost."""
    for scenes, kept in ((slot.optical, slot.optical_bands), (slot.sar, slot.sar_bands)):
        lost = {band for scene in scenes for band in scene.bands} - set(kept)
        for scene in scenes:
            if lacking := sorted(lost - set(scene.bands)):
                yield Warned(
                    scene,
                    f"it has no {', '.join(lacking)}, so the mosaic of {slot.slot} has none, "
                    "though other scenes of that day have",
                )


def find_missing_passes(scenes: Sequence[Scene], start: date, end: date) -> Iterator[Warned]:
    """Of one sensor's scenes: the passes that none of them is of, by the repeat of their orbits.

    Expected are passes from `start` to `end`, no later than the newest scene, which is how far the
    archive reaches. An orbit of which less than half was found is not imaged on every pass, and
    tells nothing.
    """
    newest = max((scene.solar_day for scene in scenes), default=end)
    days_of: defaultdict[tuple[str, str, int, int], set[date]] = defaultdict(set)
    for scene in scenes:
        if repeat := _repeat_days(scene):
            orbit = f"{scene.platform}, relative orbit {scene.relative_orbit}"
            phase = scene.solar_day.toordinal() % repeat
            days_of[orbit, scene.orbit_state or "", repeat, phase].add(scene.solar_day)
    for (orbit, state, repeat, phase), days in sorted(days_of.items()):
        first = start + timedelta(days=(phase - start.toordinal()) % repeat)
        asked = range(first.toordinal(), min(end, newest).toordinal() + 1, repeat)
        missing = [str(day) for day in map(date.fromordinal, asked) if day not in days]
        if len(days) >= LEAST_PASSES and 0 < len(missing) < len(days):
            yield Warned(
                None,
                f"the archive lacks passes of {' '.join(filter(None, (orbit, state)))}: "
                f"{', '.join(missing)}; it comes every {repeat} days, and {len(days)} were found",
            )


def _repeat_days(scene: Scene) -> int | None:
    """How often a satellite is on the same orbit again; None where it or the orbit is not known."""
    platform = (scene.platform or "").lower()
    known = (days for mission, days in REPEAT_DAYS.items() if platform.startswith(mission))
    return None if scene.relative_orbit is None else next(known, None)
