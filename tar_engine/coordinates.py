"""The only conversions between pixel, normalised and cell coordinates.

Pixel coordinates are (x, y) = (column, row) and pixel centres are integers, so an image of width W
spans [-0.5, W - 0.5]. Normalised coordinates are those of `grid_sample(align_corners=False)`:
[-1, 1] over the same span. A cell of side `s` covers `s` pixels; its centre is a half-integer
pixel when `s` is even.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tar_engine.constants import made_once


def normalised_from_pixel(xy: Tensor, height: float, width: float) -> Tensor:
    """(..., 2) pixel (x, y) to normalised (x, y) for `grid_sample(align_corners=False)`."""
    return (2 * xy + 1) / size_xy(height, width, xy.dtype, xy.device) - 1


@made_once
def size_xy(height: float, width: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(2,) width and height."""
    return torch.tensor([width, height], dtype=dtype, device=device)


def pixel_from_level(xy: Tensor, factor: float) -> Tensor:
    """(..., 2) coordinates in an image shrunk `factor` times by averaging, to full-size pixels."""
    return (xy + 0.5) * factor - 0.5


def level_from_pixel(xy: Tensor, factor: float) -> Tensor:
    """Inverse of `pixel_from_level`."""
    return (xy + 0.5) / factor - 0.5


def pixel_grid(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """(height, width, 2) float32 pixel coordinates (x, y)."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack([x, y], dim=-1)


def cell_centres(
    rows: int, columns: int, cell_px: int, device: torch.device | str = "cpu"
) -> Tensor:
    """(rows * columns, 2) float32 pixel coordinates of the cells' centres, row by row."""
    return pixel_from_level(pixel_grid(rows, columns, device), cell_px).reshape(-1, 2)


def apply_affine(affine: Tensor, xy: Tensor) -> Tensor:
    """Map points: affine (..., 2, 3) acting on xy (..., N, 2)."""
    return xy @ affine[..., :2].transpose(-1, -2) + affine[..., None, :, 2]


def rescale_affine(affine: Tensor, optical_factor: float, sar_factor: float) -> Tensor:
    """An affine (..., 2, 3) between images shrunk so many times, between the full-size ones.

    With p = (P + 1/2) / f - 1/2 on both sides, their factors f may differ.
    """
    linear = affine[..., :2] * (sar_factor / optical_factor)
    half = torch.full((2,), 0.5, dtype=affine.dtype, device=affine.device)
    shift = affine[..., :2] @ (half / optical_factor - half) + affine[..., 2] + 0.5
    return torch.cat([linear, (shift * sar_factor - 0.5)[..., None]], dim=-1)


def compose_affine(outer: Tensor, inner: Tensor) -> Tensor:
    """`outer` after `inner`, both (..., 2, 3)."""
    linear = outer[..., :2] @ inner[..., :2]
    shift = (outer[..., :2] @ inner[..., 2:]).squeeze(-1) + outer[..., 2]
    return torch.cat([linear, shift[..., None]], dim=-1)
