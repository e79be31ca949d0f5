"""How well made cloud is told from ground, and what knowing it exactly would be worth.

    .venv/bin/python -m tests.benchmarks.clouds PAIRS [--every N]

Cloud is what a protocol laid over the optical image. `masked` is what the engine takes for nodata;
`mask given` is the protocol again, with cloud as nodata (NaN) from the start.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from torch import Tensor

from tar_engine import Registrar
from tar_engine.matching import locate
from tar_engine.training.evaluate import align_columns, register_case, summarise
from tar_engine.training.patches import load_pairs
from tar_engine.training.protocols import PROTOCOLS, Case, make_case

HEAD = ["protocol", "pairs", "cloud masked", "clear masked", "CMR@1", "CMR@2", "accepted"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--protocol", nargs="+", default=["thick", "cloudy", "large"])
    parser.add_argument("--every", type=int, default=1, help="of the pairs, one of so many")
    args = parser.parse_args()
    registrar, data = Registrar.load(), load_pairs(args.pairs)
    lines = [HEAD]
    for name in args.protocol:
        protocol, cases = PROTOCOLS[name], []
        clear = replace(protocol, cloud_share=0.0)
        for index in range(0, len(data), args.every):
            case = make_case(data, index, protocol)
            covered = (case.optical != make_case(data, index, clear).optical).any(axis=0)
            cases.append((case, covered))
        lines += table_lines(registrar, name, cases)
    print(align_columns(lines))


def table_lines(
    registrar: Registrar, name: str, cases: list[tuple[Case, np.ndarray]]
) -> Iterator[list[str]]:
    """A protocol as the engine gets it; and with the true mask, if there is cloud."""
    masked, shares, found = [], [], []

    def watched(image: Tensor, *rest: Any) -> Tensor:
        masked.append(original(image, *rest))
        return masked[-1]

    original = locate.mask_cloud
    with patch.object(locate, "mask_cloud", watched):
        for case, covered in cases:
            masked.clear()
            found.append(register_case(registrar, case, PROTOCOLS[name]))
            taken = masked[0].isnan().any(dim=1)[0].numpy()
            shares.append([share(taken, covered), share(taken, ~covered)])
    means = [
        f"{np.nanmean(each):.1%}" if np.isfinite(each).any() else "" for each in np.array(shares).T
    ]
    yield [name, str(len(cases)), *means, *figures(name, found)]
    if not PROTOCOLS[name].cloud_share:
        return
    given = []
    for case, covered in cases:
        optical = np.where(covered, np.nan, case.optical.astype(np.float32))
        given.append(register_case(registrar, replace(case, optical=optical), PROTOCOLS[name]))
    yield ["  mask given", str(len(cases)), "", "", *figures(name, given)]


def share(taken: np.ndarray, where: np.ndarray) -> float:
    return float(taken[where].mean()) if where.any() else float("nan")


def figures(name: str, found: list[dict[str, Any]]) -> list[str]:
    summary = summarise(PROTOCOLS[name], found)
    return [f"{summary[key]:.1%}" for key in ("cmr@1", "cmr@2", "accepted")]


if __name__ == "__main__":
    main()
