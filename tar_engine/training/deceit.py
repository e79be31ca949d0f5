"""Pairs that deceive: ground that repeats itself, and marks that are no ground.

Each is laid over real places. Two places under one lattice, or one mark, look alike without being
the same: they must be refused. One place seen twice under it must still be registered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tar_engine.coordinates import pixel_grid
from tar_engine.training.synthesis import CROPS

MARKS = ("graticule", "crosses", "noise")
# Roads of a mile, or every half of one; pivots of a quarter section, or of half of one; fields.
PERIOD_PX: dict[str, tuple[float, float]] = {
    "roads": (80, 161),
    "pivots": (40, 80),
    "checkers": (32, 64),
}
LATTICE_TURN_DEG = 10.0  # either way
ROAD_PX = 3.0
ROAD_COLOUR, ROAD_BACKSCATTER = (190.0, 175.0, 150.0), 35.0
PIVOT_RADIUS = 0.46  # of the period
CROP_SHARE = 0.65  # of what a field shows; the rest is the place's own texture
CELLS = 16  # along either axis until crops come again
SPECKLE = 12.0  # of fields in the SAR image, standard deviation
MARK_SPACING_PX = (36, 64)
CROSS_PX = 6  # length of an arm
NOISE = 20.0  # standard deviation


@dataclass(frozen=True)
class Lattice:
    """A square lattice: period, turn, and where one of its crossings lies, pixels."""

    kind: str
    period_px: float
    turn: float
    origin_xy: Tensor

    @classmethod
    def drawn(cls, kind: str, generator: torch.Generator) -> Lattice:
        """One of its kind, anywhere."""
        low, high = PERIOD_PX[kind]
        period, turn, x, y = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        period_px = low + (high - low) * period
        origin = torch.tensor([x, y], dtype=torch.float64) * period_px
        return cls(kind, period_px, math.radians(LATTICE_TURN_DEG) * (2 * turn - 1), origin)

    def coordinates(self, side_px: int) -> Tensor:
        """(side, side, 2) of every pixel, in periods."""
        cosine, sine = math.cos(self.turn), math.sin(self.turn)
        turned = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
        return (pixel_grid(side_px, side_px).double() - self.origin_xy) @ turned / self.period_px


def draw_crops(generator: torch.Generator) -> Tensor:
    """(CELLS, CELLS) what grows in each field of a place, index into `CROPS`."""
    return torch.randint(len(CROPS), (CELLS, CELLS), generator=generator)


def lay_over(
    optical: Tensor, sar: Tensor, kind: str, is_other_place: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Optical and SAR under one lattice of that kind; where both show one place, its crops too."""
    lattice = Lattice.drawn(kind, generator)
    here = draw_crops(generator)
    there = draw_crops(generator) if is_other_place else here
    speckle = torch.Generator().manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
    return (
        lay_lattice(optical, lattice, here, speckle),
        lay_lattice(sar, lattice, there, speckle),
    )


def lay_lattice(
    image: Tensor, lattice: Lattice, crops: Tensor, generator: torch.Generator
) -> Tensor:
    """What the lattice makes of (3, S, S) optical or (1, S, S) SAR, uint8."""
    is_optical = len(image) == 3
    cell = lattice.coordinates(image.shape[-1])
    to_line_px = (cell - cell.round()).abs() * lattice.period_px
    if lattice.kind == "roads":
        on_road = to_line_px.amin(dim=-1) < ROAD_PX / 2
        surface = torch.tensor(ROAD_COLOUR if is_optical else (ROAD_BACKSCATTER,))
        return torch.where(on_road, surface.to(torch.uint8)[:, None, None], image)
    place = cell.floor().long() % CELLS
    crop = torch.from_numpy(CROPS)[crops[place[..., 1], place[..., 0]]].permute(2, 0, 1)
    shown = crop[:3] * 330.0 if is_optical else (crop[3:] + 30.0) / 28.0 * 254.0
    if not is_optical:
        shown = shown + SPECKLE * torch.randn(shown.shape, generator=generator)
    mixed = CROP_SHARE * shown + (1 - CROP_SHARE) * image.float()
    grown = mixed.round().clamp(1, 255).to(torch.uint8)
    if lattice.kind == "checkers":
        return grown
    to_middle = (cell - cell.floor() - 0.5).norm(dim=-1)
    return torch.where(to_middle < PIVOT_RADIUS, grown, image)


def burn_in(
    optical: Tensor, sar: Tensor, kind: str, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Both images, uint8 of one size, with the same marks at the same pixels."""
    side = sar.shape[-1]
    if kind == "noise":
        noise = NOISE * torch.randn(side, side, generator=generator)
        return add_noise(optical, noise), add_noise(sar, noise)
    spacing, left, top, is_white = (
        int(torch.randint(low, high, (1,), generator=generator))
        for low, high in (MARK_SPACING_PX, (0, 36), (0, 36), (0, 2))
    )
    line = torch.arange(side)
    x, y = (line - left) % spacing, (line - top) % spacing
    marks = (x[None, :] == 0) | (y[:, None] == 0)
    if kind == "crosses":
        x, y = (torch.minimum(along, spacing - along) <= CROSS_PX for along in (x, y))
        marks &= x[None, :] & y[:, None]
    return optical.masked_fill(marks, 255 * is_white), sar.masked_fill(marks, 255 * is_white)


def add_noise(image: Tensor, noise: Tensor) -> Tensor:
    """(bands, S, S) uint8 with (S, S) noise in all bands; what is empty stays 0."""
    noisy = (image + noise).round().clamp(1, 255).to(torch.uint8)
    return noisy.masked_fill((image == 0).all(dim=0), 0)
