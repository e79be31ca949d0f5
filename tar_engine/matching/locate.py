"""The global answer without a prior: one affine for a pair, good enough for windows to go on from.

    both images ── network ── descriptors, and what is cloud ── search of rotations and scales
        └── candidates ranked by descriptors ── any rotation: decided by windows

Among the usual rotations the first candidate is taken; among all of them chance comes first often
enough to ask windows too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.config import EngineConfig
from tar_engine.coordinates import (
    apply_affine,
    level_from_pixel,
    normalised_from_pixel,
    pixel_from_level,
    pixel_grid,
)
from tar_engine.matching.positions import ImagePair
from tar_engine.matching.refine import window_support
from tar_engine.matching.search import Candidates, search_similarities, shrink_to_square
from tar_engine.network.model import Described, TarNetwork, native_autocast
from tar_engine.network.msfl import Sensor, valid_mask


def locate(
    network: TarNetwork,
    optical: Tensor,
    sar: Tensor,
    cloud: int,
    config: EngineConfig,
    *,
    any_rotation: bool,
) -> tuple[Tensor, Tensor]:
    """Where the SAR images lie, anywhere; and the optical images with cloud as nodata.

    Only the search needs that: near the right place, windows do not confirm a cloud.

    Args:
        optical, sar: (B, bands, H, W) float32 normalised, NaN for nodata; sizes may differ.
        cloud: index of the concept of cloud in the network's text bank.
        any_rotation: see `search_similarities`.

    Returns:
        affine (B, 2, 3) float32, optical (x, y) -> sar (x, y), pixels; and optical without cloud.
    """
    seen_optical = describe_image(network, optical, "optical")
    seen_sar = describe_image(network, sar, "sar")
    if network.tafe.mode != "none":  # without text nothing has a name, and cloud stays
        optical = mask_cloud(optical, seen_optical, cloud, config.search.cloud_probability)
    candidates = rank_by_descriptors(
        search_similarities(optical, sar, config.search, any_rotation=any_rotation),
        DescriptorGrid.of(seen_optical, optical),
        DescriptorGrid.of(seen_sar, sar),
        config.search.descriptor_weight,
    )
    if not any_rotation:
        return candidates.affine[:, 0], optical
    support = window_support(ImagePair(optical, sar, network), candidates.affine, config.refine)
    best = support.argmax(dim=1)[:, None, None, None]
    return candidates.affine.take_along_dim(best, dim=1)[:, 0], optical


def describe_image(network: TarNetwork, image: Tensor, sensor: Sensor) -> Described:
    """What the network says of (B, bands, H, W), padded to a square and shrunk."""
    square, _ = shrink_to_square(image, network.config.seen_px)
    with native_autocast(image.device):
        return network.describe(square, sensor)


def mask_cloud(optical: Tensor, seen: Described, cloud: int, probability: float) -> Tensor:
    """(B, bands, H, W) with nodata where the concept `cloud` is likelier than `probability`.

    The text enhancement gives every token a concept; edges of cloud are no edges of the ground.
    """
    side = math.isqrt(seen.concepts.shape[1])
    likely = seen.concepts[..., cloud].exp().float().view(-1, 1, side, side)
    height, width = optical.shape[-2:]
    longest = max(height, width)
    likely = F.interpolate(likely, size=(longest, longest), mode="bilinear")
    return optical.masked_fill(likely[..., :height, :width] > probability, torch.nan)


class DescriptorGrid(NamedTuple):
    """What the network says of images, cell by cell.

    descriptors: (B, D, S, S) float32, unit length. valid: (B, 1, S, S) float32 in {0, 1}.
    cell_px: side of a cell in full-size pixels.
    """

    descriptors: Tensor
    valid: Tensor
    cell_px: float

    @classmethod
    def of(cls, seen: Described, image: Tensor) -> DescriptorGrid:
        """The descriptors of (B, bands, H, W) with what of them is valid."""
        square, factor = shrink_to_square(image, seen.descriptors.shape[-1])
        return cls(seen.descriptors.float(), valid_mask(square), factor)

    def mean(self) -> Tensor:
        """(B, D) mean descriptor of the valid cells."""
        total = (self.descriptors * self.valid).sum(dim=(2, 3))
        return total / self.valid.sum(dim=(2, 3)).clamp_min(1)


def rank_by_descriptors(
    candidates: Candidates, optical: DescriptorGrid, sar: DescriptorGrid, weight: float
) -> Candidates:
    """The candidates by orientation and, with `weight`, by descriptors together, best first.

    Descriptors are compared under each candidate, less what any two cells of the images have in
    common. The sum goes with the root of the number of cells, so that for unrelated images its
    spread is the same under every candidate.
    """
    side = optical.descriptors.shape[-1]
    device = candidates.score.device
    centres = pixel_from_level(pixel_grid(side, side, device).reshape(-1, 2), optical.cell_px)
    sar_xy = level_from_pixel(apply_affine(candidates.affine, centres), sar.cell_px)
    places = normalised_from_pixel(sar_xy, *sar.descriptors.shape[-2:])
    both = torch.cat([sar.descriptors, sar.valid], dim=1)
    sampled = F.grid_sample(both, places, align_corners=False)
    there = F.normalize(sampled[:, :-1], dim=1)
    counted = (sampled[:, -1] > 0.5) * optical.valid.flatten(2)
    here = optical.descriptors.flatten(2)
    common = (optical.mean() * sar.mean()).sum(dim=1)
    alike = (here[:, :, None] * there).sum(dim=1) - common[:, None, None]
    score = candidates.score + weight * (alike * counted).sum(dim=2) / side
    score, order = score.sort(dim=1, descending=True)
    return Candidates(candidates.affine.take_along_dim(order[..., None, None], dim=1), score)
