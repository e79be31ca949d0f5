"""Cloud in the optical image: what the text enhancement calls so is no ground to search by.

    a token's name, 16 px wide ── which of the two a pixel looks like, cloud or ground ── nodata

Every image is seen relative to its own median. Under much cloud that is the cloud's, and nothing is
brighter than usual any more. So a second look takes the darker half of the image for the usual:
what it calls cloud, if that is most of the image, is believed. Clouds are ragged: a mask as coarse
as tokens would take the ground between them too, and most of it where they are many.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.config import SearchConfig
from tar_engine.matching.search import shrink_to_square
from tar_engine.network.model import Described, TarNetwork, View
from tar_engine.network.msfl import normalise, valid_mask
from tar_engine.network.precision import native_autocast

LEAST_PROBABILITY = 0.02  # of either, before a pixel is looked at; a token may be wrong
LEAST_VARIANCE = 1e-3  # of a band among cloud or ground, normalised: else one value would be all


def describe_images(
    network: TarNetwork, optical: Tensor, sar: Tensor, cloud: int, probability: float
) -> tuple[Described, Described]:
    """What the network says of (B, bands, H, W) each, padded to squares and shrunk.

    cloud: index of the concept; see `believe_overcast`.
    """
    side_px = network.config.seen_px
    square, sar_square = (shrink_to_square(image, side_px)[0] for image in (optical, sar))
    normal, valid = normalise(square)
    of_sar = View(*normalise(sar_square), "sar")
    with native_autocast(optical.device):
        if network.tafe.mode == "none":  # without text nothing has a name
            first, seen_sar = network.describe([View(normal, valid, "optical"), of_sar])
            return first, seen_sar
        again, _ = normalise(square, darker_half(normal, valid))
        both = torch.cat([normal, again]), torch.cat([valid, valid])
        seen, seen_sar = network.describe([View(*both, "optical"), of_sar])
    halves = zip(*(part.chunk(2) for part in seen), strict=True)
    first, second = (Described(*half) for half in halves)
    return believe_overcast(optical, first, second, cloud, probability), seen_sar


def believe_overcast(
    image: Tensor, seen: Described, again: Described, cloud: int, probability: float
) -> Described:
    """What is `seen` at first of optical (B, bands, H, W), or again, relative to its darker half,
    where that says of most of the image that `cloud` is likelier than `probability`."""
    side = math.isqrt(again.concepts.shape[1])
    valid = valid_mask(shrink_to_square(image, side)[0]).flatten(1)
    named = (again.concepts[..., cloud].exp() > probability) * valid
    is_overcast = 2 * named.sum(dim=1) > valid.sum(dim=1)
    return Described(
        torch.where(is_overcast[:, None, None, None], again.descriptors, seen.descriptors),
        torch.where(is_overcast[:, None, None], again.concepts, seen.concepts),
    )


def darker_half(normal: Tensor, valid: Tensor) -> Tensor:
    """(B, 1, H, W) bool: the pixels of (B, bands, H, W) darker than half of its valid ones."""
    brightness = normal.mean(dim=1, keepdim=True).masked_fill(valid == 0, torch.nan)
    middle = brightness.flatten(1).nanmedian(dim=1).values
    return brightness <= middle[:, None, None, None]


def mask_cloud(image: Tensor, seen: Described, cloud: int, config: SearchConfig) -> Tensor:
    """(B, bands, H, W) with nodata where a pixel is `cloud`, if that is much of the image.

    Edges of cloud are no edges of the ground. But little cloud does no harm, and what else is
    taken for it, as are islands in a dark sea, may be all that there is to match.
    """
    side = math.isqrt(seen.concepts.shape[1])
    likely = seen.concepts[..., cloud].exp().float().view(-1, 1, side, side)
    height, width = image.shape[-2:]
    longest = max(height, width)
    likely = F.interpolate(likely, size=(longest, longest), mode="bilinear")[..., :height, :width]
    valid = valid_mask(image)
    cloudy = (look_closer(image, likely) > config.cloud_probability) * valid
    least = config.least_cloud * valid.sum(dim=(2, 3), keepdim=True)
    is_much = cloudy.sum(dim=(2, 3), keepdim=True) > least
    return image.masked_fill((cloudy > 0) & is_much, torch.nan)


def look_closer(image: Tensor, likely: Tensor) -> Tensor:
    """(B, 1, H, W) how likely each pixel of (B, bands, H, W) is cloud, by what it looks like.

    Bayes: before, as `likely` (B, 1, H, W) as its surroundings; each band is distributed normally
    among cloud and among ground, as it is among the pixels that are likely either. The bands say
    nearly the same, and together count as one.
    """
    before = likely.clamp(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    valid, known = valid_mask(image), image.nan_to_num(0.0)
    looks = []
    for weight in (before * valid, (1 - before) * valid):
        share = weight / weight.sum(dim=(2, 3), keepdim=True).clamp_min(1e-6)
        away = known - (known * share).sum(dim=(2, 3), keepdim=True)
        variance = (away.square() * share).sum(dim=(2, 3), keepdim=True) + LEAST_VARIANCE
        looks.append((away.square() / variance + variance.log()).mean(dim=1, keepdim=True) / -2)
    return torch.sigmoid(before.logit() + looks[0] - looks[1])
