"""The frozen protocols: what is done to an aligned pair before the engine has to undo it.

Parameters and seeds stand in `protocols.json`. A pair's warp follows from the protocol's seed and
the pair's name alone, so it is the same in every run, in every subset and on places not seen yet.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.coordinates import apply_affine, pixel_grid
from tar_engine.deformation import (
    AffineRange,
    ReliefDisplacement,
    Waves,
    draw_heights,
    invert_affine,
    random_affines,
    sample,
)
from tar_engine.training.deceit import MARKS, PERIOD_PX, burn_in, lay_over
from tar_engine.training.patches import PatchPairs
from tar_engine.training.sparse import lay_plain

PIXEL_M = 10.0
INCIDENCE_DEG = (30.0, 45.0)  # of Sentinel-1's wide swath
HILLS_PX, RESOLVED_PX = 160.0, 1.5  # relief from so wide hills to a DEM's posts of 30 m
INVERSION_STEPS = 100  # at most, of the field: a contraction where its slope is below 1 px per px
INVERTED_PX = 1e-9  # a step as small ends it: no pixel could change


@dataclass(frozen=True)
class Protocol:
    """Ranges of one protocol, as `protocols.json` has them; 0 = off."""

    name: str
    says: str
    seed: int
    scale: tuple[float, float]
    rotation_deg: float
    translation_px: float = 0.0
    translation_share: float = 0.0  # of the image side, beside translation_px
    shear_deg: float = 0.0
    field_peak_px: tuple[float, float] = (0.0, 0.0)  # largest |dx| in the image, of the field
    field_wavelength_px: tuple[float, float] = (64.0, 160.0)
    field_waves: int = 0
    field_y_share: float = 0.0  # largest |dy| over largest |dx|
    relief_peak_px: tuple[float, float] = (0.0, 0.0)  # largest displacement, by made relief
    range_deg: float = 0.0  # between its direction and x or -x, either way
    height_noise_m: float = 0.0  # of the heights that are given, smooth as they are
    gives_heights: bool = False
    cloud_share: float = 0.0  # of the optical image
    plains: Sequence[str] = ()  # what ground all but a small part is laid under; one by the name
    part_px: int = 0  # side of the part of the optical image that is given, at any place
    foreign: bool = False  # another place's SAR: everything accepted is a false accept
    deceits: Sequence[str] = ()  # what is laid over both images; one of them by the pair's name
    near: str = ""  # the protocol whose warp every other pair gets in the place of this one's ...
    max_offset_px: float | None = None  # ... and the prior with it

    @property
    def bends(self) -> bool:
        """Whether its warp is more than an affine."""
        return self.field_waves > 0 or self.relief_peak_px[1] > 0

    def variants(self) -> tuple[Protocol, ...]:
        """What is asked of each place: where pairs deceive, to refuse another place's SAR too."""
        if not self.deceits:
            return (self,)
        return self, replace(self, foreign=True)

    def affine_range(self, side_px: int) -> AffineRange:
        """What the affine part is drawn from, for images of `side_px`."""
        translation_px = self.translation_px + self.translation_share * side_px
        return AffineRange(
            (self.scale[0], self.scale[1]), self.rotation_deg, translation_px, self.shear_deg
        )


def _load() -> dict[str, Protocol]:
    text = (
        resources.files("tar_engine.training")
        .joinpath("protocols.json")
        .read_text(encoding="utf-8")
    )
    return {name: Protocol(name, **values) for name, values in json.loads(text).items()}


PROTOCOLS = _load()


@dataclass(frozen=True)
class Case:
    """One pair of a protocol, ready to be registered.

    optical (bands, P, P), sar (1, S, S) uint8, P = S but under `part`. displacement: (2, P, P)
    float32, the true SAR position minus the optical position, pixels; NaN where that is outside
    the SAR image. deceit: its kind, if there is one. max_offset_px: the prior, if one is given.
    heights: (P, P) float32 metres, if they are given.
    """

    name: str
    optical: npt.NDArray[np.uint8]
    sar: npt.NDArray[np.uint8]
    displacement: npt.NDArray[np.float32]
    deceit: str = ""
    max_offset_px: float | None = None
    heights: npt.NDArray[np.float32] | None = None


def make_case(data: PatchPairs, index: int, protocol: Protocol) -> Case:
    """Warp pair `index`; areas that the warp leaves empty are 0, as archives fill them."""
    name, side = data.names[index], data.optical.shape[-1]
    digest = hashlib.sha256(f"{protocol.seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))
    is_near = protocol.max_offset_px is not None and digest[6] % 2 == 0
    warp = PROTOCOLS[protocol.near] if is_near else protocol
    affine = random_affines(warp.affine_range(side), 1, side, generator)[0]
    field: Waves | ReliefDisplacement = draw_waves(protocol, side, generator)
    heights = None
    if protocol.relief_peak_px[1]:
        field, heights = draw_relief(protocol, side, generator)
    other = (index + max(1, len(data) // 2)) % len(data) if protocol.foreign else index
    optical, sar = data.optical[index], data.sar[other]
    deceit = protocol.deceits[digest[7] % len(protocol.deceits)] if protocol.deceits else ""
    if deceit in PERIOD_PX:
        optical, sar = lay_over(optical, sar, deceit, protocol.foreign, generator)
    if protocol.plains:
        plain = protocol.plains[digest[7] % len(protocol.plains)]
        optical, sar = lay_plain(optical, sar, plain, generator)
    if protocol.cloud_share:
        optical = cover_with_cloud(optical, protocol.cloud_share, generator)

    grid = pixel_grid(side, side).double().reshape(-1, 2)
    source = apply_affine(invert_affine(affine), grid)
    for _ in range(INVERSION_STEPS if protocol.bends else 0):
        before, source = source, apply_affine(invert_affine(affine), grid - field.at(source)[0])
        if (source - before).abs().max() < INVERTED_PX:
            break
    warped = sample(sar[None].double(), source.view(1, side, side, 2))[0]
    sar = warped.nan_to_num(0.0).round().clamp(0, 255).to(torch.uint8)
    if deceit in MARKS:
        optical, sar = burn_in(optical, sar, deceit, generator)

    truth = apply_affine(affine, grid) + field.at(grid)[0]
    inside = ((truth > -0.5) & (truth < side - 0.5)).all(dim=1, keepdim=True)
    moved = (truth - grid).masked_fill(~inside, torch.nan).T.reshape(2, side, side)
    if protocol.part_px:
        left, top = torch.randint(side - protocol.part_px + 1, (2,), generator=generator).tolist()
        rows, columns = slice(top, top + protocol.part_px), slice(left, left + protocol.part_px)
        optical, moved = optical[:, rows, columns], moved[:, rows, columns]
        moved = moved + torch.tensor([left, top])[:, None, None]
    prior_px = protocol.max_offset_px if is_near else None
    images, shown = (optical.numpy(), sar.numpy()), heights if protocol.gives_heights else None
    return Case(name, *images, moved.float().numpy(), deceit, prior_px, shown)


def draw_waves(protocol: Protocol, side_px: int, generator: torch.Generator) -> Waves:
    """The protocol's smooth field, of no waves where it has none; a batch of one, float64."""
    count = protocol.field_waves

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        draw = torch.rand(*shape, generator=generator, dtype=torch.float64)
        return low + (high - low) * draw

    wavelength = uniform(*protocol.field_wavelength_px, count)
    heading = uniform(0.0, 2 * math.pi, count)
    peak = uniform(*protocol.field_peak_px, 1)
    size = uniform(0.5, 1.0, 2, count)
    direction = torch.stack([heading.cos(), heading.sin()], dim=1)
    frequency = 2 * math.pi / wavelength[:, None] * direction
    waves = Waves(frequency[None], uniform(0.0, 2 * math.pi, 2, count)[None], size[None])
    if not count:
        return waves
    grid = pixel_grid(side_px, side_px).double().reshape(-1, 2)
    highest = waves.at(grid)[0].abs().amax(dim=0)
    wanted = peak * torch.tensor([1.0, protocol.field_y_share])
    return replace(waves, size=waves.size * (wanted / highest)[None, :, None])


def draw_relief(
    protocol: Protocol, side_px: int, generator: torch.Generator
) -> tuple[ReliefDisplacement, npt.NDArray[np.float32]]:
    """What the protocol's relief displaces, and its heights as a DEM has them: (S, S) metres."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

    looks_left = uniform(0.0, 1.0) < 0.5
    turn = math.radians(uniform(-protocol.range_deg, protocol.range_deg) + 180.0 * looks_left)
    direction = torch.tensor([math.cos(turn), math.sin(turn)], dtype=torch.float64)
    per_m = 1 / math.tan(math.radians(uniform(*INCIDENCE_DEG))) / PIXEL_M
    peak_m = uniform(*protocol.relief_peak_px) / per_m
    relief_m = peak_m * draw_heights(side_px, HILLS_PX, RESOLVED_PX, generator)
    noise = draw_heights(side_px, 2 * RESOLVED_PX, RESOLVED_PX, generator)
    heights = relief_m + protocol.height_noise_m * noise / noise.std()
    return ReliefDisplacement(relief_m, per_m * direction), heights.float().numpy()


def cover_with_cloud(image: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """(bands, S, S) uint8 with `share` of it under opaque, faintly textured cloud."""
    side = image.shape[-1]

    def noise(octaves: tuple[int, ...]) -> Tensor:
        total = torch.zeros(1, 1, side, side)
        for cells in octaves:
            octave = torch.randn(1, 1, cells, cells, generator=generator)
            total += F.interpolate(octave, size=(side, side), mode="bicubic") * (3 / cells)
        return total[0, 0]

    shape, texture = noise((3, 6, 12, 24)), noise((12, 24, 48))
    covered = shape > shape.flatten().quantile(1 - share)
    brightness = (235 + 12 * texture / texture.std()).clamp(200, 255).round().to(torch.uint8)
    return torch.where(covered, brightness, image)
