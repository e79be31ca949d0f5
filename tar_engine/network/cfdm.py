"""CFDM, coarse to fine dense matching: what its coarse half learns.

    tokens (text-enhanced) ── up to 1/4, joined with middle features ── descriptors
        └── training: every cell against every cell, dual softmax ── log-probabilities

Descriptors are those of one image alone, without attention to the other and without a place. So
they may be computed once and carried through every rotation and scale that the global search
tries (`search.py`), and they cannot learn to match the frames of two images instead of what is in
them. The fine half correlates MSFL's low-level features in windows (`windows.py`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tar_engine.config import ModelConfig


class Descriptors(nn.Module):
    """From one image's tokens and middle features to one unit vector per cell."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.match_channels
        self.from_tokens = nn.Conv2d(config.token_channels, width, 1)
        self.from_middle = nn.Conv2d(config.middle_channels, width, 1)
        self.mix = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="replicate"),
        )
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(12.0)))

    def forward(self, tokens: Tensor, middle: Tensor) -> Tensor:
        """Tokens (B, C, H/2, W/2), middle features (B, C, H, W) -> (B, D, H, W), unit length."""
        grid = F.interpolate(self.from_tokens(tokens), size=middle.shape[-2:], mode="bilinear")
        return F.normalize(self.mix(grid + self.from_middle(middle)), dim=1)

    def similarity(self, optical: Tensor, sar: Tensor) -> Tensor:
        """(B, N, N) float32: optical cell by SAR cell, within +-60; see `dual_softmax`."""
        similarity = optical.flatten(2).transpose(1, 2) @ sar.flatten(2)
        return similarity.float() * self.log_sharpness.exp().clamp(max=60.0)


def dual_softmax(similarity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability of matches, counted from both sides (LoFTR, section 3.3).

    Returns:
        (B, N, N) twice the similarity; (B, N, 1) and (B, 1, N) the rows' and the columns'
        log-sums. The first less both others is the log-probability: a match that is alone in its
        row and in its column has about 0. They are kept apart because training needs only a few
        entries of the large one. Similarities are bounded, so no maximum need be subtracted.
    """
    weight = similarity.exp()
    rows, columns = weight.sum(dim=2, keepdim=True).log(), weight.sum(dim=1, keepdim=True).log()
    return 2 * similarity, rows, columns
