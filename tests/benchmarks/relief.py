"""What heights are worth: pairs displaced by relief, registered with its heights and without.

    .venv/bin/python -m tests.benchmarks.relief ../shared/data/patches/val \
        --chips ../shared/data/chips --drawn 24

Lines of `small` are the same pairs without relief: no answer can be better. The pairs of a folder
and of the chips are themselves a little off; that is taken out in the last columns, where each
answer is less the affine that the engine finds between the pair as it is. Drawn pairs have an exact
truth. A chip's SAR is displaced by the chip's own DEM, of whole metres, in proportion: by 2, 4 and
6 px at most, to the east and to the west.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import torch
from scipy import ndimage

from tar_engine import Registrar
from tar_engine.coordinates import pixel_grid
from tar_engine.deformation import ReliefDisplacement, sample
from tar_engine.fields.field import Field
from tar_engine.training.evaluate import align_columns, dense_shares
from tar_engine.training.patches import PatchPairs, load_pairs
from tar_engine.training.protocols import PROTOCOLS, Case, make_case
from tar_engine.training.training_set import synthetic_pairs
from tests.benchmarks.alignment import own_field

PEAKS_PX = 2.0, 4.0, 6.0
RANGE_DEG = 10.0  # of the direction of range, from x and from -x
RED_GREEN_BLUE = [3, 2, 1]  # bands of an S2L2A chip
DEM_SIGMA_PX = 1.5  # a DEM of 30 m has no steps between its posts
STEPS = 30  # of the inversion, a contraction by half or more
Floats = npt.NDArray[np.float32]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs_dir", type=Path)
    parser.add_argument("--chips", type=Path, help="folder of chips with S1RTC, S2L2A and DEM")
    parser.add_argument("--drawn", type=int, default=24, help="so many drawn pairs")
    args = parser.parse_args()
    registrar = Registrar.load()
    head = ["pairs", "answered", "px<1", "px<2", "less own: px<1", "px<2"]
    lines = [head]
    for name, data in (("val", load_pairs(args.pairs_dir)), ("drawn", synthetic_pairs(args.drawn))):
        own = [own_field(registrar, data, index, ()) for index in range(len(data))]
        for protocol in ("small", "relief-blind", "relief"):
            cases = (make_case(data, index, PROTOCOLS[protocol]) for index in range(len(data)))
            lines.append(line_of(f"{name}, {protocol}", registrar, zip(cases, own, strict=True)))
    if args.chips:
        data, heights = load_chips(args.chips)
        own = [own_field(registrar, data, index, ()) for index in range(len(data))]
        each = [field for field in own for _ in range(2 * len(PEAKS_PX))]
        for name, told in (("chips, no heights", False), ("chips, heights", True)):
            cases = displaced(data, heights, told=told)
            lines.append(line_of(name, registrar, zip(cases, each, strict=True)))
    print(align_columns(lines))


def line_of(
    name: str, registrar: Registrar, cases: Iterable[tuple[Case, Field | None]]
) -> list[str]:
    """Cases with each pair's own affine, as a line of the table."""
    shares, answered = [], []
    for case, own in cases:
        found = registrar.register(case.optical, case.sar, heights=case.heights)
        answered.append(found.accepted)
        less = found.displacement
        if own is not None:
            less = less - own.displacement(0, 0, less.shape[2], less.shape[1])
        each = [dense_shares(answer, case) for answer in (found.displacement, less)]
        shares.append([part[key] for part in each for key in ("px<1", "px<2")])
    figures = [f"{share:.1%}" for share in np.mean(shares, axis=0)]
    return [name, f"{sum(answered)} of {len(answered)}", *figures]


def load_chips(folder: Path) -> tuple[PatchPairs, list[Floats]]:
    """Chips as pairs of red, green and blue and of VV; and the heights of each, (S, S) metres."""
    names = sorted(file.name.removesuffix("_DEM.tif") for file in folder.glob("*_DEM.tif"))

    def read(kind: str) -> list[Floats]:
        images = []
        for name in names:
            with rasterio.open(folder / f"{name}_{kind}.tif") as file:
                images.append(file.read().astype(np.float32))
        return images

    def stretched(images: Iterable[Floats]) -> torch.Tensor:
        return torch.from_numpy(np.stack([stretch(image) for image in images]))

    optical = stretched(image[RED_GREEN_BLUE] for image in read("S2L2A"))
    sar = stretched(image[:1] for image in read("S1RTC"))
    return PatchPairs(tuple(names), optical, sar), [dem[0] for dem in read("DEM")]


def stretch(image: Floats) -> npt.NDArray[np.uint8]:
    """As 8-bit pictures are: from the darkest hundredth to the brightest; 0 is nodata."""
    low, high = np.nanquantile(image, (0.01, 0.99))
    return np.clip(np.nan_to_num(255 * (image - low) / (high - low)), 1, 255).astype(np.uint8)


def displaced(data: PatchPairs, heights: Sequence[Floats], *, told: bool) -> Iterator[Case]:
    """Every chip, its SAR displaced along range by its DEM, which is given where `told`."""
    side = data.sar.shape[-1]
    grid = pixel_grid(side, side).double().reshape(-1, 2)
    for index, dem in enumerate(heights):
        relief_m = torch.from_numpy(ndimage.gaussian_filter(dem.astype(float), DEM_SIGMA_PX))
        relief_m -= relief_m.mean()
        for towards, peak_px in itertools.product((0.0, 180.0), PEAKS_PX):
            turn = math.radians(towards + RANGE_DEG)
            direction = torch.tensor([math.cos(turn), math.sin(turn)], dtype=torch.float64)
            field = ReliefDisplacement(relief_m, direction * (peak_px / relief_m.abs().max()))
            source = grid
            for _ in range(STEPS):
                source = grid - field.at(source)[0]
            image = sample(data.sar[index][None].double(), source.view(1, side, side, 2))[0]
            sar = image.nan_to_num(0.0).round().to(torch.uint8).numpy()
            moved = field.at(grid)[0]
            inside = ((grid + moved > -0.5) & (grid + moved < side - 0.5)).all(dim=1, keepdim=True)
            truth = moved.masked_fill(~inside, torch.nan).T.reshape(2, side, side).float().numpy()
            given = dem if told else None
            yield Case(data.names[index], data.optical[index].numpy(), sar, truth, heights=given)


if __name__ == "__main__":
    main()
