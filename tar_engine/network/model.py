"""TAR's network: MSFL, TAFE and CFDM wired as the paper's figure (arXiv 2605.12064).

    optical ─ MSFL ─ TAFE ─ descriptors ─┐
                                         ├─ similarity of cells (training), search (inference)
    SAR ───── MSFL ─ TAFE ─ descriptors ─┘

and beside them MSFL's low-level features of each sensor, at full resolution, which windows compare
when both images are roughly aligned (`refine.py`).

Dimensions are this project's choice, the paper gives none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tar_engine.config import ModelConfig
from tar_engine.network.cfdm import Descriptors
from tar_engine.network.low_level import LowLevelFeatures
from tar_engine.network.msfl import MultiScaleFeatures, Sensor, ground_of, normalise, valid_mask
from tar_engine.network.precision import is_on_cpu, native_autocast
from tar_engine.network.tafe import TextEnhancement


class View(NamedTuple):
    """Images of one sensor: (B, bands, P, P) normalised, P = seen_px, and (B, 1, P, P) in {0, 1},
    where they are valid."""

    normal: Tensor
    valid: Tensor
    sensor: Sensor


class Described(NamedTuple):
    """What the network says of one image of P pixels a side.

    descriptors: (B, D, P/4, P/4), unit length. concepts: (B, P/8 * P/8, K) float32
    log-probability of each text concept, row by row.
    """

    descriptors: Tensor
    concepts: Tensor


class CoarseMatches(NamedTuple):
    """What the network says of a batch of pairs, for training.

    similarity: (B, N, N) float32, optical cell by SAR cell; see `cfdm.dual_softmax`.
    optical_concepts, sar_concepts: (B, N/4, K) float32 log-probability of each text concept.
    """

    similarity: Tensor
    optical_concepts: Tensor
    sar_concepts: Tensor


class TarNetwork(nn.Module):
    """Descriptors of images of `config.seen_px` pixels a side, alike in both sensors."""

    def __init__(self, config: ModelConfig, text_bank: Tensor):
        """`text_bank`: (2, K, text_channels), see `text.TextBank.embeddings`."""
        super().__init__()
        self.config = config
        self.msfl = MultiScaleFeatures(config)
        self.tafe = TextEnhancement(config, text_bank)
        self.cfdm = Descriptors(config)
        self.low = nn.ModuleDict({name: LowLevelFeatures(config) for name in ("optical", "sar")})
        # Used in training alone, by size of window: what correlations are multiplied by to be
        # logits, and the logit of being found nowhere.
        sizes = config.low_windows
        self.low_sharpness = nn.Parameter(torch.full((sizes,), math.log(48.0)))
        self.low_nowhere = nn.Parameter(torch.full((sizes,), 6.0))

    def forward(self, optical: Tensor, sar: Tensor) -> CoarseMatches:
        """(B, bands, P, P) images with P = seen_px, NaN for nodata; bands may differ."""
        views = [View(*normalise(optical), "optical"), View(*normalise(sar), "sar")]
        seen_optical, seen_sar = self.describe(views)
        similarity = self.cfdm.similarity(seen_optical.descriptors, seen_sar.descriptors)
        return CoarseMatches(similarity, seen_optical.concepts, seen_sar.concepts)

    def describe(self, views: Sequence[View]) -> list[Described]:
        """Each view of B images by itself; what the sensors share is computed together."""
        entered = [self.msfl.enter(*view) for view in views]
        counts, pyramid = [len(each) for each in entered], self.msfl(torch.cat(entered))
        side = pyramid.tokens.shape[-1]
        tokens = pyramid.tokens.flatten(2).transpose(1, 2).split(counts)
        enhanced = [self.tafe(some, view.sensor) for some, view in zip(tokens, views, strict=True)]
        together = torch.cat([each.tokens for each in enhanced]).transpose(1, 2)
        descriptors = self.cfdm(together.unflatten(2, (side, side)), pyramid.middle).split(counts)
        concepts = [each.concepts for each in enhanced]
        return [Described(*each) for each in zip(descriptors, concepts, strict=True)]

    def low_level(self, image: Tensor, sensor: Sensor, valid: Tensor | None = None) -> Tensor:
        """What windows compare: (B, low_features, H, W) of (B, bands, H, W), NaN for nodata.

        valid: (B, 1, H, W) float32 in {0, 1}, where nodata is 0 and not NaN.
        """
        valid = valid_mask(image) if valid is None else valid
        with native_autocast(image.device):
            if len(image) == 1 or not is_on_cpu(image):
                return self.low_level_of(image, valid, sensor)
            # Image by image: in another batch bfloat16 would give other digits.
            parts = zip(image.split(1), valid.split(1), strict=True)
            return torch.cat([self.low_level_of(*part, sensor) for part in parts])

    def low_level_of(self, image: Tensor, valid: Tensor, sensor: Sensor) -> Tensor:
        """The same, in the precision that is set."""
        features: Tensor = self.low[sensor](*ground_of(image, valid, sensor))
        return features


def with_bank(network: TarNetwork, bank: Tensor) -> TarNetwork:
    """The network with its concepts as another encoder embeds them, (2, K, C); see `take_over`.

    Raises ValueError when the bank has another number of concepts.
    """
    if bank.shape[1] != network.tafe.bank.shape[1]:
        raise ValueError(
            f"bank: {bank.shape[1]} concepts, the network knows {network.tafe.bank.shape[1]}"
        )
    other = TarNetwork(replace(network.config, text_channels=bank.shape[2]), bank)
    for name, part in other.named_children():
        if name != "tafe":
            part.load_state_dict(network.get_submodule(name).state_dict())
    other.low_sharpness, other.low_nowhere = network.low_sharpness, network.low_nowhere
    other.tafe.take_over(network.tafe)
    return other
