"""Places in twelve months through the whole flow, each a region of its own, months in order.

    .venv/bin/python -m tests.benchmarks.series_flow ../shared/data/series
    .venv/bin/python -m tests.benchmarks.series_flow ../shared/data/series --withhold
    .venv/bin/python -m tests.benchmarks.series_flow ../shared/data/series --figure series.png

What `tests.benchmarks.series` asks of the engine alone, here of what the store then holds. The
files have no place on Earth, so they get one. Per place, from the fourth month on, in pixels:
`spread` is the median over months of the median distance of the displacement from the place's
median, `files` that of the motion of the files as OpenCV measures it, `unexplained` the spread of
the displacement less that motion; `stated` is the median `expected_error`, and `within 2x` the
share of months and pixels at which the unexplained displacement lies nearer to the place's median
than twice that. A month without a slot, or that was not registered, counts as infinitely far.
`--withhold` keeps back the optical image of every month but the first three. `--figure` also
registers each month by the engine alone and draws all three beside each other.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import catalog
from catalog.store.days import published_slots
from flows.cli.terminal import prepare_prefect
from flows.cluster.workers import cluster
from flows.plan.request import RegionRequest
from tar_engine import Registrar
from tar_engine.training.evaluate import align_columns
from tests.benchmarks.nights import register
from tests.benchmarks.series import PRIOR_PX, Months, motion, read_months
from tests.benchmarks.series_figure import Series, draw_series
from tests.support.acquisitions import (
    OPTICAL_COLLECTION,
    SAR_COLLECTION,
    Site,
    lonlat_bounds,
    optical_acquisition,
    sar_acquisition,
)
from tests.support.nights import EVERY_PASS
from tests.support.scenes import write_items

Floats = npt.NDArray[np.float64]

YEAR = 2023
WITH_OPTICAL = 3  # months, where the others are withheld
SETTLED_MONTH = 4
REFLECTANCE_SCALE = 0.0001
CRS, EASTING_M, NORTHING_M = "EPSG:32632", 500_000.0, 5_000_000.0  # anywhere
HEAD = ("place", "slots", "spread", "files", "unexplained", "stated", "within 2x")


@dataclass(frozen=True)
class Place:
    """What the store holds of a place, by month from 1, and how its files moved.

    displacement and moved are (months, 2, H, W) and (months, 2, 1, 1), px, NaN where there is no
    slot or no answer, or where the correlation cannot compare; error is (months, H, W) px.
    """

    slots: int
    displacement: Floats
    error: Floats
    moved: Floats


def main() -> None:
    """Print the table, and draw the figure if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("series_dir", type=Path, help="folders with MM_optical.tif and MM_sar.tif")
    parser.add_argument("--places", nargs="+", metavar="NAME", help="only these folders")
    parser.add_argument("--withhold", action="store_true", help="optical images after the third")
    parser.add_argument("--reference", type=int, default=9, help="month that others are held to")
    parser.add_argument("--figure", type=Path, metavar="PNG")
    args = parser.parse_args()
    if args.figure and args.withhold:
        parser.error("the figure compares with months that have their optical image")
    prepare_prefect()
    there = sorted(folder for folder in args.series_dir.iterdir() if folder.is_dir())
    chosen = [place for place in there if not args.places or place.name in args.places]
    registrar = Registrar.load() if args.figure else None
    found: dict[str, Place] = {}
    anew: list[Floats] = []
    print(align_columns([HEAD]))
    with tempfile.TemporaryDirectory() as scratch, cluster() as workers:
        for place in chosen:
            months = read_months(place)
            request = write_place(Path(scratch) / place.name, months, args.withhold)
            register(request.model_copy(update={"scheduler": workers.scheduler}))
            moved = files_motion(months, args.reference, args.withhold)
            found[place.name] = read_place(request, moved)
            print(align_columns([describe(place.name, found[place.name])]), flush=True)
            if registrar is not None:
                anew.append(register_anew(registrar, months))
    print(f"\n{tabulate(found)}")
    if args.figure:
        moved = [each.moved for each in found.values()]
        answers = {"each month anew": anew,
                   "with memory": [each.displacement for each in found.values()]}  # fmt: skip
        series = {**answers, "the files' own motion": moved}
        args.figure.write_bytes(
            draw_series(
                {name: deviations(fields) for name, fields in series.items()},
                {
                    name: np.array(
                        [median_distances(a - b) for a, b in zip(fields, moved, strict=True)]
                    )
                    for name, fields in answers.items()
                },
                SETTLED_MONTH,
            )
        )


def write_place(folder: Path, months: Months, withhold: bool) -> RegionRequest:
    """A place as scenes of one year, SAR an hour after optical; and the request for all of it."""
    folder.mkdir(parents=True)
    site = Site(folder, CRS, EASTING_M, NORTHING_M)
    items = []
    for month, (optical, sar) in months.items():
        when, later = day_of(month), day_of(month) + timedelta(hours=1)
        radar = {"polarisation": "vv", "platform": "sentinel-1a"}
        items.append(sar_acquisition(site, f"S1-{month:02d}", later, sar[0], **radar))
        if not withhold or month <= WITH_OPTICAL:
            name, numbers = f"S2-{month:02d}", optical.astype(np.uint16)
            items.append(optical_acquisition(site, name, when, numbers, scale=REFLECTANCE_SCALE))
    return RegionRequest.of(
        catalog=write_items(folder, *items),
        optical=OPTICAL_COLLECTION,
        sar=SAR_COLLECTION,
        bbox=lonlat_bounds(folder / f"S1-{min(months):02d}.tif", inset_px=1.0),
        start=day_of(1).date(),
        end=day_of(12).date(),
        store=str(folder / "store"),
        region="place",
        max_gap_days=1.0,
        **EVERY_PASS,
    )


def day_of(month: int) -> datetime:
    """When its optical image was taken."""
    return datetime(YEAR, month, 15, 10, 20, tzinfo=UTC)


def files_motion(months: Months, reference: int, withheld: bool) -> Floats:
    """How far SAR lies from optical in each month because its files moved, (months, 2, 1, 1) px.

    Where the month's own optical image is withheld, only the SAR file can have moved.
    """
    optical_there, sar_there = months[reference]
    moved = []
    for month, (optical, sar) in months.items():
        own = motion(sar_there[0], sar[0])
        its: npt.NDArray[np.float64] | None = np.zeros(2)
        if not withheld or month <= WITH_OPTICAL:
            its = motion(optical_there.mean(axis=0), optical.mean(axis=0))
        moved.append(np.full(2, np.nan) if own is None or its is None else own - its)
    return np.array(moved)[:, :, None, None]


def read_place(request: RegionRequest, moved: Floats) -> Place:
    """The displacements of every month, as the store holds them."""
    url = f"{request.store}/{request.region}"
    days = published_slots(url)
    mosaic = catalog.open_mosaic(url, bands=("dx", "dy", "expected_error")).load()
    shape = (len(moved), mosaic.y.size, mosaic.x.size)
    fields = {name: np.full(shape, np.nan) for name in ("dx", "dy", "expected_error")}
    for index, day in enumerate(days):  # both in the order of days
        for name, field in fields.items():
            field[int(day[5:7]) - 1] = mosaic[name].values[index]
    displacement = np.stack([fields["dx"], fields["dy"]], axis=1)
    return Place(len(days), displacement, fields["expected_error"], moved)


def register_anew(registrar: Registrar, months: Months) -> Floats:
    """Each month's SAR to its own optical image by the engine alone, (months, 2, H, W) px."""
    answers = [registrar.register(*images, max_offset_px=PRIOR_PX) for images in months.values()]
    return np.array([
        each.displacement if each.accepted else np.full_like(each.displacement, np.nan)
        for each in answers
    ])  # fmt: skip


def departures(fields: Floats) -> Floats:
    """Fields (N, 2, H, W) less their median, which is taken where they are known."""
    known = np.isfinite(fields).any(axis=(1, 2, 3))
    typical = np.full((1, *fields.shape[1:]), np.nan)
    if known.any():
        seen = np.isfinite(fields).any(axis=0)
        typical[0, seen] = np.nanmedian(fields[:, seen], axis=0)
    return fields - typical


def median_distances(fields: Floats) -> Floats:
    """Of each field (N, 2, H, W) from their median, over its pixels; unknown is infinitely far."""
    distance = np.hypot(*np.moveaxis(departures(fields), 1, 0))
    distance[np.isnan(distance)] = np.inf
    return np.asarray(np.quantile(distance, 0.5, axis=(1, 2), method="higher"))


def spread(fields: Floats) -> float:
    """The median of the median distances of fields from their median."""
    return float(np.quantile(median_distances(fields), 0.5, method="higher"))


def numbers_of(place: Place) -> list[float]:
    """The columns of the table after `slots`."""
    settled = slice(SETTLED_MONTH - 1, None)
    fields, error = place.displacement[settled], place.error[settled]
    comparable = np.isfinite(place.moved[settled]).all(axis=(1, 2, 3))
    moved = place.moved[settled][comparable]
    unexplained = fields[comparable] - moved
    distance = np.hypot(*np.moveaxis(departures(unexplained), 1, 0))
    known = np.isfinite(distance)
    return [
        spread(fields),
        spread(moved),
        spread(unexplained),
        float(np.median(error[np.isfinite(error)])) if np.isfinite(error).any() else np.nan,
        float((distance < 2 * error[comparable])[known].mean()) if known.any() else np.nan,
    ]


def describe(name: str, place: Place) -> list[str]:
    """A line of the table."""
    return [name, str(place.slots), *format_numbers(numbers_of(place))]


def format_numbers(numbers: Sequence[float]) -> list[str]:
    """Pixels to a hundredth; the last number is a share."""
    forms = [".2f"] * (len(numbers) - 1) + [".1%"]
    return [
        "–" if np.isnan(number) else format(number, form)
        for number, form in zip(numbers, forms, strict=True)
    ]


def tabulate(found: dict[str, Place]) -> str:
    """All places, and the medians over them."""
    medians = np.median([numbers_of(place) for place in found.values()], axis=0)
    middle = ["median", "", *format_numbers(medians)]
    return align_columns([HEAD, *(describe(*each) for each in found.items()), middle])


def deviations(places: Sequence[Floats]) -> Series:
    """How far each month of each place lies from the place's median: (places, months, 2) px.

    Of a field, the median over its pixels.
    """
    middles: list[Any] = []
    for fields in places:
        apart = departures(fields).reshape(len(fields), 2, -1)
        known = np.isfinite(apart).any(axis=(1, 2))
        middle = np.full((len(fields), 2), np.nan)
        middle[known] = np.nanmedian(apart[known], axis=2)
        middles.append(middle)
    return np.stack(middles)


if __name__ == "__main__":
    main()
