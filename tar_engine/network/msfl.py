"""MSFL, multi-scale visual feature learning: one image in, features at three scales out.

    image ── orientation of edges ── convolutions of this sensor, `low_level` ─▶ features   1/1
                 │ (also of the shrunk image)
                 └─ stem of this sensor ── shared stages ────▶ middle features      1/4
                                              └──────────────▶ tokens (high level)  1/8

Low-level features start from structure: the orientation of edges, which carries across the two
modalities before any training (SOMA, arXiv 2511.13168; CFOG, Ye et al. 2019). What is learned is
which of it the other sensor shows too, and how speckle hides it. High-level features are learned
from the same orientations of the image shrunk to a fixed size; scales are relative to that. Edges
are replicated, not padded with zeros, which would tell a network where it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tar_engine.config import ModelConfig
from tar_engine.constants import made_once
from tar_engine.network.filters import (
    derivative_kernel,
    dilate,
    filter_separable,
    gaussian_kernel,
    mean_of_known,
)
from tar_engine.network.precision import is_on_cpu

EMPTY_PX = 7
DERIVATIVE_SIGMA_PX = 1.0
SHARP_SIGMA_PX = 0.85
BRIGHTNESS_SIGMA_PX = 0.7
CONTINUED_PX = 1.5  # sigma of what an image is continued by, over what derivatives reach
DIRECTIONS = 6  # of `structure`, over 180 degrees
STRUCTURE = 2 + DIRECTIONS + 1
Sensor = Literal["optical", "sar"]


class Pyramid(NamedTuple):
    """Learned features of one image: `middle` (B, C, H/4, W/4) and `tokens` (B, C, H/8, W/8)."""

    middle: Tensor
    tokens: Tensor


def normalise(image: Tensor, counted: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Bring any radiometry to one scale, per image and band.

    Centre on the median, divide by the mean absolute deviation and compress with asinh: decibels
    and 8-bit stretches pass almost linearly, the long tail of linear SAR power is folded in.

    Args:
        image: (B, bands, H, W), any real dtype; NaN or infinite marks nodata, and so does an area
            of exact zeros, which is how archives fill what a sensor did not see.
        counted: (B, 1, H, W) bool, whose median and deviation it is; all of them unless given.

    Returns:
        (B, bands, H, W) float32 with nodata set to 0, and (B, 1, H, W) float32 validity in {0, 1}:
        a pixel is valid where all its bands are.
    """
    image = image.float()
    valid = torch.isfinite(image).all(dim=1, keepdim=True) & ~find_zero_areas(image)
    image = torch.where(valid, image, torch.nan)
    step = max(1, math.isqrt(image.shape[-1] * image.shape[-2] // 16384))
    told = image if counted is None else image.masked_fill(~counted, torch.nan)
    sample = told[..., ::step, ::step].flatten(2)
    centre = sample.nanmedian(dim=2).values.nan_to_num()[..., None, None]
    spread = (sample - centre[..., 0]).abs().nanmean(dim=2).nan_to_num()[..., None, None]
    scaled = asinh((image - centre).div_(spread.clamp_min(1e-12)))
    return scaled.nan_to_num_(0.0, 0.0, 0.0), valid.float()


def asinh(values: Tensor) -> Tensor:
    """Inverse hyperbolic sine of float32, to 3e-7; torch's own takes a CPU four times as long."""
    # In place: moving memory is most of its time.
    size = values.abs().clamp_max_(1e18)
    square = size.square()
    root = square.add(1).sqrt_().add_(1)
    return square.div_(root).add_(size).log1p_().copysign_(values)


def normalise_with_nan(image: Tensor) -> Tensor:
    """(B, bands, H, W) normalised, NaN where there is no data."""
    normal, valid = normalise(image)
    return normal.masked_fill(valid == 0, torch.nan)


def valid_mask(image: Tensor) -> Tensor:
    """(B, 1, H, W) float32: 1 where all bands of (B, C, H, W) are finite."""
    return image.sum(dim=1, keepdim=True).isfinite().float()


def find_zero_areas(image: Tensor) -> Tensor:
    """(B, 1, H, W) bool: areas of exact zeros, at least EMPTY_PX wide."""
    lit = (image != 0).any(dim=1, keepdim=True)
    if is_on_cpu(lit) and lit.all():  # elsewhere asking would wait
        return ~lit
    lit = lit.float()
    return dilate(1 - dilate(lit, EMPTY_PX), EMPTY_PX) > 0


@made_once
def structure_directions(device: torch.device) -> Tensor:
    """(DIRECTIONS, 2) float32 unit vectors, evenly spaced over half a turn."""
    angle = torch.arange(DIRECTIONS) * (math.pi / DIRECTIONS)
    return torch.stack([angle.cos(), angle.sin()], dim=-1).to(device)


def orientation(image: Tensor, valid: Tensor) -> Tensor:
    """Low-level features: which way the edges run, as doubled angles.

    The direction of a gradient has no sign that optical and SAR share; the double of its angle is
    the same for an edge seen from either side (Granlund 1978, doi 10.1016/0146-664X(78)90110-8).
    As a vector it can be averaged, and it turns with the image by a mere rotation.

    Args:
        image: (B, bands, H, W) normalised. valid: (B, 1, H, W) in {0, 1}.

    Returns:
        (B, 2, H, W) float32, cosine and sine; length close to 1 where there is structure, close
        to 0 where the image is flat, and 0 near nodata.
    """
    angles = double_angles(*gradient(image, DERIVATIVE_SIGMA_PX))
    return equalise((angles,), inner_mask(valid))[0]


def structure(image: Tensor, inner: Tensor) -> Tensor:
    """What low-level features are made from, at full resolution.

    Doubled angles; how much of the gradient runs along each of six directions, where crossing edges
    do not cancel (as in CFOG, Ye et al. 2019, but not smoothed: that costs sub-pixel accuracy); and
    brightness. The derivative is sharper than `orientation`'s: places count here, not shapes.

    Args:
        image: (B, bands, H, W) normalised. inner: (B, 1, H, W) in {0, 1}, where edges are ground's.

    Returns:
        (B, STRUCTURE, H, W) float32; 0 where `inner` is, but for brightness.
    """
    gx, gy = gradient(image, SHARP_SIGMA_PX)
    bright = image.mean(dim=1, keepdim=True).clamp(-3, 3)
    smooth = gaussian_kernel(BRIGHTNESS_SIGMA_PX, image.device)
    angles, along = equalise((double_angles(gx, gy), gradient_along(gx, gy)), inner)
    bright = filter_separable(bright, smooth, smooth)
    return torch.cat([angles, along, bright], dim=1)


def double_angles(gx: Tensor, gy: Tensor) -> Tensor:
    """Gradients (B, bands, H, W) as vectors of twice their angle, averaged: (B, 2, H, W)."""
    across, down = gx.square(), gy.square()
    strength = (across + down).sqrt_().clamp_min_(1e-6)
    both = (across - down) / strength, 2 * gx * gy / strength
    return torch.cat([part.mean(dim=1, keepdim=True) for part in both], dim=1)


def gradient_along(gx: Tensor, gy: Tensor) -> Tensor:
    """How much of gradients (B, bands, H, W) runs either way along each of DIRECTIONS, averaged."""
    directions = structure_directions(gx.device)
    if not is_on_cpu(gx):
        # As a matrix product, pixel by pixel: (B, bands, H, W, 2) with (2, DIRECTIONS).
        along = F.linear(torch.stack([gx, gy], dim=-1), directions).abs_().mean(dim=1)
        return along.permute(0, 3, 1, 2)
    parts = [torch.add(gx * x, gy, alpha=y).abs_().mean(dim=1) for x, y in directions.tolist()]
    return torch.stack(parts, dim=1)


def gradient(image: Tensor, sigma_px: float) -> tuple[Tensor, Tensor]:
    """Derivatives of (B, C, H, W) along x and y, smoothed by a Gaussian against speckle."""
    smooth = gaussian_kernel(sigma_px, image.device)
    derivative = derivative_kernel(sigma_px, image.device)
    return filter_separable(image, smooth, derivative), filter_separable(image, derivative, smooth)


def equalise(kinds: Sequence[Tensor], inner: Tensor) -> list[Tensor]:
    """Features (B, C, H, W) of strong edges brought to length 1, of weak ones in proportion; those
    of each kind by themselves.

    0 outside of `inner`, see `inner_mask`: the border of nodata is no edge.
    """
    area = inner.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    equal = []
    for features in kinds:
        energy = features.square().sum(dim=1, keepdim=True)
        typical = (energy * inner).sum(dim=(2, 3), keepdim=True) / area
        equal.append(features * (inner / (energy + typical + 1e-12).sqrt()))
    return equal


def inner_mask(valid: Tensor) -> Tensor:
    """(B, 1, H, W) in {0, 1}: beyond the derivative's reach of nodata."""
    return 1 - dilate(1 - valid, 2 * math.ceil(3 * DERIVATIVE_SIGMA_PX) + 1)


def ground_of(image: Tensor, valid: Tensor, sensor: Sensor) -> tuple[Tensor, Tensor]:
    """(B, bands, H, W) without NaN, and (B, 1, H, W) in {0, 1} where its edges are the ground's.

    Clouds leave an optical image in pieces. It is continued beyond them, so that it has edges up to
    their very border; SAR ends in straight lines, and loses little near them.
    """
    if sensor == "optical":
        return continued(image, valid), valid
    return image.nan_to_num(0.0), inner_mask(valid)


def continued(image: Tensor, valid: Tensor) -> Tensor:
    """(B, bands, H, W) with what is not valid (B, 1, H, W), in {0, 1}, like what is known nearby.

    So that a derivative at the last valid pixel is the ground's, not that of nodata's border. What
    is not valid is NaN in all bands; 0 where nothing is known nearby.
    """
    known = image.nan_to_num(0.0, 0.0, 0.0)
    if is_on_cpu(image) and bool(valid.all()):  # elsewhere asking would wait
        return known
    return torch.lerp(mean_of_known(known, valid, CONTINUED_PX), known, valid)


def convolution(channels_in: int, channels: int, stride: int = 1) -> nn.Conv2d:
    """3 x 3 before a norm, edges replicated."""
    return nn.Conv2d(
        channels_in, channels, 3, stride, padding=1, bias=False, padding_mode="replicate"
    )


class Residual(nn.Module):
    """Two 3x3 convolutions around a shortcut; group norm, so no statistics cross images."""

    def __init__(self, channels_in: int, channels: int, stride: int):
        super().__init__()
        self.first = convolution(channels_in, channels, stride)
        self.norm_first = nn.GroupNorm(8, channels)
        self.second = convolution(channels, channels)
        self.norm_second = nn.GroupNorm(8, channels)
        same = stride == 1 and channels_in == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels, H/stride, W/stride)."""
        out = F.relu(self.norm_first(self.first(x)))
        return F.relu(self.norm_second(self.second(out)) + self.shortcut(x))


class MultiScaleFeatures(nn.Module):
    """The learned part of MSFL. Each sensor has its own stem; everything above it is shared."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        channels_in = 3  # orientation and brightness
        self.stems = nn.ModuleDict(
            {
                sensor: nn.Sequential(
                    convolution(channels_in, config.stem_channels, stride=2),
                    nn.GroupNorm(8, config.stem_channels),
                    nn.ReLU(),
                )
                for sensor in ("optical", "sar")
            }
        )
        self.stage_half = Residual(config.stem_channels, config.stem_channels, 1)
        self.stage_quarter = nn.Sequential(
            Residual(config.stem_channels, config.middle_channels, 2),
            Residual(config.middle_channels, config.middle_channels, 1),
        )
        self.stage_eighth = nn.Sequential(
            Residual(config.middle_channels, config.token_channels, 2),
            Residual(config.token_channels, config.token_channels, 1),
        )

    def enter(self, image: Tensor, valid: Tensor, sensor: Sensor) -> Tensor:
        """(B, bands, H, W) normalised and (B, 1, H, W) validity of one sensor, through its stem."""
        edges = orientation(image, valid)
        brightness = image.mean(dim=1, keepdim=True).clamp(-4, 4) * valid
        x = torch.cat([edges, brightness], dim=1).contiguous(memory_format=torch.channels_last)
        entered: Tensor = self.stems[sensor](x)
        return entered

    def forward(self, entered: Tensor) -> Pyramid:
        """What came through any sensor's stem, (B, C, H/2, W/2) -> its Pyramid."""
        middle = self.stage_quarter(self.stage_half(entered))
        return Pyramid(middle, self.stage_eighth(middle))
