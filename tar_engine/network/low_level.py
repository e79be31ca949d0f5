"""Low-level features: structure, and what convolutions at half and a quarter of its resolution say.

    structure 1/1 ── near 1/2 ──────────────────┬─ joined ─ features 1/1
                        └── around 1/4 (±21 px) ┘

What is learned is which of the structure the other sensor shows too, and how speckle hides it. That
takes surroundings: an edge of a field is told from speckle by where it goes on. A convolution at
half the resolution sees twice as far, for a quarter of the work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tar_engine.config import ModelConfig
from tar_engine.network.msfl import STRUCTURE, structure
from tar_engine.network.precision import computed_in, half_precision

BLOCK_PX = 4  # what the convolutions cut an image into
HALF = 0.5  # length at which features are brought to 0.7 of what they can be
MARGIN_PX = 8  # replicated on every side, so that the zeros that convolutions see begin beyond


class LowLevelFeatures(nn.Module):
    """Low-level features of one sensor."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        near, around, count = config.low_channels, config.around_channels, config.low_features
        self.first = nn.Conv2d(STRUCTURE, near, 4, stride=2, padding=1)
        self.around = nn.Sequential(
            nn.Conv2d(near, around, 4, stride=2, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(around, around, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(around, around, 3, padding=2, dilation=2), nn.ReLU(inplace=True),
            nn.Conv2d(around, 4 * near, 1), nn.PixelShuffle(2),
        )  # fmt: skip
        self.near = nn.Conv2d(near, near, 3, padding=1)
        self.joined = nn.Sequential(
            nn.Conv2d(near, near, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(near, 4 * count, 3, padding=1), nn.PixelShuffle(2),
        )  # fmt: skip

    def forward(self, image: Tensor, inner: Tensor) -> Tensor:
        """(B, bands, H, W) normalised and (B, 1, H, W) in {0, 1}, where its structure is ground's
        -> (B, low_features, H, W), shorter than 1 and 0 elsewhere."""
        with half_precision(image.device, enabled=False), torch.no_grad():
            seen = structure(image, inner)
        height, width = seen.shape[-2:]
        right, below = (MARGIN_PX + -side % BLOCK_PX for side in (width, height))
        seen = seen.to(computed_in(seen))  # before it grows: half the bytes to move
        seen = F.pad(seen, (MARGIN_PX, right, MARGIN_PX, below), mode="replicate")
        seen = seen.contiguous(memory_format=torch.channels_last)
        near = F.relu(self.first(seen), inplace=True)
        joined = self.joined(F.relu(self.near(near) + self.around(near), inplace=True))
        features: Tensor = joined[
            ..., MARGIN_PX : MARGIN_PX + height, MARGIN_PX : MARGIN_PX + width
        ]
        features = features.to(torch.float32, memory_format=torch.contiguous_format)
        # Not by `norm`, which over this axis takes a CPU eighty times as long.
        length = features.square().sum(dim=1, keepdim=True).add_(HALF**2).sqrt_()
        return features * (inner / length)
