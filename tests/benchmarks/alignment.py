"""How far the pairs themselves are from aligned, and how much of `elastic`'s error that is.

    .venv/bin/python -m tests.benchmarks.alignment ../shared/data/patches/val

The first table registers the pairs as they are, with nothing done to them, and again mirrored: an
offset of the data turns with the mirror, one of the engine does not. The second scores `elastic`
against its truth, and again with the mean offset, or each pair's own affine, taken out of every
answer (without turning it by the two degrees of the warp). Both are the engine's word on data that
nobody has aligned better: it can tell what part of an error a pair has in common, not that the rest
is the engine's alone. So the last table asks a judge who shares nothing with it, windowed mutual
information (`tests/support/judges.py`), of the pairs where he is sure in at least two windows.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tar_engine import Registrar
from tar_engine.fields.field import Field
from tar_engine.training.evaluate import align_columns, dense_shares
from tar_engine.training.patches import PatchPairs, load_pairs
from tar_engine.training.protocols import PROTOCOLS, make_case
from tests.support.judges import residuals

LEAST_JUDGED = 2  # windows of a pair that the judge is sure of
PRIOR_PX = 8.0  # further off no pair of a set of aligned ones may be
MIRRORS: dict[str, tuple[int, ...]] = {"as they are": (), "mirrored in x": (2,), "in y": (1,)}
Bytes = npt.NDArray[np.uint8]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs_dir", type=Path)
    parser.add_argument("--every", type=int, default=1, help="of the pairs, use each n-th")
    args = parser.parse_args()
    data, registrar = load_pairs(args.pairs_dir), Registrar.load()
    chosen = range(0, len(data), args.every)
    fields = {
        name: [own_field(registrar, data, index, axes) for index in chosen]
        for name, axes in MIRRORS.items()
    }
    head = ["pairs", "answered", "mean dx", "mean dy", "spread dx", "spread dy"]
    print(
        align_columns([head, *(offset_line(name, found, data) for name, found in fields.items())])
    )
    print()
    own = fields["as they are"]
    by_pair = dict(zip(chosen, own, strict=True))
    print(align_columns(elastic_lines(registrar, data, by_pair)))
    print()
    print(align_columns(judged_lines(data, by_pair)))


def own_field(
    registrar: Registrar, data: PatchPairs, index: int, axes: tuple[int, ...]
) -> Field | None:
    """The affine from a pair's optical image to its SAR, both mirrored; None when refused."""
    images: list[Bytes] = [np.flip(part[index].numpy(), axes) for part in (data.optical, data.sar)]
    found = registrar.register(images[0], images[1], max_offset_px=PRIOR_PX)
    return Field("affine", found.affine) if found.accepted else None


def centre_offsets(fields: list[Field | None], data: PatchPairs) -> npt.NDArray[np.float64]:
    """(N, 2) SAR minus optical in the middle of the pairs that were answered, pixels."""
    height, width = data.optical.shape[-2:]
    centre = np.array([[(width - 1) / 2, (height - 1) / 2]])
    return np.concatenate([field.at(centre) for field in fields if field])


def offset_line(name: str, fields: list[Field | None], data: PatchPairs) -> list[str]:
    """One way of looking at the pairs, as a line of the first table."""
    offsets = centre_offsets(fields, data)
    figures = [*offsets.mean(axis=0), *offsets.std(axis=0)]
    return [name, f"{len(offsets)} of {len(fields)}", *(f"{figure:.2f}" for figure in figures)]


def elastic_lines(
    registrar: Registrar, data: PatchPairs, own: dict[int, Field | None]
) -> list[list[str]]:
    """The second table: shares of pixels, each answer less what its line says."""
    height, width = data.optical.shape[-2:]
    mean = centre_offsets(list(own.values()), data).mean(axis=0)
    common = Field("shift", np.column_stack([np.eye(2), mean]))
    none = Field("shift", np.eye(2, 3))
    shares: dict[str, list[list[float]]] = {}
    for index, field in own.items():
        case = make_case(data, index, PROTOCOLS["elastic"])
        answer = registrar.register(case.optical, case.sar).displacement
        taken_out = {"nothing": none, "the mean offset": common, "its own affine": field or common}
        for name, offset in taken_out.items():
            less = answer - offset.displacement(0, 0, width, height)
            shares.setdefault(name, []).append(list(dense_shares(less, case).values()))
    lines = [["elastic, less", "px<1", "px<2", "px<3"]]
    for name, found in shares.items():
        lines.append([name, *(f"{share:.1%}" for share in np.mean(found, axis=0))])
    return lines


def judged_lines(data: PatchPairs, own: dict[int, Field | None]) -> list[list[str]]:
    """The last table: the middle of the pairs as the engine and as the judge find it, by axis."""
    by_engine, by_judge = [], []
    for index, field in own.items():
        optical, sar = (
            part[index].float().mean(dim=0).numpy() for part in (data.optical, data.sar)
        )
        judged = residuals(optical, sar)
        if field is not None and len(judged.length) >= LEAST_JUDGED:
            by_engine.append(centre_offsets([field], data)[0])
            by_judge.append(np.median(judged.offset_xy, axis=0))
    lines = [["judged", "pairs", "engine's median", "judge's median", "correlation"]]
    for axis, engine, judge in zip(
        "xy", np.transpose(by_engine), np.transpose(by_judge), strict=True
    ):
        figures = np.median(engine), np.median(judge), np.corrcoef(engine, judge)[0, 1]
        lines.append([f"d{axis}", str(len(engine)), *(f"{figure:.2f}" for figure in figures)])
    return lines


if __name__ == "__main__":
    main()
