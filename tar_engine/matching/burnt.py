"""What is burnt into pixels is no ground: drawn lines, and noise that both images share.

A graticule or the crosses of a map lie at the same pixels of both images wherever these show the
ground, and so does a pattern that one process left in both. Either is a stronger match than the
ground, at the wrong place.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.config import BurntConfig
from tar_engine.network.msfl import dilate, filter_separable, gaussian_kernel, is_on_cpu

BESIDE = ((0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, 0), (0, 2), (2, 0))


def without_burnt(optical: Tensor, sar: Tensor, config: BurntConfig) -> tuple[Tensor, Tensor]:
    """Both images, (B, bands, H, W) float32, without what is burnt into them.

    Drawn lines become nodata (NaN). Where both images share their noise, they are smoothed until
    it is gone.
    """
    optical, sar = (
        image.masked_fill(find_drawn_lines(image, config), torch.nan) for image in (optical, sar)
    )
    if optical.shape[-2:] != sar.shape[-2:]:
        return optical, sar
    noisy = share_noise(optical, sar, config)
    if is_on_cpu(noisy) and not noisy.any():  # elsewhere asking would wait
        return optical, sar
    chosen = noisy[:, None, None, None]
    return (
        torch.where(chosen, smooth(optical, config.smoothing_px), optical),
        torch.where(chosen, smooth(sar, config.smoothing_px), sar),
    )


def find_drawn_lines(image: Tensor, config: BurntConfig) -> Tensor:
    """(B, 1, H, W) bool: thin straight runs along rows or columns, all of one extreme value.

    Extreme in each band, the highest or the lowest; areas of it that are as wide as long are
    saturated, not drawn.
    """
    lowest = image.nan_to_num(torch.inf).amin(dim=(2, 3), keepdim=True)
    highest = image.nan_to_num(-torch.inf, -torch.inf, -torch.inf).amax(dim=(2, 3), keepdim=True)
    extreme = ((image == lowest) | (image == highest)).all(dim=1, keepdim=True).float()
    drawn = torch.zeros_like(extreme)
    for along, across in ((3, 2), (2, 3)):
        thin = extreme - open_along(extreme, config.line_px + 1, across)
        drawn = torch.maximum(drawn, thin * open_along(extreme, config.run_px, along))
    return dilate(drawn, 3) > 0  # with crossings, and what interpolation tinged beside them


def open_along(mask: Tensor, length_px: int, axis: int) -> Tensor:
    """Of (B, 1, H, W) in {0, 1}, what lies in runs of at least that length along an axis."""
    ends = [0, 0, length_px - 1, length_px - 1] if axis == 2 else [length_px - 1, length_px - 1]
    side = (length_px, 1) if axis == 2 else (1, length_px)
    whole = -F.max_pool2d(-F.pad(mask, ends), side, stride=1)
    return F.max_pool2d(whole, side, stride=1)


def share_noise(optical: Tensor, sar: Tensor, config: BurntConfig) -> Tensor:
    """(B,) bool: whether both images, of one size, have the same noise at the same pixels.

    What a pixel has beyond its neighbours correlates between the sensors only a little, and then a
    pixel further too.
    """
    here, there = pixel_detail(optical), pixel_detail(sar)
    energy = here.square().sum(dim=(1, 2, 3)) * there.square().sum(dim=(1, 2, 3))

    def correlation(down: int, across: int) -> Tensor:
        moved = there.roll((down, across), dims=(2, 3))
        return (here * moved).sum(dim=(1, 2, 3)) / (energy + 1e-12).sqrt()

    beside = torch.stack([correlation(*shift).abs() for shift in BESIDE]).amax(dim=0)
    return correlation(0, 0) - beside > config.noise_correlation


def pixel_detail(image: Tensor) -> Tensor:
    """(B, 1, H, W) what pixels of the bands' mean have beyond their eight neighbours.

    Cut off where it is strong, that noise may count and not few edges; 0 near nodata.
    """
    known = image.isfinite().all(dim=1, keepdim=True) & (image != 0).any(dim=1, keepdim=True)
    inner = 1 - dilate(1 - known.float(), 5)
    mean = image.mean(dim=1, keepdim=True).masked_fill(~known, 0.0)
    detail = (mean - F.avg_pool2d(mean, 3, stride=1, padding=1)) * inner
    typical = detail.abs().sum(dim=(2, 3), keepdim=True) / inner.sum((2, 3), keepdim=True)
    return detail.clamp(-3 * typical, 3 * typical)


def smooth(image: Tensor, sigma_px: float) -> Tensor:
    """(B, bands, H, W) smoothed by a Gaussian over what is known; NaN stays."""
    known = image.isfinite()
    kernel = gaussian_kernel(sigma_px, image.device)
    total = filter_separable(image.masked_fill(~known, 0.0), kernel, kernel)
    share = filter_separable(known.to(image.dtype), kernel, kernel)
    return (total / share.clamp_min(1e-6)).masked_fill(~known, torch.nan)
