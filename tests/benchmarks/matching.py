"""The engine beside classical matchers: accuracy and time on the same cases, in one run.

    .venv/bin/python -m tests.benchmarks.matching ../shared/data/patches/val

Errors are those of `tar_engine.training.evaluate`; no answer counts as an infinite error. It shows
what a learned global search adds to the windows of `baselines.py`, and what it saves over
exhaustive search. It cannot show how often the matchers are sure of a wrong answer, because the
baselines never refuse on evidence; and its warps are drawn, so real misregistration is for
`residual.py`. Times hold for the machine and the number of threads of the run; compare them only
within a table.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from tar_engine import Registrar
from tar_engine.training.evaluate import (
    DENSE_PX,
    THRESHOLDS_PX,
    align_columns,
    dense_shares,
    grid_error,
)
from tar_engine.training.patches import load_pairs
from tar_engine.training.protocols import PROTOCOLS, Case, Protocol, make_case
from tests.benchmarks.baselines import BASELINES, Baseline, Bytes, Floats

ENGINE = "TAR"


@dataclass(frozen=True)
class Outcome:
    """errors_px: one per case, infinite for no answer. dense: mean shares by their name."""

    errors_px: Floats
    dense: dict[str, float]
    seconds: float  # per pair


def main() -> None:
    """Print the table."""
    args = arguments()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    data = load_pairs(args.pairs_dir)
    indices = range(0, len(data), args.every)
    matchers = {name: matcher_of(name) for name in args.matcher}
    head = ["protocol", "matcher", *(f"CMR@{t:g}" for t in THRESHOLDS_PX), "median px"]
    lines = [[*head, "px<1", "px<2", "s/pair", "times TAR's"]]
    for protocol in (PROTOCOLS[name] for name in args.protocol):
        cases = [make_case(data, index, protocol) for index in indices]
        engine_seconds = None
        for name, matcher in matchers.items():
            if protocol.foreign:
                print(f"{protocol.name}: skipped, the baselines cannot refuse", file=sys.stderr)
                break
            outcome = run(matcher, cases, f"{protocol.name}, {name}")
            if name == ENGINE:
                engine_seconds = outcome.seconds
            lines.append([protocol.name, name, *cells(outcome, protocol, engine_seconds)])
    print(f"{len(indices)} pairs, {args.threads} threads")
    print(align_columns(lines))


def matcher_of(name: str) -> Baseline:
    """A baseline, or the engine in the shape of one: a refusal is no answer."""
    if name != ENGINE:
        return BASELINES[name]
    registrar = Registrar.load(device="cpu")

    def register(optical: Bytes, sar: Bytes) -> Floats | None:
        found = registrar.register(optical, sar)
        return found.displacement if found.accepted else None

    return register


def run(matcher: Baseline, cases: Sequence[Case], label: str) -> Outcome:
    """Run all cases; the first one twice, because a first call pays for what is set up once."""
    matcher(cases[0].optical, cases[0].sar)
    errors, shares, seconds = [], [], 0.0
    for done, case in enumerate(cases, start=1):
        started = time.perf_counter()
        answer = matcher(case.optical, case.sar)
        seconds += time.perf_counter() - started
        if answer is None:
            answer = np.full_like(case.displacement, np.nan)
        errors.append(grid_error(answer, case))
        shares.append(dense_shares(answer, case))
        print(f"\r{label}: {done} of {len(cases)} ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    dense = {f"px<{t:g}": float(np.mean([s[f"px<{t:g}"] for s in shares])) for t in DENSE_PX}
    return Outcome(np.array(errors, np.float32), dense, seconds / len(cases))


def cells(outcome: Outcome, protocol: Protocol, engine_seconds: float | None) -> list[str]:
    """A line of the table; shares of pixels only where a field was drawn."""
    errors = outcome.errors_px
    dense = [f"{outcome.dense[key]:.1%}" for key in ("px<1", "px<2")]
    return [
        *(f"{(errors < t).mean():.1%}" for t in THRESHOLDS_PX),
        f"{np.median(errors):.2f}",
        *(dense if protocol.field_waves else ["", ""]),
        f"{outcome.seconds:.2f}",
        f"{outcome.seconds / engine_seconds:.2f}" if engine_seconds else "",
    ]


def arguments() -> argparse.Namespace:
    names, matchers = list(PROTOCOLS), [ENGINE, *BASELINES]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs_dir", type=Path)
    parser.add_argument("--every", type=int, default=1, help="of the pairs, use each n-th")
    parser.add_argument("--protocol", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--matcher", nargs="+", choices=matchers, default=matchers, metavar="NAME")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    # The engine first: the others are compared with it.
    args.matcher = sorted(args.matcher, key=matchers.index)
    return args


if __name__ == "__main__":
    main()
