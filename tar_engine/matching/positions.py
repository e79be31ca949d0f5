"""Where the optical pixels of a pair lie in its SAR image, and what that makes comparable."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.constants import made_once
from tar_engine.coordinates import (
    apply_affine,
    level_from_pixel,
    normalised_from_pixel,
    pixel_from_level,
    pixel_grid,
)
from tar_engine.deformation import sample_weighted, shrink, stack_weight
from tar_engine.matching.heights import Relief
from tar_engine.matching.windows import subtract_mean
from tar_engine.network.model import TarNetwork
from tar_engine.network.msfl import Sensor, valid_mask


@dataclass(frozen=True)
class SarPositions:
    """SAR positions of optical positions: affine(p) + relief(p) + beyond(p).

    affine: (B, 2, 3) float32. beyond: None, or (B, 2, rows, columns) pixels beyond the affine, at
    the centres of cells of `cell_px` full-size pixels that start at the image's corner. relief:
    of the whole image, where its heights are known.
    """

    affine: Tensor
    beyond: Tensor | None = None
    cell_px: float = 0.0
    relief: Relief | None = None

    def level(self) -> SarPositions:
        """As if the ground were flat."""
        return replace(self, relief=None)

    def at(self, optical_xy: Tensor) -> Tensor:
        """(B, N, 2) SAR pixels of optical pixels (N, 2) or (B, N, 2)."""
        sar_xy = apply_affine(self.affine, optical_xy)
        if self.relief is not None:
            sar_xy = sar_xy + self.relief.at(optical_xy)
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

    def on_grid(self, height: int, width: int, factor: int) -> Tensor:
        """(B, height, width, 2): `at` all pixels of the optical image shrunk `factor` times.

        `beyond` covers just this image, so both axes are interpolated one after the other.
        """
        x, y = (
            pixel_from_level(torch.arange(side, device=self.affine.device), factor)
            for side in (width, height)
        )
        across = self.affine[:, :, 0, None] * x
        down = self.affine[:, :, 1, None] * y + self.affine[:, :, 2, None]
        sar_xy = across[:, :, None, :] + down[:, :, :, None]
        if self.relief is not None:
            sar_xy = sar_xy + self.relief.on_grid(height, width)
        if self.beyond is not None:
            rows, columns = self.beyond.shape[-2:]
            from_rows = cubic_weights(rows, height, sar_xy.device)
            from_columns = cubic_weights(columns, width, sar_xy.device)
            sar_xy = sar_xy + from_rows @ self.beyond @ from_columns.T
        return sar_xy.permute(0, 2, 3, 1)


@made_once
def cubic_weights(cells: int, pixels: int, device: torch.device) -> Tensor:
    """(pixels, cells) float32: what cells along an axis count at the pixels that they cover."""
    unit = torch.eye(cells)[None, None]
    size = (pixels, cells)
    return F.interpolate(unit, size, mode="bicubic", align_corners=False)[0, 0].to(device)


class PairFeatures(NamedTuple):
    """Low-level features of a pair on the optical image's pixels, SAR warped onto them.

    optical, sar: (B, C, h, w) float32 less their mean, 0 where there is no data. valid:
    (B, 1, h, w) in {0, 1}, where both have data.
    """

    optical: Tensor
    sar: Tensor
    valid: Tensor


kept_pixel_grid = made_once(pixel_grid)


class SarFeatures(NamedTuple):
    """Features of a SAR image as it was warped, to be warped on.

    stacked: (B, C + 1, h, w) float32 as `sample_weighted` takes them. sar_xy: (B, h, w, 2) where
    they lie in the SAR image, full-size pixels, and affine (B, 2, 3), about how; None as taken.
    """

    stacked: Tensor
    sar_xy: Tensor | None = None
    affine: Tensor | None = None

    def at(self, sar_xy: Tensor, factor: int) -> tuple[Tensor, Tensor]:
        """What `sample_weighted` gives at (B, h, w, 2) SAR positions, full-size pixels.

        Exact where the features were warped by an affine; else as good as the step from there is
        small.
        """
        if self.sar_xy is None or self.affine is None:
            return sample_weighted(self.stacked, level_from_pixel(sar_xy, factor))
        # `inv` would wait for the device.
        back = torch.linalg.inv_ex(self.affine[..., :2] * factor).inverse.transpose(1, 2)
        height, width = sar_xy.shape[1:3]
        here, step = kept_pixel_grid(height, width, sar_xy.device), sar_xy - self.sar_xy
        place = torch.baddbmm(here.view(1, -1, 2), step.flatten(1, 2), back)
        return sample_weighted(self.stacked, place.view_as(sar_xy))


@dataclass(frozen=True)
class ImagePair:
    """optical, sar: (B, bands, H, W) normalised, NaN for nodata; optical H and W in whole cells.

    Where SAR is held to SAR, `optical` is the image of reference, and `of_reference` "sar". Where
    `is_near`, positions bend and turn the image so little that its features may be warped in its
    stead from the first round on.
    """

    optical: Tensor
    sar: Tensor
    network: TarNetwork
    of_reference: Sensor = "optical"
    is_near: bool = False
    _optical_features: dict[int, tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _sar_features: dict[int, SarFeatures] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _sar_images: dict[int, Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def features_at(
        self, positions: SarPositions, factor: int, *, exactly: bool = False
    ) -> PairFeatures:
        """Both images shrunk `factor` times, SAR as `positions` warp it onto the optical one.

        Features of the warped image are kept; those at other positions are warped from them, which
        takes a quarter of the time.

        exactly: of the image as it is warped, wherever it is. Warped features are blurred, each as
            it falls between pixels, which costs the last hundredths of a pixel.
        """
        optical, optical_valid = self.optical_features(factor)
        height, width = optical.shape[-2:]
        sar_xy = positions.on_grid(height, width, factor)
        if self.is_near and factor not in self._sar_features:
            self._sar_features[factor] = self.sar_as_taken(factor)
        if factor in self._sar_features and not exactly:
            features, known = self._sar_features[factor].at(sar_xy, factor)
        else:
            warped, known = sample_weighted(
                self.sar_image(factor), level_from_pixel(sar_xy, factor)
            )
            valid = known.to(warped.dtype)
            features = self.network.low_level(warped, "sar", valid)
            stacked = torch.cat([features, valid], dim=1)
            self._sar_features[factor] = SarFeatures(stacked, sar_xy, positions.affine)
        return PairFeatures(optical, subtract_mean(features), optical_valid * known)

    def sar_image(self, factor: int) -> Tensor:
        """The SAR image as `sample_weighted` takes it, made once."""
        if factor not in self._sar_images:
            self._sar_images[factor] = stack_weight(shrink_by(self.sar, factor))
        return self._sar_images[factor]

    def sar_as_taken(self, factor: int) -> SarFeatures:
        """The SAR image's features where it was taken; 0 where there is no data."""
        sar = shrink_by(self.sar, factor)
        features = self.network.low_level(sar, "sar")
        return SarFeatures(torch.cat([features, valid_mask(sar)], dim=1))

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
