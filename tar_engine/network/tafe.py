"""TAFE, text-assisted feature enhancement: visual tokens ask what they are, in words.

The text bank holds, for every scene and land-cover concept, one embedding of its wording for each
sensor ("a forest in a radar image: grainy, medium bright"). Tokens of a sensor are compared with
the wording for that sensor; what they receive is the concept itself, which both sensors share. So
a field seen by radar and a field seen in colour are pulled towards the same place before they are
matched. The embeddings are constants of a frozen encoder (`text.py`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tar_engine.config import ModelConfig
from tar_engine.network.msfl import Sensor

LEAST_SPREAD = 1e-3  # of a bank along an axis, over that along its main one, to be read there


class Enhanced(NamedTuple):
    """Tokens (B, N, C) after the text, and the log-probability of each concept (B, N, K)."""

    tokens: Tensor
    concepts: Tensor


class TextEnhancement(nn.Module):
    """Gated attention of visual tokens over the text bank."""

    def __init__(self, config: ModelConfig, bank: Tensor):
        """`bank`: (2, K, text_channels) float32 embeddings, wording for optical, then for SAR."""
        super().__init__()
        self.mode = config.text_mode
        self.register_buffer("bank", bank)
        self.bank: Tensor
        width = config.token_channels
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(config.text_channels, width)
        self.value = nn.Linear(config.text_channels, width)
        self.gate = nn.Linear(width, width)
        nn.init.constant_(self.gate.bias, -1.0)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(4.0)))

    def forward(self, tokens: Tensor, sensor: Sensor) -> Enhanced:
        """tokens (B, N, C) -> the same tokens with text mixed in, and what they were taken for."""
        words = self.words()
        wording = words[0 if sensor == "optical" else 1]
        concept = words.mean(dim=0)
        query = self.query(self.norm(tokens))
        key = F.normalize(self.key(wording), dim=-1)
        logits = F.normalize(query, dim=-1) @ key.T * self.log_sharpness.exp().clamp(max=30.0)
        concepts = logits.float().log_softmax(dim=-1)
        if self.mode == "none":
            return Enhanced(tokens, concepts)
        message: Tensor = concepts.exp().to(tokens.dtype) @ self.value(concept)
        return Enhanced(tokens + torch.sigmoid(self.gate(query)) * message, concepts)

    def words(self) -> Tensor:
        """(2, K, text_channels) what tokens are compared with."""
        return centre_bank(ablate_bank(self.bank, self.mode))

    @torch.no_grad()
    def take_over(self, other: TextEnhancement) -> None:
        """Start from `other`, whose bank holds the same concepts as another encoder embeds them.

        All that does not read embeddings is copied. What reads them is fitted, so that each concept
        has nearly the key and the value in this bank that it has in the other.
        """
        reads = ("bank", "key.weight", "value.weight")
        kept = {name: value for name, value in other.state_dict().items() if name not in reads}
        self.load_state_dict(kept, strict=False)
        here, there = self.words(), other.words()
        wording, concept = here.flatten(0, 1), here.mean(dim=0)
        keys, values = there.flatten(0, 1) @ other.key.weight.T, there.mean(dim=0)
        values = values @ other.value.weight.T
        self.key.weight.copy_((torch.linalg.pinv(wording, rtol=LEAST_SPREAD) @ keys).T)
        self.value.weight.copy_((torch.linalg.pinv(concept, rtol=LEAST_SPREAD) @ values).T)


def centre_bank(bank: Tensor) -> Tensor:
    """(2, K, C) embeddings less what all wordings of a sensor share, unit length.

    Sentences of one pattern ("a Sentinel-2 satellite image of ...") lie in a narrow cone, with a
    mean cosine of 0.6 between them; without this no token can tell one from another.
    """
    return F.normalize(bank - bank.mean(dim=1, keepdim=True), dim=-1)


def ablate_bank(bank: Tensor, mode: str) -> Tensor:
    """The bank itself, or what replaces it when the text's worth is measured.

    shuffled: each sensor's wording is dealt out anew, so that concepts no longer agree across the
    sensors; random: directions without meaning.
    """
    if mode in ("bank", "none"):
        return bank
    generator = torch.Generator().manual_seed(0)
    if mode == "shuffled":
        orders = [torch.randperm(bank.shape[1], generator=generator) for _ in bank]
        return torch.stack([one[order] for one, order in zip(bank, orders, strict=True)])
    if mode == "random":
        noise = torch.randn(bank.shape, generator=generator).to(bank)
        return F.normalize(noise, dim=-1)
    raise ValueError(f"text_mode: {mode!r} is none of bank, shuffled, random, none")
