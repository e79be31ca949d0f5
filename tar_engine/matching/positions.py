"""Where the optical pixels of a pair lie in its SAR image, and what that makes comparable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.coordinates import (
    apply_affine,
    level_from_pixel,
    normalised_from_pixel,
    pixel_from_level,
    pixel_grid,
)
from tar_engine.deformation import sample, shrink
from tar_engine.matching.windows import subtract_mean
from tar_engine.network.model import TarNetwork
from tar_engine.network.msfl import Sensor, valid_mask


@dataclass(frozen=True)
class SarPositions:
    """SAR positions of optical positions: affine(p) + beyond(p).

    affine: (B, 2, 3) float32. beyond: None, or (B, 2, rows, columns) pixels beyond the affine, at
    the centres of cells of `cell_px` full-size pixels that start at the image's corner.
    """

    affine: Tensor
    beyond: Tensor | None = None
    cell_px: float = 0.0

    def at(self, optical_xy: Tensor) -> Tensor:
        """(B, N, 2) SAR pixels of optical pixels (N, 2) or (B, N, 2)."""
        sar_xy = apply_affine(self.affine, optical_xy)
        if self.beyond is None:
            return sar_xy
        batch, _, rows, columns = self.beyond.shape
        places = normalised_from_pixel(optical_xy, rows * self.cell_px, columns * self.cell_px)
        places = places.expand(batch, *optical_xy.shape[-2:])[:, None]
        # Cubic: between cells of 8 px, terrain of 64 px bends by more than a tenth of its height.
        beyond = F.grid_sample(
            self.beyond, places, mode="bicubic", padding_mode="border", align_corners=False
        )
        return sar_xy + beyond[:, :, 0].transpose(1, 2)


class PairFeatures(NamedTuple):
    """Low-level features of a pair on the optical image's pixels, SAR warped onto them.

    optical, sar: (B, C, h, w) float32 less their mean, 0 where there is no data. valid:
    (B, 1, h, w) in {0, 1}, where both have data.
    """

    optical: Tensor
    sar: Tensor
    valid: Tensor


@dataclass(frozen=True)
class ImagePair:
    """optical, sar: (B, bands, H, W) normalised, NaN for nodata; optical H and W in whole cells.

    Where SAR is held to SAR, `optical` is the image of reference, and `of_reference` "sar". Where
    `is_near`, positions bend and turn the image so little that its features may be warped in its
    stead: they are then made once, not in every round.
    """

    optical: Tensor
    sar: Tensor
    network: TarNetwork
    of_reference: Sensor = "optical"
    is_near: bool = False
    _optical_features: dict[int, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _sar_features: dict[int, Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def features_at(self, positions: SarPositions, factor: int) -> PairFeatures:
        """Both images shrunk `factor` times, SAR as `positions` warp it onto the optical one."""
        optical, optical_valid = self.optical_features(factor)
        sar = shrink_by(self.sar, factor)
        height, width = optical.shape[-2:]
        optical_xy = pixel_from_level(pixel_grid(height, width, sar.device).reshape(-1, 2), factor)
        sar_xy = level_from_pixel(positions.at(optical_xy), factor)
        if self.is_near:
            warped = sample(self.sar_features(factor), sar_xy.view(-1, height, width, 2))
            valid = valid_mask(warped)
            features = subtract_mean(warped.nan_to_num(0.0))
        else:
            warped = sample(sar, sar_xy.view(-1, height, width, 2))
            valid = valid_mask(warped)
            features = subtract_mean(self.network.low_level(warped, "sar"))
        return PairFeatures(optical, features, optical_valid * valid)

    def sar_features(self, factor: int) -> Tensor:
        """The SAR image's features where it was taken, NaN for nodata, made once."""
        if factor not in self._sar_features:
            sar = shrink_by(self.sar, factor)
            features = self.network.low_level(sar, "sar")
            self._sar_features[factor] = features.masked_fill(valid_mask(sar) == 0, torch.nan)
        return self._sar_features[factor]

    def optical_features(self, factor: int) -> tuple[Tensor, Tensor]:
        """The optical image's features and validity, which no position changes, made once."""
        if factor not in self._optical_features:
            optical = shrink_by(self.optical, factor)
            features = subtract_mean(self.network.low_level(optical, self.of_reference))
            self._optical_features[factor] = features, valid_mask(optical)
        return self._optical_features[factor]

    def at_half_size(self, times: int, cell_px: int) -> ImagePair:
        """The pair at half size, each of the batch so many times in a row."""
        optical, sar = (
            pad_to_cells(shrink_by(image, 2), cell_px).repeat_interleave(times, dim=0)
            for image in (self.optical, self.sar)
        )
        return ImagePair(optical, sar, self.network, self.of_reference, self.is_near)


def pad_to_cells(image: Tensor, cell_px: int) -> Tensor:
    """(B, C, H, W) padded with nodata to the right and below, to a multiple of cells."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, -width % cell_px, 0, -height % cell_px), value=torch.nan)


def shrink_by(image: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) shrunk so many times, padded before with nodata to whole squares."""
    padded = pad_to_cells(image, factor)
    return shrink(padded, padded.shape[-2] // factor, padded.shape[-1] // factor)
