"""Every number the engine is built from: its unit and its "off" value beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network. Stored in the checkpoint; weights fit one ModelConfig only."""

    seen_px: int = 128  # side of the square image that the network sees, pixels
    stem_channels: int = 32  # at 1/2 of seen_px
    middle_channels: int = 64  # at 1/4: lateral input of the descriptors
    token_channels: int = 128  # at 1/8: the tokens of TAFE
    match_channels: int = 32  # at 1/4: the descriptors
    low_channels: int = 16  # inside the learned low-level features, at full resolution
    low_features: int = 8  # of them, what windows compare
    text_channels: int = 384  # width of the text bank's embeddings
    text_mode: str = "bank"  # "bank", or for ablations "shuffled", "random", "none" = off


@dataclass(frozen=True)
class SearchConfig:
    """The global search over rotations, scales and shifts."""

    seen_px: int = 256  # side of the square image whose gradients are taken, pixels
    field_px: int = 64  # side of the field that they are averaged to and correlated on
    usual_turn_deg: float = 45.0  # rotations tried first, either way ...
    usual_scale: float = 1.5  # ... and scales, either way: the paper's deformation with a margin
    turn_step_deg: float = 5.0
    largest_scale: float = 2.0  # tried with any rotation if the usual ones give no answer
    scales_per_octave: int = 6
    kept: int = 8  # candidates looked at closer; 1 = off
    kept_of_any: int = 32  # the same where any rotation is tried; windows decide between them
    descriptor_weight: float = 0.006  # of the network's descriptors in their ranking; 0 = off

    def grid(self, *, any_rotation: bool) -> tuple[Tensor, Tensor]:
        """Rotations in radians and scales, evenly spaced (scales by ratio)."""
        largest = self.largest_scale if any_rotation else self.usual_scale
        octaves = math.ceil(math.log2(largest) * self.scales_per_octave)
        scales = 2 ** (torch.arange(-octaves, octaves + 1) / self.scales_per_octave)
        reach = 180.0 - self.turn_step_deg if any_rotation else self.usual_turn_deg
        turns = torch.arange(-reach, reach + 1e-3, self.turn_step_deg)
        if any_rotation:
            turns = torch.cat([turns, torch.tensor([180.0])])
        return turns.deg2rad(), scales


@dataclass(frozen=True)
class RefineConfig:
    """The refinement on low-level features: windows correlated in a neighbourhood."""

    cell_px: int = 16  # spacing of the matches, pixels
    window_cells: int = 5  # side of the window that a match compares, cells (tapered)
    search_px: int = 8  # largest offset searched each way in one round, pixels
    dense_search_px: tuple[int, ...] = (4, 2)  # largest offset of each dense round; () = off
    dense_cell_px: int = 8  # spacing of the dense field's cells, pixels
    dense_window_cells: int = 3  # side of its windows, cells (tapered)
    coupling: tuple[float, ...] = (
        0.02,
        0.04,
        0.08,
        0.16,
    )  # correlation lost per px² off it
    smoothing_cells: tuple[float, ...] = (3.0, 2.0, 1.5, 0.7)  # sigma of the field's smoothing


@dataclass(frozen=True)
class EngineConfig:
    """All of the above."""

    model: ModelConfig = field(default_factory=ModelConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)


def model_config(values: dict[str, Any]) -> ModelConfig:
    """A ModelConfig from a checkpoint's plain values; an unknown name is an error, not ignored."""
    known = {item.name for item in fields(ModelConfig)}
    if unknown := set(values) - known:
        raise ValueError(
            f"checkpoint was made by another version: unknown fields {sorted(unknown)}"
        )
    return ModelConfig(**values)
