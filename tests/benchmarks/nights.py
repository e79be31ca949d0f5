"""Twelve nights of a made region whose truth is known, through the whole flow, night by night.

    .venv/bin/python -m tests.benchmarks.nights            # into one store
    .venv/bin/python -m tests.benchmarks.nights --anew     # and each night into a store of its own

Relief, speckle, every pass's own shift and tilt, and clouds: see `tests.support.nights`. Per night
`median` and `95 %` are errors against the truth over all pixels of the region, in pixels, where
what was not registered counts as infinitely wrong; `answered` is the share that was registered,
`stated` the median of `expected_error` over it, `within 2x` the share of it whose true error is
below twice the stated one. `match` and `estimate` are CPU seconds of all processes: the first of
matching, the second of that and the fitting of fields. `quality` has the share of pixels of each
value, percent. The workers are warm: before the first night one is registered and thrown away.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

import catalog
from catalog.store.days import published_slots
from catalog.store.schema import QUALITY
from flows.cli.terminal import prepare_prefect
from flows.cluster.workers import Workers, cluster
from flows.plan.request import RegionRequest
from tar_engine.training.evaluate import align_columns
from tests.support.nights import CLOUD_PERCENT, MadeNights, write_nights

SETTLED = 3  # from this night on, counted from 0, memory has something to say
HEAD = (
    "night", "cloud %", "slot", "median", "95 %", "answered", "stated", "within 2x", "match, s",
    "estimate, s", "quality",
)  # fmt: skip


@dataclass(frozen=True)
class Night:
    """What one night came to, against the truth; errors in px, infinite without a slot."""

    median_px: float = np.inf
    p95_px: float = np.inf
    answered: float = 0.0
    stated_px: float = np.nan
    within: float = np.nan
    quality: str = ""


@dataclass
class Meter:
    """CPU seconds that workers and driver spend in stages of a run, by stage and day."""

    workers: Workers
    seconds: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))

    def used(self) -> float:
        """CPU seconds of every process since it began."""
        return time.process_time() + sum(self.workers.client.run(time.process_time).values())

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Runs within this block are measured."""
        from flows import estimate_slot, run_region

        days: list[str] = []

        def estimate(run: Any, outcome: Any, *others: Any) -> Any:
            days.append(outcome.slot.slot)
            return self._timed("estimate", days[-1], actual_estimate, run, outcome, *others)

        def match(*arguments: Any) -> Any:
            return self._timed("match", days[-1], actual_match, *arguments)

        def position(*arguments: Any) -> Any:
            return self._timed("match", days[-1], actual_position, *arguments)

        actual_estimate = run_region.estimate_slot
        actual_match, actual_position = estimate_slot.match_pairs, estimate_slot.position_pass
        with (
            patch.object(run_region, "estimate_slot", estimate),
            patch.object(estimate_slot, "match_pairs", match),
            patch.object(estimate_slot, "position_pass", position),
        ):
            yield

    def _timed(self, stage: str, day: str, work: Callable[..., Any], *arguments: Any) -> Any:
        before = self.used()
        result = work(*arguments)
        self.seconds[stage, day] += self.used() - before
        return result


def main() -> None:
    """Print the table, or both, and what they come to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--anew", action="store_true", help="also without memory: a store a night")
    parser.add_argument("--at-once", action="store_true", help="all nights in one request")
    parser.add_argument("--side", type=int, default=896, metavar="PX")
    parser.add_argument("--cloud", type=int, nargs="+", default=CLOUD_PERCENT, metavar="PERCENT",
                        help="of each night; as many nights as numbers")  # fmt: skip
    parser.add_argument("--optical-shift", type=float, default=0.0, metavar="PX",
                        help="standard deviation of optical images' own shifts")  # fmt: skip
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave scenes and stores there")
    args = parser.parse_args()
    prepare_prefect()
    with tempfile.TemporaryDirectory() as scratch, cluster() as workers:
        folder = args.keep or Path(scratch)
        made = write_nights(
            folder / "scenes", side_px=args.side, cloud_percent=args.cloud,
            optical_shift_px=args.optical_shift,
        )  # fmt: skip
        register(made.request(folder / "warm", 0, 0, scheduler=workers.scheduler))
        print(f"{args.side} px squared, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        kinds = {"one store": False} | ({"each night anew": True} if args.anew else {})
        for kind, anew in kinds.items():
            meter = Meter(workers)
            with meter.measuring():
                stores = run_nights(made, folder, workers.scheduler, anew, args.at_once)
            nights = [judge(made, night, store) for night, store in enumerate(stores)]
            print(f"\n{kind}\n{tabulate(made, nights, meter)}\n{summarise(made, nights, meter)}")


def run_nights(
    made: MadeNights, folder: Path, scheduler: str, anew: bool, at_once: bool
) -> list[Path]:
    """Register the nights; returns the store that each went to."""
    count = len(made.nights)
    if at_once and not anew:
        register(made.request(folder / "store", scheduler=scheduler))
        return [folder / "store"] * count
    stores = [folder / (f"anew-{night}" if anew else "store") for night in range(count)]
    for night, store in enumerate(stores):
        register(made.request(store, night, night, scheduler=scheduler))
    return stores


def register(request: RegionRequest) -> None:
    """The flow, which must not fail."""
    from flows.register_region import register_region

    result = register_region(request)
    if result.ending != "Completed":
        raise RuntimeError(f"{request.start}: {result.summary}")


def judge(made: MadeNights, night: int, store: Path) -> Night:
    """One night's mosaic against the truth."""
    url, day = f"{store}/nights", made.nights[night]
    if day.isoformat() not in published_slots(url):
        return Night()
    mosaic = catalog.open_mosaic(url, time=day).isel(time=0).load()
    truth = made.truth(night, mosaic)
    error = np.hypot(mosaic["dx"].values - truth[0], mosaic["dy"].values - truth[1])
    answered = np.isfinite(error)
    error[~answered] = np.inf
    stated = mosaic["expected_error"].values[answered]
    quality = mosaic["quality"].values
    shares = {name: np.mean(quality == value) for value, name in enumerate(QUALITY)}
    return Night(
        # A whole pixel's error, never one between finite and infinite.
        *(float(np.quantile(error, share, method="higher")) for share in (0.5, 0.95)),
        float(answered.mean()),
        float(np.median(stated)) if stated.size else np.nan,
        float((error[answered] < 2 * stated).mean()) if stated.size else np.nan,
        " ".join(f"{name} {100 * share:.0f}" for name, share in shares.items() if share > 0),
    )


def tabulate(made: MadeNights, nights: list[Night], meter: Meter) -> str:
    """A line a night."""
    rows = [
        [
            day.isoformat(), str(percent), "yes" if each.quality else "none",
            f"{each.median_px:.3f}", f"{each.p95_px:.3f}", f"{each.answered:.0%}",
            *((f"{each.stated_px:.3f}", f"{each.within:.1%}") if each.answered else ("–", "–")),
            *(f"{meter.seconds[stage, str(day)]:.1f}" for stage in ("match", "estimate")),
            each.quality,
        ]
        for day, percent, each in zip(made.nights, made.cloud_percent, nights, strict=False)
    ]  # fmt: skip
    return align_columns([HEAD, *rows])


def summarise(made: MadeNights, nights: list[Night], meter: Meter) -> str:
    """What the table comes to: settled nights, and those of them under full cloud, to the first."""
    first, lines = nights[0], []
    settled = [each for each in enumerate(nights) if each[0] >= SETTLED]
    dark = [each for each in settled if made.cloud_percent[each[0]] == 100]
    for name, chosen in (("from the fourth night on", settled), ("of these, full cloud", dark)):
        if not chosen:
            continue
        errors = [each.median_px for _, each in chosen]
        days = [str(made.nights[night]) for night, _ in chosen]
        cpu = {s: np.median([meter.seconds[s, day] for day in days]) for s in ("match", "estimate")}
        before = {s: meter.seconds[s, str(made.nights[0])] for s in cpu}
        spent = ", ".join(f"{s} {cpu[s]:.1f} s of {before[s]:.1f} s" for s in cpu)
        lines.append(
            f"{name}: median error {np.median(errors):.3f} px, worst night {max(errors):.3f}; the "
            f"first night {first.median_px:.3f}; within 2x the stated error "
            f"{_mean_within(chosen)}; CPU {spent} of the first night"
        )
    return "\n".join(lines)


def _mean_within(chosen: list[tuple[int, Night]]) -> str:
    known = [each.within for _, each in chosen if each.answered]
    return f"{np.mean(known):.1%}" if known else "–"


if __name__ == "__main__":
    main()
