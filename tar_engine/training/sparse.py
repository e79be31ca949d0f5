"""Ground with little to hold on to: sea about an island, snow, desert.

Each is laid over a real place, of which a small part stays. What surrounds it shows the two sensors
nothing that they share: texture of its own in either, speckle in the SAR image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.coordinates import pixel_grid


@dataclass(frozen=True)
class Plain:
    """How plain ground looks, uint8 counts; textures are standard deviations.

    feature_cells: how many features of the optical and of the SAR texture lie along a side.
    """

    colour: tuple[float, float, float]
    texture: float
    backscatter: float
    swell: float
    feature_cells: tuple[int, int]


PLAIN: dict[str, Plain] = {
    "sea": Plain((22.0, 45.0, 70.0), 3.0, 40.0, 5.0, (48, 24)),
    "snow": Plain((236.0, 240.0, 244.0), 3.0, 95.0, 4.0, (24, 16)),
    "desert": Plain((205.0, 170.0, 120.0), 7.0, 70.0, 6.0, (32, 20)),
}
KEPT_SHARE = (0.08, 0.15)  # of the image: what stays of the place
BORDER_PX = {"sea": 1.0, "snow": 3.0, "desert": 8.0}  # width over which one becomes the other
PIXEL_NOISE = 1.5  # of the optical image
SPECKLE = 16.0  # of the stretched SAR image: about four looks
ISLAND_MIDDLE = 0.2  # of the side, how far off the middle of the image an island's may lie


def lay_plain(
    optical: Tensor, sar: Tensor, kind: str, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(3, S, S) optical and (1, S, S) SAR, uint8, under plain ground but for a small part."""
    side, plain = optical.shape[-1], PLAIN[kind]
    kept = draw_kept(kind, side, generator)
    shade = plain.texture * _noise((plain.feature_cells[0],), side, generator)
    grain = PIXEL_NOISE * torch.randn(3, side, side, generator=generator)
    seen = torch.tensor(plain.colour)[:, None, None] + shade + grain
    swell = plain.swell * _noise((plain.feature_cells[1],), side, generator)
    speckle = SPECKLE * torch.randn(side, side, generator=generator)
    echo = (plain.backscatter + swell + speckle)[None]
    return _mixed(optical, seen, kept), _mixed(sar, echo, kept)


def draw_kept(kind: str, side_px: int, generator: torch.Generator) -> Tensor:
    """(S, S) in [0, 1], how much of the place is seen: one island, or outcrops here and there."""
    shape = _noise((6, 12, 24), side_px, generator)
    drawn = torch.rand(3, generator=generator)
    if kind == "sea":
        middle = (0.5 + ISLAND_MIDDLE * (2 * drawn[:2] - 1)) * side_px
        away = (pixel_grid(side_px, side_px) - middle).norm(dim=-1)
        shape = 0.5 * shape - away / (0.08 * side_px)
    share = KEPT_SHARE[0] + (KEPT_SHARE[1] - KEPT_SHARE[0]) * drawn[2].item()
    high = (shape > shape.flatten().quantile(1 - share)).float()
    radius = math.ceil(BORDER_PX[kind])
    around = F.pad(high[None, None], [radius] * 4, mode="replicate")
    return F.avg_pool2d(around, 2 * radius + 1, stride=1)[0, 0]


def _noise(octaves: tuple[int, ...], side_px: int, generator: torch.Generator) -> Tensor:
    """(S, S) smooth noise of unit deviation, features along a side as each octave counts."""
    total = torch.zeros(1, 1, side_px, side_px)
    for cells in octaves:
        octave = torch.randn(1, 1, cells, cells, generator=generator)
        total += F.interpolate(octave, size=(side_px, side_px), mode="bicubic") / cells
    return (total / total.std())[0, 0]


def _mixed(image: Tensor, plain: Tensor, kept: Tensor) -> Tensor:
    mixed = kept * image + (1 - kept) * plain
    return mixed.round().clamp(1, 255).to(torch.uint8)
