"""Cloud in the optical image: what the text enhancement calls so is no ground to search by.

Every image is seen relative to its own median. Under much cloud that is the cloud's, and nothing is
brighter than usual any more. So a second look takes the darker half of the image for the usual:
what it calls cloud, if that is most of the image, is believed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.matching.search import shrink_to_square
from tar_engine.network.model import Described, TarNetwork, native_autocast
from tar_engine.network.msfl import normalise, valid_mask


def describe_images(
    network: TarNetwork, optical: Tensor, sar: Tensor
) -> tuple[Described, Described]:
    """What the network says of (B, bands, H, W) each, padded to squares and shrunk."""
    squares = [shrink_to_square(image, network.config.seen_px)[0] for image in (optical, sar)]
    with native_autocast(optical.device):
        return network.describe_pair(*squares)


def look_again(
    network: TarNetwork, image: Tensor, seen: Described, cloud: int, probability: float
) -> Described:
    """What the network says of optical (B, bands, H, W), most of which may be cloud.

    `seen` is what it said at first, and stays where that is not so. cloud: index of the concept.
    """
    square, _ = shrink_to_square(image, network.config.seen_px)
    with native_autocast(image.device):
        again = network.describe(square, "optical", darker_half(square))
    side = math.isqrt(again.concepts.shape[1])
    valid = valid_mask(shrink_to_square(image, side)[0]).flatten(1)
    named = (again.concepts[..., cloud].exp() > probability) * valid
    is_overcast = 2 * named.sum(dim=1) > valid.sum(dim=1)
    return Described(
        torch.where(is_overcast[:, None, None, None], again.descriptors, seen.descriptors),
        torch.where(is_overcast[:, None, None], again.concepts, seen.concepts),
    )


def darker_half(image: Tensor) -> Tensor:
    """(B, 1, H, W) bool: the pixels of (B, bands, H, W) darker than half of its valid ones."""
    normal, valid = normalise(image)
    brightness = normal.mean(dim=1, keepdim=True).masked_fill(valid == 0, torch.nan)
    middle = brightness.flatten(1).nanmedian(dim=1).values
    return brightness <= middle[:, None, None, None]


def mask_cloud(image: Tensor, seen: Described, cloud: int, probability: float) -> Tensor:
    """(B, bands, H, W) with nodata where the concept `cloud` is likelier than `probability`.

    Edges of cloud are no edges of the ground.
    """
    side = math.isqrt(seen.concepts.shape[1])
    likely = seen.concepts[..., cloud].exp().float().view(-1, 1, side, side)
    height, width = image.shape[-2:]
    longest = max(height, width)
    likely = F.interpolate(likely, size=(longest, longest), mode="bilinear")
    return image.masked_fill(likely[..., :height, :width] > probability, torch.nan)
