"""The global answer without a prior: one affine for a pair, good enough for windows to go on from.

    both images ── network ── descriptors, and what is cloud ── search of rotations and scales
        └── candidates ranked by descriptors ── any rotation: decided by windows

Among the usual rotations the first candidate is taken. Where that leads nowhere, a closer look and
any rotation let windows decide: there chance comes first often enough to ask them too.
"""

from __future__ import annotations

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
from tar_engine.matching.cloud import describe_images, mask_cloud
from tar_engine.matching.positions import ImagePair
from tar_engine.matching.refine import window_support
from tar_engine.matching.search import Candidates, search_similarities, shrink_to_square
from tar_engine.network.model import Described, TarNetwork
from tar_engine.network.msfl import valid_mask


def locate(
    network: TarNetwork,
    optical: Tensor,
    sar: Tensor,
    cloud: int,
    config: EngineConfig,
    *,
    any_rotation: bool,
    closer: bool,
    keeps_cloud: bool,
) -> tuple[Tensor, Tensor]:
    """Where the SAR images lie, anywhere; and the optical images with cloud as nodata.

    Only the search needs that: near the right place, windows do not confirm a cloud.

    Args:
        optical, sar: (B, bands, H, W) float32 normalised, NaN for nodata; sizes may differ.
        cloud: index of the concept of cloud in the network's text bank.
        any_rotation, closer: see `search_similarities`; windows decide between the candidates.
        keeps_cloud: what is named cloud stays in the optical images.

    Returns:
        affine (B, 2, 3) float32, optical (x, y) -> sar (x, y), pixels; and optical without cloud.
    """
    probability = config.search.cloud_probability
    seen_optical, seen_sar = describe_images(network, optical, sar, cloud, probability)
    has_names = network.tafe.mode != "none"  # without text nothing has one, and cloud stays
    if has_names and not keeps_cloud:
        optical = mask_cloud(optical, seen_optical, cloud, config.search)
    candidates = rank_by_descriptors(
        search_similarities(optical, sar, config.search, any_rotation=any_rotation, closer=closer),
        DescriptorGrid.of(seen_optical, optical),
        DescriptorGrid.of(seen_sar, sar),
        config.search.descriptor_weight,
    )
    if not any_rotation and not closer:
        return candidates.affine[:, 0], optical
    support = window_support(ImagePair(optical, sar, network), candidates.affine, config.refine)
    best = support.argmax(dim=1)[:, None, None, None]
    return candidates.affine.take_along_dim(best, dim=1)[:, 0], optical


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
    there = sampled[:, :-1]
    length = there.square().sum(dim=1, keepdim=True).sqrt_()  # `norm` is slow over this axis
    there = there / length.clamp_min_(1e-6)
    counted = (sampled[:, -1] > 0.5) * optical.valid.flatten(2)
    here = optical.descriptors.flatten(2)
    common = (optical.mean() * sar.mean()).sum(dim=1)
    alike = (here[:, :, None] * there).sum(dim=1) - common[:, None, None]
    score = candidates.score + weight * (alike * counted).sum(dim=2) / side
    score, order = score.sort(dim=1, descending=True)
    return Candidates(candidates.affine.take_along_dim(order[..., None, None], dim=1), score)
