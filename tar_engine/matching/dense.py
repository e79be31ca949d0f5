"""CFDM, the fine half: one smooth displacement for all windows together.

    small windows' correlations ── each moves where it correlates best, but not far from its
        neighbours ── neighbours agree on a smooth field ── again, held closer to it

A large window is sure but smears terrain, a small one follows terrain but has rivals. Small windows
that have to stay near a field smooth among them have neither fault. Along y they have to stay
nearer: there relief displaces hardly anything, and what moves is mostly chance.

The two steps by turns minimise correlation and smoothness together (coupled convex optimisation:
Steinbrücker et al., ICCV 2009; with sampled correlations: Heinrich et al., MICCAI 2014).
"""

from __future__ import annotations

import torch
from torch import Tensor

from tar_engine.config import RefineConfig
from tar_engine.matching.windows import correlate_cells, find_subpixel_peak, window_correlations
from tar_engine.network.filters import filter_separable, gaussian_kernel


def estimate_smooth_offsets(
    optical: Tensor, sar: Tensor, reach_px: int, config: RefineConfig
) -> tuple[Tensor, Tensor]:
    """Offsets of roughly aligned features, for every cell of `config.dense_cell_px`.

    Args:
        optical, sar: (B, C, H, W) float32 features, 0 for nodata.
        reach_px: the largest offset looked for, each way.

    Returns:
        (B, 2, rows, columns) SAR position minus optical position (dx, dy), pixels; and (B, rows,
        columns), how much the window of each cell has said of it.
    """
    cell_px = config.dense_cell_px
    products = correlate_cells(optical, sar, cell_px, reach_px)
    surfaces = window_correlations(products, config.dense_window_cells, cell_px).flatten(3)
    energy = products.optical_energy[..., 0, 0]
    # Where nothing stands out, correlation is high or low by chance.
    present = energy / (energy + energy.mean(dim=(1, 2), keepdim=True) + 1e-9)
    lag = torch.arange(-reach_px, reach_px + 1, device=optical.device, dtype=surfaces.dtype)
    field = torch.zeros(*surfaces.shape[:3], 2, device=optical.device)
    for coupling, sigma_cells in zip(config.coupling, config.smoothing_cells, strict=True):
        across = (lag - field[..., :1]).square()[..., None, :]
        down = (lag - field[..., 1:]).square()[..., :, None]
        away = torch.add(across, down, alpha=config.coupling_y).flatten(3)
        held = surfaces - coupling * away
        offset, best = find_subpixel_peak(held)
        weight = surfaces.gather(3, best[..., None])[..., 0].clamp_min(0) * present
        field = smooth_over_cells(offset, weight[..., None], sigma_cells)
    return field.permute(0, 3, 1, 2), weight


def smooth_over_cells(offset: Tensor, weight: Tensor, sigma_cells: float) -> Tensor:
    """Weighted Gaussian mean of (B, rows, columns, 2) over neighbouring cells."""
    kernel = gaussian_kernel(sigma_cells, offset.device)
    stacked = torch.cat([offset * weight, weight], dim=-1).permute(0, 3, 1, 2)
    total = filter_separable(stacked, kernel, kernel).permute(0, 2, 3, 1)
    mean: Tensor = total[..., :2] / (total[..., 2:] + 1e-6)
    return mean
