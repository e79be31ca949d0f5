"""What is burnt into pixels is no ground: drawn lines, and patterns that both images share.

A graticule or the crosses of a map lie at the same pixels of both images wherever these show the
ground, and so does noise that one process left in both. Either is a stronger match than the ground,
at the wrong place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tar_engine.config import BurntConfig
from tar_engine.network.filters import dilate, dilate_along, mean_of_known
from tar_engine.network.precision import is_on_cpu


def without_burnt(
    optical: Tensor, sar: Tensor, config: BurntConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Both images without what is burnt into both at the same pixels, as far as it can be told.

    Args:
        optical, sar: (B, bands, H, W) float32. Of two sizes, they have no pixels in common and
            stay.

    Returns:
        optical and sar with drawn lines as nodata (NaN); and (B,) bool, which pairs share a pattern
        beside. Those are smoothed, which noise does not outlast. Others do: what is then found at
        the same pixels need not be ground.
    """
    if optical.shape[-2:] != sar.shape[-2:]:
        return optical, sar, torch.zeros(len(optical), dtype=torch.bool, device=optical.device)
    lines = find_lines(optical, sar, config)
    optical, sar = optical.masked_fill(lines, torch.nan), sar.masked_fill(lines, torch.nan)
    shared = share_pattern(optical, sar, config)
    if is_on_cpu(shared) and not shared.any():  # elsewhere asking would wait
        return optical, sar, shared
    chosen = shared[:, None, None, None]
    optical = torch.where(chosen, smooth(optical, config.smoothing_px), optical)
    sar = torch.where(chosen, smooth(sar, config.smoothing_px), sar)
    return optical, sar, shared


def find_lines(optical: Tensor, sar: Tensor, config: BurntConfig) -> Tensor:
    """(B, 1, H, W) bool: thin straight runs near rows or columns, white in both or black in both.

    Saturated ground has such runs too, but not both sensors' at one place.
    """
    marks = zip(find_extremes(optical), find_extremes(sar), strict=True)
    both = torch.stack([here & there for here, there in marks]).any(dim=0)
    if is_on_cpu(both) and not both.any():  # elsewhere asking would wait
        return both
    drawn = both.float()
    solid = dilate(1 - dilate(1 - drawn, config.thick_px), config.thick_px)
    thin = dilate(drawn - solid, 3)  # with what interpolation tinged; and oblique lines have no gap
    return torch.maximum(*(open_along(thin, config.run_px, axis) for axis in (2, 3))) > 0


def find_extremes(image: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 1, H, W) bool: where all bands have their highest value, and where their lowest."""
    lowest = image.nan_to_num(torch.inf).amin(dim=(2, 3), keepdim=True)
    highest = image.nan_to_num(-torch.inf, -torch.inf, -torch.inf).amax(dim=(2, 3), keepdim=True)
    return (image == highest).all(dim=1, keepdim=True), (image == lowest).all(dim=1, keepdim=True)


def open_along(mask: Tensor, length_px: int, axis: int) -> Tensor:
    """Of (B, 1, H, W) in {0, 1}, what lies in runs of at least an odd length along an axis."""
    return dilate_along(1 - dilate_along(1 - mask, length_px, axis), length_px, axis)


def share_pattern(optical: Tensor, sar: Tensor, config: BurntConfig) -> Tensor:
    """(B,) bool: whether single pixels of images of one size vary together, one way or the other.

    The ground hardly does that: what the sensors share of it is seldom as fine as a pixel, and
    lies elsewhere before it is registered.
    """
    here, there = pixel_detail(optical), pixel_detail(sar)
    energy = here.square().sum(dim=(1, 2, 3)) * there.square().sum(dim=(1, 2, 3))
    correlation = (here * there).sum(dim=(1, 2, 3)) / (energy + 1e-12).sqrt()
    return correlation.abs() > config.detail_correlation


def pixel_detail(image: Tensor) -> Tensor:
    """(B, 1, H - 2, W - 2) what pixels of the bands' mean have beyond the four beside them.

    Cut off where it is strong, that noise may count and not few edges; 0 beside nodata.
    """
    mean = image.mean(dim=1, keepdim=True)
    mean = mean.masked_fill(mean == 0, torch.nan)  # how archives fill what was not seen
    across = mean[:, :, 1:-1, :-2] + mean[:, :, 1:-1, 2:]
    down = mean[:, :, :-2, 1:-1] + mean[:, :, 2:, 1:-1]
    detail = (mean[:, :, 1:-1, 1:-1] - (across + down) / 4).nan_to_num(0.0, 0.0, 0.0)
    most = 3 * detail.abs().mean(dim=(2, 3), keepdim=True)
    return detail.clamp(-most, most)


def smooth(image: Tensor, sigma_px: float) -> Tensor:
    """(B, bands, H, W) smoothed by a Gaussian over what is known; NaN stays."""
    unknown = ~image.isfinite().all(dim=1, keepdim=True)
    known = (~unknown).to(image.dtype)
    return mean_of_known(image.masked_fill(unknown, 0.0), known, sigma_px).masked_fill(
        unknown, torch.nan
    )
