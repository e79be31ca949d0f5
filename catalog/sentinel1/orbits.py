"""Orbit files of Sentinel-1: where its satellites were, precise or restituted, known afterwards.

ESA publishes precise ones three weeks later, a file a day that is good to some centimetres; and
restituted ones within hours, a file an orbit. They are named like
S1A_OPER_AUX_POEORB_OPOD_20181203T120749_V20181112T225942_20181114T005942.EOF, and say the same as
the annotation of a product, which has the best that was known when it was made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalog.archives.providers import Access
from catalog.errors import shown
from catalog.sentinel1.annotation import AnnotationError, xml_of

Floats = NDArray[np.float64]
MOMENT = "%Y%m%dT%H%M%S"
NAME = re.compile(
    r"(S1[A-D])_OPER_AUX_(POEORB|RESORB)_OPOD_(\d{8}T\d{6})_V(\d{8}T\d{6})_(\d{8}T\d{6})\.EOF"
)
SATELLITE = re.compile(r"(?:sentinel-?|s)(1[a-d])(?:_.*)?", re.IGNORECASE)
AROUND = timedelta(seconds=90)  # of the time of a scene, for all of it and some states more
FEWEST_STATES = 4


def find_orbit_file(
    files: Iterable[Path], names: Iterable[str | None], when: datetime
) -> str | None:
    """The one of these files that tells best where a satellite was; None where none does.

    `names` are of the platform, as sentinel-1a, or begin like S1A_: the first of these counts.
    Precise orbits go before restituted ones, and of these the file made last.
    """
    told = (SATELLITE.fullmatch(name) for name in names if name)
    satellite = next((match[1].upper() for match in told if match), None)
    usable = []
    for path in files:
        named = NAME.fullmatch(path.name)
        if named is None or named[1] != f"S{satellite}":
            continue
        first, last = (datetime.strptime(named[n], MOMENT).replace(tzinfo=UTC) for n in (4, 5))
        if first <= when - AROUND and when + AROUND <= last:
            usable.append((named[2] == "POEORB", named[3], str(path)))
    return max(usable)[-1] if usable else None


def states_around(
    orbit_file: str, first: np.datetime64, last_seconds: float
) -> tuple[Floats, Floats, Floats]:
    """States of an orbit from before a time to some seconds after it: (N,), (N, 3) and (N, 3).

    Seconds from that time, Earth-fixed positions in metres and velocities in metres per second.
    Raises AnnotationError.
    """
    margin = AROUND.total_seconds() / 2
    states = []
    try:
        for state in xml_of(orbit_file, Access()).iterfind(".//List_of_OSVs/OSV"):
            utc = np.datetime64((state.findtext("UTC") or "").removeprefix("UTC="), "ns")
            seconds = float((utc - first) / np.timedelta64(1, "ns")) * 1e-9
            if -margin <= seconds <= last_seconds + margin:
                numbers = [float(state.findtext(n, "")) for n in ("X", "Y", "Z", "VX", "VY", "VZ")]
                states.append([seconds, *numbers])
    except ValueError as error:
        raise AnnotationError(f"{shown(orbit_file)} is no orbit file: {error}") from error
    told = np.array(states).reshape(-1, 7)
    rising = (np.diff(told[:, 0]) > 0).all() and np.isfinite(told).all()
    if len(told) < FEWEST_STATES or not rising:
        raise AnnotationError(
            f"{shown(orbit_file)} has {len(told)} sound states of the time of the scene, in order"
        )
    return told[:, 0], told[:, 1:4], told[:, 4:]
