"""The refinement: estimate, warp, estimate again, from coarse to full resolution.

Each round warps the SAR image by the answer so far, matches windows of low-level features, and
updates the answer: one affine for the pair, and on top of it a smooth displacement per cell, so
that terrain is followed too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.config import RefineConfig
from tar_engine.consensus import hypothesise, polish, support
from tar_engine.coordinates import (
    apply_affine,
    level_from_pixel,
    normalised_from_pixel,
    pixel_from_level,
    pixel_grid,
)
from tar_engine.deformation import sample
from tar_engine.msfl import gaussian_kernel, oriented, separable, valid_of
from tar_engine.windows import WindowMatches, centred, match_windows

SMOOTHING_CELLS = 1.0
HYPOTHESES = 128


@dataclass(frozen=True)
class Answer:
    """SAR positions of optical positions: affine(p) + cells(p).

    affine: (B, 2, 3). cells: None, or (B, 2, rows, columns) pixels beyond the affine, at the
    centres of cells of `cell_px` full-size pixels that start at the image's corner.
    """

    affine: Tensor
    cells: Tensor | None = None
    cell_px: float = 0.0

    def at(self, xy: Tensor) -> Tensor:
        """SAR positions (B, N, 2) of optical positions (N, 2) or (B, N, 2)."""
        mapped = apply_affine(self.affine, xy)
        if self.cells is None:
            return mapped
        batch, _, rows, columns = self.cells.shape
        grid = normalised_from_pixel(xy, rows * self.cell_px, columns * self.cell_px)
        grid = grid.expand(batch, *xy.shape[-2:])[:, None]
        extra = F.grid_sample(
            self.cells, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        return mapped + extra[:, :, 0].transpose(1, 2)


@dataclass(frozen=True)
class Found:
    """optical_xy (N, 2), sar_xy (B, N, 2), confidence (B, N) of one round."""

    optical_xy: Tensor
    sar_xy: Tensor
    confidence: Tensor


def refine(
    optical: Tensor,
    sar: Tensor,
    affine: Tensor,
    factors: list[int],
    config: RefineConfig,
) -> Found:
    """Matches of the last round.

    Args:
        optical, sar: (B, bands, H, W) normalised, NaN for nodata.
        affine: (B, 2, 3) where to start. factors: how many times both are shrunk, round by round.
    """
    answer = Answer(affine)
    found = None
    for factor in factors:
        found = one_round(optical, sar, answer, factor, config)
        answer = update(answer, found, config.cell_px * factor, optical.shape[-2])
    if found is None:
        raise ValueError("factors: at least one round is needed")
    return found


def one_round(
    optical: Tensor,
    sar: Tensor,
    answer: Answer,
    factor: int,
    config: RefineConfig,
) -> Found:
    """Match windows at one resolution on the SAR image as the answer so far warps it."""
    small_optical, small_sar = shrunk(optical, factor), shrunk(sar, factor)
    rows, columns = small_optical.shape[-2:]
    grid = pixel_from_level(pixel_grid(rows, columns, optical.device).reshape(-1, 2), factor)
    source = level_from_pixel(answer.at(grid), factor)
    warped = sample(small_sar, source.view(-1, rows, columns, 2))
    optical_valid, warped_valid = valid_of(small_optical), valid_of(warped)
    windows = match_windows(
        centred(oriented(small_optical.nan_to_num(0.0), optical_valid)),
        centred(oriented(warped.nan_to_num(0.0), warped_valid)),
        config,
    )
    centres = pixel_from_level(windows.centre_xy, factor)
    sar_xy = answer.at(centres + windows.offset_xy * factor)
    covered = F.avg_pool2d(optical_valid * warped_valid, config.cell_px).flatten(1) > 0.5
    return Found(centres, sar_xy, confidence_of(windows) * covered)


def confidence_of(windows: WindowMatches) -> Tensor:
    """(B, N) in [0, 1]: a strong peak without a rival."""
    return windows.score.clamp(0, 1) * windows.distinct


def update(answer: Answer, found: Found, cell_px: float, height: int) -> Answer:
    """The answer after a round: a robust affine, then what its neighbours agree it leaves."""
    optical_xy = found.optical_xy.expand_as(found.sar_xy)
    weight = found.confidence + 1e-6
    tolerance = cell_px / 4
    hypotheses = torch.cat(
        [hypothesise(optical_xy, found.sar_xy, weight, HYPOTHESES), answer.affine[:, None]], dim=1
    )
    votes = support(hypotheses, optical_xy, found.sar_xy, weight, tolerance)
    best = votes.argmax(dim=1)[:, None, None, None].expand(-1, 1, 2, 3)
    start = hypotheses.gather(1, best)[:, 0]
    affine = polish(start, optical_xy, found.sar_xy, weight, tolerance)
    residual = found.sar_xy - apply_affine(affine, optical_xy)
    distance = residual.square().sum(dim=-1, keepdim=True)
    trust = weight[..., None] / (1 + distance / (1.5 * tolerance) ** 2) ** 2
    stacked = torch.cat([residual * trust, trust], dim=-1).transpose(1, 2)
    smoothed = blur_cells(stacked.reshape(len(stacked), 3, round(height / cell_px), -1))
    typical = trust.mean(dim=1)[..., None, None]
    cells = smoothed[:, :2] / (smoothed[:, 2:] + 0.3 * typical + 1e-9)
    return Answer(affine, cells, cell_px)


def blur_cells(cells: Tensor) -> Tensor:
    """Smooth (B, C, rows, columns) over neighbouring cells."""
    kernel = gaussian_kernel(SMOOTHING_CELLS).to(cells)
    return separable(cells, kernel, kernel)


def shrunk(image: Tensor, factor: int) -> Tensor:
    """Average (B, C, H, W) over squares of `factor` pixels; NaN where less than half is valid."""
    if factor == 1:
        return image
    height, width = image.shape[-2:]
    image = F.pad(image, (0, -width % factor, 0, -height % factor), value=torch.nan)
    valid = image.isfinite().to(image.dtype)
    share = F.avg_pool2d(valid, factor)
    mean = F.avg_pool2d(image.nan_to_num(0.0), factor) / share.clamp_min(1e-6)
    return mean.masked_fill(share < 0.5, torch.nan)
