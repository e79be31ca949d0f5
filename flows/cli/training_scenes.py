"""Whole scenes as training pairs: crops, the SAR moved by what was measured for its scene."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import rasterio
import torch
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from torch import Tensor

from tar_engine.coordinates import pixel_grid
from tar_engine.deformation import sample
from tar_engine.errors import InputError
from tar_engine.training.patches import PatchPairs


def scene_pairs(folder: Path, side_px: int = 256) -> PatchPairs:
    """Crops of `NAME_S2.tif`, `NAME_S1.tif` scenes, SAR moved by the fits beside them.

    `residual_fits.json` holds a quadratic displacement per scene, good to about a pixel: enough
    for a coarse matcher, whose cells are 8 px.

    Raises `InputError` when the fits or a scene are missing or unreadable.
    """
    try:
        fits = json.loads((folder / "residual_fits.json").read_text(encoding="utf-8"))
        pairs = [_aligned_scene(folder, name, fit) for name, fit in sorted(fits.items())]
    except (OSError, RasterioError, KeyError, ValueError) as error:
        raise InputError(f"{folder}: no scenes with residual_fits.json ({error})") from error
    names, optical, sar = [], [], []
    for scene, (optical_image, sar_image) in zip(sorted(fits), pairs, strict=True):
        height, width = optical_image.shape[1:]
        for top in range(0, height - side_px + 1, side_px):
            for left in range(0, width - side_px + 1, side_px):
                names.append(f"scenes/{scene}_{top}_{left}")
                optical.append(optical_image[:, top : top + side_px, left : left + side_px])
                sar.append(sar_image[:, top : top + side_px, left : left + side_px])
    return PatchPairs(tuple(names), torch.stack(optical), torch.stack(sar))


def _aligned_scene(folder: Path, name: str, fit: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """(3, H, W) and (1, H, W) uint8, the SAR image resampled to where the optical one is."""
    optical, sar = read_raster(folder / f"{name}_S2.tif"), read_raster(folder / f"{name}_S1.tif")
    coefficients = torch.tensor(fit["quadratic_fit"]["coefficients_dx_dy"], dtype=torch.float32)
    height, width = optical.shape[1:]
    xy = pixel_grid(height, width)
    u = (xy[..., 0] - (width - 1) / 2) / (width / 2)
    v = (xy[..., 1] - (height - 1) / 2) / (height / 2)
    basis = torch.stack([torch.ones_like(u), u, v, u * u, u * v, v * v], dim=-1)
    moved = sample(sar[None].float(), (xy + basis @ coefficients)[None])[0]
    return optical, moved.nan_to_num(0.0).round().clamp(0, 255).to(torch.uint8)


def read_raster(file: Path) -> Tensor:
    """(bands, H, W) of a TIFF. Its compression may be one that only GDAL knows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # where it lies is not asked
        with rasterio.open(file) as image:
            return torch.from_numpy(image.read())
