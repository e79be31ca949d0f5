"""Random warps with a known truth, and images resampled: by a warp, or shrunk; NaN is nodata."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.coordinates import normalised_from_pixel


@dataclass(frozen=True)
class AffineRange:
    """Uniform ranges that a random affine is drawn from."""

    scale: tuple[float, float]  # geometric: as many shrink as grow; (1, 1) = off
    rotation_deg: float  # either way; 0 = off
    translation_px: float  # either way, per axis; 0 = off
    shear_deg: float = 0.0  # either way


def random_affines(
    ranges: AffineRange, count: int, side_px: int, generator: torch.Generator
) -> Tensor:
    """(count, 2, 3) float64 `sar_from_optical` about the centre of a `side_px` square."""

    def uniform(low: float, high: float) -> Tensor:
        draw = torch.rand(count, generator=generator, dtype=torch.float64, device=device)
        return low + (high - low) * draw

    device = generator.device
    scale = uniform(math.log(ranges.scale[0]), math.log(ranges.scale[1])).exp()
    angle = uniform(-ranges.rotation_deg, ranges.rotation_deg).deg2rad()
    shear = uniform(-ranges.shear_deg, ranges.shear_deg).deg2rad().tan()
    shift = torch.stack([uniform(-ranges.translation_px, ranges.translation_px) for _ in "xy"], -1)
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(-1, 2, 2)
    slant = torch.eye(2, dtype=torch.float64, device=device).repeat(count, 1, 1)
    slant[:, 0, 1] = shear
    linear = scale[:, None, None] * rotation @ slant
    centre = torch.full((2,), (side_px - 1) / 2, dtype=torch.float64, device=device)
    return torch.cat([linear, (centre + shift - linear @ centre)[..., None]], dim=-1)


@dataclass(frozen=True)
class Waves:
    """Smooth displacement fields: sums of W plane waves.

    frequency: (B, W, 2) radians per pixel. phase, size: (B, 2, W), of dx and of dy; size in pixels.
    """

    frequency: Tensor
    phase: Tensor
    size: Tensor

    def at(self, xy: Tensor) -> Tensor:
        """(B, N, 2) displacement at (N, 2) or (B, N, 2) pixels."""
        angle = xy @ self.frequency.transpose(1, 2)
        axes = zip(self.size.unbind(1), self.phase.unbind(1), strict=True)
        waves = [(size[:, None] * (angle + phase[:, None]).sin()).sum(-1) for size, phase in axes]
        return torch.stack(waves, dim=-1)


@dataclass(frozen=True)
class ReliefDisplacement:
    """What relief displaces a radar image by: along one direction, in proportion to height.

    height_m: (S, S) at the pixels, held at its border beyond. px_per_m: (2,), of dx and dy.
    """

    height_m: Tensor
    px_per_m: Tensor

    def at(self, xy: Tensor) -> Tensor:
        """(1, N, 2) displacement at (N, 2) pixels."""
        places = normalised_from_pixel(xy, *self.height_m.shape)[None, None]
        heights = F.grid_sample(
            self.height_m[None, None],
            places,
            mode="bicubic",
            padding_mode="border",
            align_corners=False,
        )
        return heights[0, 0, 0, :, None] * self.px_per_m[None, None]


def draw_heights(
    side_px: int, widest_px: float, resolved_px: float, generator: torch.Generator
) -> Tensor:
    """(side_px, side_px) float64 fractal relief, of no mean and a largest height of 1.

    From hills as wide as `widest_px` down to what a DEM resolves (sigma of its smoothing), heights
    fall with frequency as terrain's do, with a Hurst exponent of 0.8 (Turcotte, Fractals and Chaos
    in Geology and Geophysics, 1997). Drawn twice as wide, so that opposite sides do not match.
    """
    whole = 2 * side_px
    down, across = torch.fft.fftfreq(whole).double(), torch.fft.rfftfreq(whole).double()
    frequency = torch.hypot(down[:, None], across[None])
    noise = torch.randn(whole, whole, generator=generator, dtype=torch.float64)
    resolved = torch.exp(-2 * (torch.pi * resolved_px * frequency) ** 2)
    spectrum = torch.fft.rfft2(noise) * resolved / frequency.clamp_min(1 / widest_px) ** 1.8
    heights: Tensor = torch.fft.irfft2(spectrum, s=(whole, whole))[:side_px, :side_px]
    heights = heights - heights.mean()
    highest: Tensor = heights.abs().max()
    return heights / highest


def invert_affine(affine: Tensor) -> Tensor:
    """Inverse of (..., 2, 3)."""
    linear = torch.linalg.inv(affine[..., :2])
    return torch.cat([linear, -linear @ affine[..., 2:]], dim=-1)


def shrink(image: Tensor, height: int, width: int) -> Tensor:
    """Average (B, bands, H, W) float down to (B, bands, height, width) over what is valid.

    NaN marks nodata; a shrunk pixel is nodata where less than half of its area was valid.
    """
    if image.shape[-2:] == (height, width):
        return image
    valid = image.isfinite().to(image.dtype)
    total = average_areas(image.nan_to_num(0.0, 0.0, 0.0), height, width)
    share = average_areas(valid, height, width)
    return (total / share.clamp_min(1e-6)).masked_fill(share < 0.5, torch.nan)


def average_areas(image: Tensor, height: int, width: int) -> Tensor:
    """(B, bands, height, width): the mean of (B, bands, H, W) over each new pixel's area.

    By halves as far as they go on a CPU, where that takes an eighth of the time.
    """
    while image.device.type == "cpu" and not (
        image.shape[-2] % (2 * height) or image.shape[-1] % (2 * width)
    ):
        rows = image[..., 0::2, :] + image[..., 1::2, :]
        image = (rows[..., 0::2] + rows[..., 1::2]) * 0.25
    if image.shape[-2:] == (height, width):
        return image
    return F.interpolate(image, size=(height, width), mode="area")


def sample(image: Tensor, source_xy: Tensor, mode: str = "bilinear") -> Tensor:
    """Values of (B, C, H, W) at (B, h, w, 2) pixel positions -> (B, C, h, w).

    NaN pixels and everything outside are nodata: a sample with less than half of its weight on
    valid pixels is NaN, others are renormalised.
    """
    values, known = sample_weighted(stack_weight(image), source_xy, mode)
    return values.masked_fill(~known, torch.nan)


def stack_weight(image: Tensor) -> Tensor:
    """(B, C + 1, H, W): images with 0 for NaN, and below them 1 where all of their bands are known.

    What `sample_weighted` takes, to be kept where one image is sampled several times.
    """
    valid = image.isfinite().all(dim=1, keepdim=True).to(image.dtype)
    return torch.cat([image.nan_to_num(0.0, 0.0, 0.0), valid], dim=1)


def sample_weighted(
    stacked: Tensor, source_xy: Tensor, mode: str = "bilinear"
) -> tuple[Tensor, Tensor]:
    """What `sample` gives of images that `stack_weight` prepared, but 0 for nodata; and where not.

    The latter (B, 1, h, w) bool.
    """
    grid = normalised_from_pixel(source_xy, stacked.shape[-2], stacked.shape[-1])
    sampled = F.grid_sample(stacked, grid, mode=mode, padding_mode="zeros", align_corners=False)
    weight = sampled[:, -1:]
    known = weight >= 0.5
    return sampled[:, :-1] * (known / weight.clamp_min(1e-6)), known
