"""CFDM, the fine half: windows of low-level features correlated in a neighbourhood.

Both images are cut into cells. Each optical cell is correlated with the SAR image at every offset
up to `search_px` by FFT, whose cost hardly grows with the search; the surfaces of neighbouring
cells are then added up under a taper, which makes windows of any size at the price of cells. The
score is the normalised correlation of the window, its peak is interpolated by a parabola.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.config import RefineConfig
from tar_engine.constants import made_once
from tar_engine.coordinates import cell_centres, pixel_from_level
from tar_engine.network.filters import filter_along
from tar_engine.network.precision import is_on_cpu

SMALL_PX = 16  # side of what a cell is searched in, up to which a CPU correlates directly ...
CACHED_CELLS = 512  # ... and so many cells at once, whose areas fit a cache


class WindowMatches(NamedTuple):
    """What windows say on their own, one per cell, row by row, float32.

    centre_xy: (N, 2) pixel centres of the cells in the optical image.
    offset_xy: (B, N, 2) SAR position minus optical position, pixels.
    score: (B, N) normalised correlation at the peak, in [-1, 1].
    distinct: (B, N) in [0, 1]: how far the peak stands above the best rival elsewhere.
    covered: (B, rows, columns) bool, where both images have data for the cell.
    """

    centre_xy: Tensor
    offset_xy: Tensor
    score: Tensor
    distinct: Tensor
    covered: Tensor

    @property
    def confidence(self) -> Tensor:
        """(B, N) in [0, 1]: a strong peak without a rival, where there is data."""
        return self.score.clamp(0, 1) * self.distinct * self.covered.flatten(1)

    def at_full_size(self, factor: int) -> WindowMatches:
        """The same in pixels of the images that were shrunk `factor` times."""
        return self._replace(
            centre_xy=pixel_from_level(self.centre_xy, factor), offset_xy=self.offset_xy * factor
        )


def subtract_mean(features: Tensor) -> Tensor:
    """Features (B, C, H, W) less their mean, so that windows compare structure, not amount."""
    present = (features.square().sum(dim=1, keepdim=True) > 0).to(features.dtype)
    count = present.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    mean = features.sum(dim=(2, 3), keepdim=True) / count
    return torch.addcmul(features, mean, present, value=-1)  # features are 0 where none is present


def match_windows(
    optical: Tensor, sar: Tensor, valid: Tensor, config: RefineConfig
) -> WindowMatches:
    """Correlate low-level features of two roughly aligned images of one size in windows.

    Args:
        optical, sar: (B, C, H, W) float32 features, 0 for nodata; H and W are cut to whole cells.
        valid: (B, 1, H, W) in {0, 1}, where both images have data.
    """
    surfaces = correlation_surfaces(optical, sar, config)
    rows, columns = surfaces.shape[1:3]
    offset, score, distinct = find_peaks(surfaces, config.rival_px)
    centres = cell_centres(rows, columns, config.cell_px, optical.device)
    covered = F.avg_pool2d(valid, config.cell_px)[:, 0] > config.least_covered
    return WindowMatches(centres, offset, score, distinct, covered)


class CellProducts(NamedTuple):
    """What windows are added up from: (B, rows, columns, 2R+1, 2R+1) by cell and offset.

    product: correlation, not normalised. optical_energy (B, rows, columns, 1, 1) and sar_energy:
    squared length of both cells' features.
    """

    product: Tensor
    optical_energy: Tensor
    sar_energy: Tensor


def correlate_cells(optical: Tensor, sar: Tensor, cell_px: int, reach_px: int) -> CellProducts:
    """Correlate every cell of features (B, C, H, W) with SAR at offsets up to `reach_px`."""
    side, lags = cell_px + 2 * reach_px, 2 * reach_px + 1
    sar = F.pad(sar, [reach_px] * 4)
    kernels = optical.unfold(2, cell_px, cell_px).unfold(3, cell_px, cell_px)
    searched = sar.unfold(2, side, cell_px).unfold(3, side, cell_px)
    if is_on_cpu(sar):
        correlate = correlate_directly if side <= SMALL_PX else correlate_by_fft
        rows = max(1, CACHED_CELLS // (len(sar) * kernels.shape[3]))
        strips = zip(kernels.split(rows, dim=2), searched.split(rows, dim=2), strict=True)
        product = torch.cat([correlate(*strip) for strip in strips], dim=1)
    else:
        product = correlate_by_fft(kernels, searched)
    optical_energy = F.avg_pool2d(optical.square().sum(dim=1, keepdim=True), cell_px) * cell_px**2
    sar_energy = sar.square().sum(dim=1)
    for axis in (1, 2):
        sar_energy = sum_along(sar_energy, cell_px, axis)
    sar_energy = sar_energy.unfold(1, lags, cell_px).unfold(2, lags, cell_px)
    return CellProducts(product, optical_energy[:, 0, :, :, None, None], sar_energy)


def correlate_by_fft(kernels: Tensor, searched: Tensor) -> Tensor:
    """(B, rows, columns, lags, lags): (B, C, rows, columns, h, w) correlated with what is searched.

    Kernels are turned by half, so that a mere product of spectra, without a conjugate, correlates.
    """
    size, before = searched.shape[-2:], kernels.shape[-1] - 1
    kernels = kernels.flip(-2, -1)
    if is_on_cpu(kernels):
        # One feature after the other: their spectra fit a cache, those of all of them do not.
        here, there = kernels.unbind(dim=1), searched.unbind(dim=1)
        spectrum: Tensor = torch.fft.rfft2(here[0], s=size) * torch.fft.rfft2(there[0])
        for kernel, area in zip(here[1:], there[1:], strict=True):
            spectrum.addcmul_(torch.fft.rfft2(kernel, s=size), torch.fft.rfft2(area))
    else:
        spectrum = (torch.fft.rfft2(kernels, s=size) * torch.fft.rfft2(searched)).sum(dim=1)
    correlation: Tensor = torch.fft.irfft2(spectrum, s=size)
    return correlation[..., before:, before:]


def correlate_directly(kernels: Tensor, searched: Tensor) -> Tensor:
    """The same as `correlate_by_fft`; for small areas faster.

    One product multiplies all columns of both that lie so many rows apart; its diagonals are the
    offsets along a row.
    """
    batch, features, rows, columns, cell_px, _ = kernels.shape
    side = searched.shape[-1]
    lags = side - cell_px + 1
    kernel = kernels.permute(0, 2, 3, 5, 4, 1).reshape(-1, cell_px, cell_px * features)
    area = searched.permute(0, 2, 3, 4, 1, 5).reshape(-1, side * features, side)
    tall, diagonals = cell_px * features, (cell_px * side, 1, side + 1)
    products = [
        torch.bmm(kernel, area[:, lag * features : lag * features + tall])
        .as_strided((len(kernel), lags, cell_px), diagonals)
        .sum(dim=2)
        for lag in range(lags)
    ]
    return torch.stack(products, dim=1).view(batch, rows, columns, lags, lags)


def sum_along(values: Tensor, length: int, axis: int) -> Tensor:
    """Sums of `length` values in a row of an axis, by sums of ever longer halves."""
    if length == 1:
        return values
    half = length // 2
    halves, kept = sum_along(values, half, axis), values.shape[axis] - length + 1
    total = halves.narrow(axis, 0, kept) + halves.narrow(axis, half, kept)
    return total + values.narrow(axis, length - 1, kept) if length % 2 else total


def window_correlations(cells: CellProducts, window_cells: int, cell_px: int) -> Tensor:
    """(B, rows, columns, 2R+1, 2R+1) normalised correlation of each cell's window by offset."""
    product, optical_energy, sar_energy = (sum_windows(part, window_cells) for part in cells)
    floor = 1e-3 * cell_px**2
    return product / (optical_energy.clamp_min(floor) * sar_energy.clamp_min(floor)).sqrt()


def correlation_surfaces(optical: Tensor, sar: Tensor, config: RefineConfig) -> Tensor:
    """Surfaces of `window_correlations` for the windows of `config`."""
    cells = correlate_cells(optical, sar, config.cell_px, config.search_px)
    return window_correlations(cells, config.window_cells, config.cell_px)


def sum_windows(per_cell: Tensor, window_cells: int) -> Tensor:
    """Sum (B, rows, columns, h, w) over tapered windows of cells around each cell."""
    radius = window_cells // 2
    if radius == 0:
        return per_cell
    taper = window_taper(radius, per_cell.device)
    if is_on_cpu(per_cell):
        padded = F.pad(per_cell, (0, 0, 0, 0, radius, radius, radius, radius))
        weights = taper.tolist()
        return filter_along(filter_along(padded, weights, 1), weights, 2)
    batch, rows, columns, height, width = per_cell.shape
    flat = per_cell.permute(0, 3, 4, 1, 2).reshape(batch, height * width, rows, columns)
    channels = flat.shape[1]
    flat = F.conv2d(
        flat,
        taper.view(1, 1, -1, 1).expand(channels, 1, -1, 1),
        padding=(radius, 0),
        groups=channels,
    )
    flat = F.conv2d(
        flat,
        taper.view(1, 1, 1, -1).expand(channels, 1, 1, -1),
        padding=(0, radius),
        groups=channels,
    )
    return flat.view(batch, height, width, rows, columns).permute(0, 3, 4, 1, 2)


@made_once
def window_taper(radius: int, device: torch.device) -> Tensor:
    """(2 radius + 1,) weights of cells by their distance from a window's middle, along an axis."""
    return torch.cos(torch.arange(-radius, radius + 1) * (math.pi / (2 * radius + 2))).to(device)


def find_peaks(surface: Tensor, rival_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """Best offsets of (B, rows, columns, 2R+1, 2R+1) surfaces, to sub-pixel.

    Returns:
        offset_xy (B, N, 2), score (B, N), distinct (B, N): (peak - rival) / peak, where the rival
        is the best score further than `rival_px` away.
    """
    batch, rows, columns, lags, _ = surface.shape
    flat = surface.reshape(batch, rows * columns, lags * lags)
    offset, best = find_subpixel_peak(flat)
    score = flat.gather(2, best[..., None])[..., 0]
    y, x = best // lags, best % lags
    lag = torch.arange(lags, device=surface.device)
    near = (lag - y[..., None]).abs()[..., :, None] <= rival_px
    near = near & ((lag - x[..., None]).abs()[..., None, :] <= rival_px)
    rival = flat.masked_fill(near.flatten(2), -1.0).max(dim=-1).values
    distinct = ((score - rival) / score.clamp_min(1e-6)).clamp(0, 1)
    on_edge = (y == 0) | (y == lags - 1) | (x == 0) | (x == lags - 1)
    return offset, score, distinct.masked_fill(on_edge, 0.0)


def find_subpixel_peak(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Maxima of surfaces (..., (2R+1)^2): their offsets (..., 2) to sub-pixel, and their index.

    On the edge of a surface the offset is the whole pixel.
    """
    lags = math.isqrt(flat.shape[-1])
    best = flat.argmax(dim=-1)
    y, x = best // lags, best % lags
    inner_y, inner_x = y.clamp(1, lags - 2), x.clamp(1, lags - 2)

    inner = inner_y * lags + inner_x
    around = inner[..., None] + neighbours(lags, flat.device)
    middle, before_after = flat.gather(-1, inner[..., None]), flat.gather(-1, around)
    step = parabola_vertex(before_after[..., :2], middle, before_after[..., 2:])
    step = step.masked_fill((best != inner)[..., None], 0.0)
    return torch.stack([x, y], dim=-1) - (lags - 1) // 2 + step, best


@made_once
def neighbours(lags: int, device: torch.device) -> Tensor:
    """(4,) from a place in a flat surface to those before it in x and y, and after it."""
    return torch.tensor([-1, -lags, 1, lags], device=device)


def parabola_vertex(before: Tensor, peak: Tensor, after: Tensor) -> Tensor:
    """Sub-sample position of a maximum from three samples, within +-0.5."""
    curvature = before - 2 * peak + after
    step = 0.5 * (before - after) / curvature.clamp_max(-1e-9)
    return step.clamp(-0.5, 0.5)
