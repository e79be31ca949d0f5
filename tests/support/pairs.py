"""Aligned pairs of drawn ground, and how to move their images; for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tar_engine.coordinates import apply_affine, pixel_grid
from tar_engine.deformation import sample
from tar_engine.training.patches import PatchPairs
from tar_engine.training.synthesis import synthetic_pair


def drawn_pairs(seeds: Mapping[str, int], side_px: int = 256) -> PatchPairs:
    """One pair for each name, drawn from its seed; their land cover is kept to the drawer."""
    made = [synthetic_pair(seed, side_px) for seed in seeds.values()]
    optical, sar = (
        torch.from_numpy(np.stack(images))
        for images in ([pair.optical for pair in made], [pair.sar for pair in made])
    )
    return PatchPairs(tuple(seeds), optical, sar)


def warp_affine(image: Tensor, source_from_target: Tensor, height: int, width: int) -> Tensor:
    """Resample (B, C, H, W) onto a target grid, bilinear; NaN where the source has nothing.

    Args:
        source_from_target: (B, 2, 3) target pixel -> source pixel.
    """
    grid = pixel_grid(height, width, image.device).reshape(-1, 2)
    source_xy = apply_affine(source_from_target.to(image.dtype), grid.to(image.dtype))
    return sample(image, source_xy.view(-1, height, width, 2))
