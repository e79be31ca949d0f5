"""Places seen in many months as pairs: SAR of one month, optical of half a year away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rasterio.errors import RasterioError
from torch import Tensor

from flows.cli.training_scenes import read_raster
from tar_engine.errors import InputError
from tar_engine.training.patches import PatchPairs, load_pairs

Image = npt.NDArray[np.float32]

STRETCHED_TO = (0.01, 0.99)  # quantiles of a band that become 1 and 255; 0 stays nodata
CELL_PX = 4  # that SAR is averaged over before months are compared, to quiet speckle
LEAST_ALIKE = 0.3  # correlation of a month's SAR with the place's; 0.66 at least on real series


def read_pairs(path: Path) -> tuple[PatchPairs, tuple[str, ...]]:
    """Pairs of a folder of patches, of a packed file or of a folder of series.

    Returns the pairs, and what was left out, in words.

    Raises `InputError` when there is neither, or something there cannot be read.
    """
    if path.is_dir() and any(path.glob("*/*_sar.tif")):
        return season_pairs(path)
    return load_pairs(path), ()


def season_pairs(folder: Path) -> tuple[PatchPairs, tuple[str, ...]]:
    """Each month's SAR of `PLACE/MM_{optical,sar}.tif` with the optical image of half a year away.

    That is half of the months later, the year being a circle: twelve months are twelve pairs.
    Bands are stretched to uint8, each by itself.

    A month whose SAR shows other ground than the place's months together is left out: pairs, and
    (N,) words of what was. Clouds are not masked, as nothing masks them for the engine either.

    Raises `InputError` when a file is missing, unreadable or of another size.
    """
    names, optical, sar, left_out = [], [], [], []
    for place in sorted({file.parent for file in folder.glob("*/*_sar.tif")}):
        months, strays = read_months(place)
        left_out += [f"{place.name}, month {month}: shows other ground" for month in strays]
        for month, (_, seen_by_radar) in months.items():
            away = half_a_year_from(month, sorted([*months, *strays]))
            if away in months:
                names.append(f"series/{place.name}_sar{month}_optical{away}")
                optical.append(months[away][0])
                sar.append(seen_by_radar)
    if len({image.shape for image in (*optical, *sar)}) != 2:
        raise InputError(f"{folder}: no series of images of one size, (3, S, S) and (1, S, S)")
    return PatchPairs(tuple(names), torch.stack(optical), torch.stack(sar)), tuple(left_out)


def half_a_year_from(month: str, months: list[str]) -> str:
    """The month that is half of the months later, the first after the last."""
    return months[(months.index(month) + len(months) // 2) % len(months)]


def read_months(place: Path) -> tuple[dict[str, tuple[Tensor, Tensor]], list[str]]:
    """uint8 optical and SAR by month; and months whose SAR shows other ground."""
    months = sorted(file.name.removesuffix("_sar.tif") for file in place.glob("*_sar.tif"))
    try:
        optical = [read_raster(place / f"{month}_optical.tif") for month in months]
        sar = [read_raster(place / f"{month}_sar.tif") for month in months]
        alike = alike_together(np.stack([image[0].numpy() for image in sar]))
    except (OSError, RasterioError, ValueError) as error:
        raise InputError(
            f"{place}: no series of MM_optical.tif and MM_sar.tif ({error})"
        ) from error
    kept = {
        month: (stretched(one), stretched(other))
        for month, one, other, is_alike in zip(months, optical, sar, alike, strict=True)
        if is_alike
    }
    return kept, [month for month in months if month not in kept]


def alike_together(sar: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    """(months,) which of (months, H, W) show the ground that their median shows."""
    months, height, width = sar.shape
    rows, columns = height // CELL_PX, width // CELL_PX
    whole = sar[:, : rows * CELL_PX, : columns * CELL_PX]
    cells = whole.reshape(months, rows, CELL_PX, columns, CELL_PX).mean(axis=(2, 4))
    flat = cells.reshape(months, -1)
    typical = np.median(flat, axis=0)
    correlation = [np.corrcoef(month, typical)[0, 1] for month in flat]
    return np.array(correlation) >= LEAST_ALIKE


def stretched(image: Tensor) -> Tensor:
    """(bands, H, W) uint8 from 1 on, each band between its own quantiles."""
    bands = image.float()
    low, high = torch.quantile(bands.flatten(1), torch.tensor(STRETCHED_TO), dim=1)[..., None, None]
    shares = (bands - low) / (high - low).clamp_min(1e-6)
    counts: Tensor = 1 + 254 * shares.clamp(0, 1)
    return counts.round().to(torch.uint8)
