"""The refinement: estimate, warp, estimate again, from coarse to full resolution.

    affine ── windows, coarse to fine ── affine and cells ── all windows together, as a field
        └── windows once more, on what the answer warps: do they see it too?

Each round warps the SAR image by the answer so far and updates the answer: one affine for the pair,
and on top of it a smooth displacement per cell, so that terrain is followed too. Large windows find
their way from far; small ones together (`dense.py`) say where exactly; and large ones, which know
nothing of their neighbours, bear witness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.config import RefineConfig
from tar_engine.coordinates import (
    apply_affine,
    cell_centres,
    level_from_pixel,
    normalised_from_pixel,
    pixel_from_level,
    pixel_grid,
)
from tar_engine.deformation import sample
from tar_engine.fields.consensus import hypothesise, polish, support
from tar_engine.matching.dense import smooth_offsets
from tar_engine.matching.search import rescaled
from tar_engine.matching.windows import WindowMatches, centred, match_windows
from tar_engine.network.model import TarNetwork
from tar_engine.network.msfl import gaussian_kernel, separable, valid_of

SMOOTHING_CELLS = 1.0
HYPOTHESES = 128
AGREED_PX = 2.5  # a window that would move the answer by more does not confirm it


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
        # Cubic: between cells of 8 px, terrain of 64 px bends by more than a tenth of its height.
        extra = F.grid_sample(
            self.cells, grid, mode="bicubic", padding_mode="border", align_corners=False
        )
        return mapped + extra[:, :, 0].transpose(1, 2)


class Seen(NamedTuple):
    """A pair as an answer warps it: low-level features (B, C, h, w), both: (B, 1, h, w) in {0, 1}.

    Features are less their mean, and 0 where there is no data.
    """

    optical: Tensor
    sar: Tensor
    both: Tensor


@dataclass(frozen=True)
class ImagePair:
    """optical, sar: (B, bands, H, W) normalised, NaN for nodata; optical H and W in whole cells."""

    optical: Tensor
    sar: Tensor
    network: TarNetwork
    _optical_seen: dict[int, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def seen(self, answer: Answer, factor: int) -> Seen:
        """Both images shrunk `factor` times, on the pixels of the optical one."""
        optical, optical_valid = self.optical_seen(factor)
        sar = shrunk(self.sar, factor)
        height, width = optical.shape[-2:]
        grid = pixel_from_level(pixel_grid(height, width, sar.device).reshape(-1, 2), factor)
        source = level_from_pixel(answer.at(grid), factor)
        warped = sample(sar, source.view(-1, height, width, 2))
        sar_seen = centred(self.network.low_level(warped, "sar"))
        return Seen(optical, sar_seen, optical_valid * valid_of(warped))

    def optical_seen(self, factor: int) -> tuple[Tensor, Tensor]:
        """The optical image's features and validity, which no answer changes, made once."""
        if factor not in self._optical_seen:
            optical = shrunk(self.optical, factor)
            features = centred(self.network.low_level(optical, "optical"))
            self._optical_seen[factor] = features, valid_of(optical)
        return self._optical_seen[factor]

    def halved(self, times: int, cell_px: int) -> ImagePair:
        """The pair at half size, each of the batch so many times in a row."""
        optical, sar = (
            whole_cells(shrunk(image, 2), cell_px).repeat_interleave(times, dim=0)
            for image in (self.optical, self.sar)
        )
        return ImagePair(optical, sar, self.network)


@dataclass(frozen=True)
class Round:
    """What windows said in one round: SAR at the answer for optical_xy + offset_xy.

    optical_xy: (N, 2). offset_xy: (B, N, 2) full-size pixels. confidence: (B, N). covered: (B, N)
    bool, whether both sensors saw the cell. shape: rows and columns of the N cells.
    """

    optical_xy: Tensor
    offset_xy: Tensor
    confidence: Tensor
    covered: Tensor
    shape: tuple[int, int]


@dataclass(frozen=True)
class Found:
    """optical_xy (N, 2), sar_xy (B, N, 2), confidence and error_px (B, N): see `Matches`."""

    optical_xy: Tensor
    sar_xy: Tensor
    confidence: Tensor
    error_px: Tensor


def refine(pair: ImagePair, affine: Tensor, factors: Sequence[int], config: RefineConfig) -> Found:
    """Matches on a grid of cells, where the answer has them, as far as windows confirm it.

    Args:
        affine: (B, 2, 3) where to start. factors: how many times both images are shrunk, round by
            round of the large windows.
    """
    answer = Answer(affine)
    for factor in factors:
        answer = updated(answer, one_round(pair, answer, factor, config), config.cell_px * factor)
    for reach_px in config.dense_search_px:
        answer = dense_round(pair, answer, reach_px, config)
    return witnessed(pair, answer, config)


def one_round(pair: ImagePair, answer: Answer, factor: int, config: RefineConfig) -> Round:
    """Match windows at one resolution on the SAR image as the answer so far warps it."""
    seen = pair.seen(answer, factor)
    windows = match_windows(seen.optical, seen.sar, config)
    covered = F.avg_pool2d(seen.both, config.cell_px) > 0.5
    rows, columns = covered.shape[-2:]
    confidence = confidence_of(windows) * covered.flatten(1)
    return Round(
        pixel_from_level(windows.centre_xy, factor),
        windows.offset_xy * factor,
        confidence,
        covered.flatten(1),
        (rows, columns),
    )


def dense_round(pair: ImagePair, answer: Answer, reach_px: int, config: RefineConfig) -> Answer:
    """The answer moved by what all windows together say of the pair as it warps it."""
    seen = pair.seen(answer, 1)
    offset = smooth_offsets(seen.optical, seen.sar, reach_px, config)
    rows, columns = offset.shape[-2:]
    cell_px = config.dense_cell_px
    centres = cell_centres(rows, columns, cell_px, offset.device)
    sar_xy = answer.at(centres + offset.flatten(2).transpose(1, 2))
    beyond = (sar_xy - apply_affine(answer.affine, centres)).transpose(1, 2)
    return Answer(answer.affine, beyond.unflatten(2, (rows, columns)), cell_px)


def witnessed(pair: ImagePair, answer: Answer, config: RefineConfig) -> Found:
    """The answer at the cells of large windows, as far as they agree that it is right."""
    seen = one_round(pair, answer, 1, config)
    stray = seen.offset_xy.square().sum(dim=-1)
    confidence = seen.confidence * (1 - stray / AGREED_PX**2).clamp_min(0.0)
    error_px = stray.sqrt().masked_fill(~seen.covered, torch.inf)
    return Found(seen.optical_xy, answer.at(seen.optical_xy), confidence, error_px)


def confidence_of(windows: WindowMatches) -> Tensor:
    """(B, N) in [0, 1]: a strong peak without a rival."""
    return windows.score.clamp(0, 1) * windows.distinct


def updated(answer: Answer, found: Round, cell_px: float) -> Answer:
    """The answer after a round: a robust affine, then what its neighbours agree it leaves."""
    optical_xy, sar_xy, weight = pointed(answer, found)
    tolerance = cell_px / 4
    start, _ = agreed_affine(answer, optical_xy, sar_xy, weight, tolerance)
    affine = polish(start, optical_xy, sar_xy, weight, tolerance)
    residual = sar_xy - apply_affine(affine, optical_xy)
    distance = residual.square().sum(dim=-1, keepdim=True)
    trust = weight[..., None] / (1 + distance / (1.5 * tolerance) ** 2) ** 2
    stacked = torch.cat([residual * trust, trust], dim=-1).transpose(1, 2)
    smoothed = blur_cells(stacked.unflatten(2, found.shape))
    typical = trust.mean(dim=1)[..., None, None]
    cells = smoothed[:, :2] / (smoothed[:, 2:] + 0.3 * typical + 1e-9)
    return Answer(affine, cells, cell_px)


def confirmation(pair: ImagePair, affine: Tensor, config: RefineConfig) -> Tensor:
    """How much windows agree with candidates, (B, K) of affines (B, K, 2, 3), at half size.

    The confidence of the windows that one affine near the candidate explains, per window. Windows
    know nothing of what led to the candidate, so a wrong one finds no support.
    """
    batch, kept = affine.shape[:2]
    answer = Answer(rescaled(affine.flatten(0, 1), 0.5, 0.5))
    found = one_round(pair.halved(kept, config.cell_px), answer, 1, config)
    optical_xy, sar_xy, weight = pointed(answer, found)
    _, share = agreed_affine(answer, optical_xy, sar_xy, weight, config.cell_px / 4)
    return (share * weight.mean(dim=1)).view(batch, kept)


def pointed(answer: Answer, found: Round) -> tuple[Tensor, Tensor, Tensor]:
    """Where a round's windows point: optical_xy and sar_xy (B, N, 2), and their weight (B, N)."""
    sar_xy = answer.at(found.optical_xy + found.offset_xy)
    return found.optical_xy.expand_as(sar_xy), sar_xy, found.confidence + 1e-6


def agreed_affine(
    answer: Answer, optical_xy: Tensor, sar_xy: Tensor, weight: Tensor, tolerance: float
) -> tuple[Tensor, Tensor]:
    """The affine (B, 2, 3) with most support, the answer's own included; and its share (B,)."""
    drawn = hypothesise(optical_xy, sar_xy, weight, HYPOTHESES)
    hypotheses = torch.cat([drawn, answer.affine[:, None]], dim=1)
    share, best = support(hypotheses, optical_xy, sar_xy, weight, tolerance).max(dim=1)
    chosen = best[:, None, None, None].expand(-1, 1, 2, 3)
    return hypotheses.gather(1, chosen)[:, 0], share


def whole_cells(image: Tensor, cell_px: int) -> Tensor:
    """(B, C, H, W) padded with nodata to the right and below, to a multiple of cells."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % cell_px, 0, -height % cell_px), value=torch.nan)


def blur_cells(cells: Tensor) -> Tensor:
    """Smooth (B, C, rows, columns) over neighbouring cells."""
    kernel = gaussian_kernel(SMOOTHING_CELLS).to(cells)
    return separable(cells, kernel, kernel)


def shrunk(image: Tensor, factor: int) -> Tensor:
    """Average (B, C, H, W) over squares of `factor` pixels; NaN where less than half is valid."""
    if factor == 1:
        return image
    image = whole_cells(image, factor)
    valid = image.isfinite().to(image.dtype)
    share = F.avg_pool2d(valid, factor)
    mean = F.avg_pool2d(image.nan_to_num(0.0), factor) / share.clamp_min(1e-6)
    return mean.masked_fill(share < 0.5, torch.nan)
