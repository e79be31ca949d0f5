"""What low-level features learn from: places of aligned pairs, moved by a shift that is known.

A window of SAR is correlated with the optical one at every shift in reach. The features to have
make the true shift the likeliest; and where the window shows other ground, or cloud, they make it
likely that it is found nowhere. Windows of three sizes say so, since matching asks windows of many.

Pairs are never aligned to the sub-pixel. How each is misaligned, the shipped engine measures
beforehand, and the truth is corrected by it; pairs that it refuses teach nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.coordinates import apply_affine, compose_affine, pixel_grid, rescale_affine
from tar_engine.deformation import AffineRange, average_areas, invert_affine, random_affines, sample
from tar_engine.errors import InputError
from tar_engine.matching.windows import correlate_cells, subtract_mean, window_correlations
from tar_engine.network.model import TarNetwork
from tar_engine.network.msfl import normalise_with_nan, valid_mask
from tar_engine.register import Registrar
from tar_engine.training.augment import (
    apply_symmetry,
    choose,
    draw_clouds,
    draw_lines,
    draw_plain,
    sar_appearance,
)
from tar_engine.training.losses import window_loss
from tar_engine.training.patches import PatchPairs

CROP_PX = 128
CELL_PX = 16
WINDOW_CELLS = (1, 3, 5)  # sides of the windows that learn, as many as `low_windows`
SEARCH_PX = 6
REACH_PX = 4.5  # of the shifts that are drawn
LARGEST_OWN_PX = 8.0  # of a pair's misalignment
APART = AffineRange((0.8, 1.25), 40.0, 0.0)  # SAR is resampled by this and back, as in matching
AS_IT_IS_SHARE = 0.35  # of pairs without that
SPECKLED_SHARE = 0.3
CLOUDY_SHARE = 0.3
PLAIN_SHARE = 0.25  # of pairs, most of whose ground shows the sensors nothing they share
LINED_SHARE = 0.15  # of pairs with lines of nodata, such as are left of a burnt graticule
ELSEWHERE_SHARE = 0.25  # of pairs whose SAR shows other ground: half of another pair, half ...
ELSEWHERE_PX = (30.0, 64.0)  # ... so far off
HALVED_EVERY = 7  # batches, one of half the resolution
SEEN = 0.6  # share of a cell that both sensors must have seen
CLEAR, COVERED = 0.3, 0.8  # share of a window under cloud, below and above which it counts ...
SOME, HARDLY_ANY = 0.75, 0.98  # ... and under plain ground


class Misalignment(NamedTuple):
    """Of some pairs: pair (M,) int64, which; affine (M, 2, 3) float32, optical (x, y) -> sar (x, y)
    of their images as they are, pixels."""

    pair: Tensor
    affine: Tensor


@dataclass(frozen=True)
class Ground:
    """Whole pairs as they are drawn, (B, bands, S, S) in [0, 1]; 0 for nodata.

    own: (B, 2, 3), how they are misaligned. cloud, plain: (B, 1, S, S) in [0, 1], how much of the
    optical image lies under either.
    """

    optical: Tensor
    sar: Tensor
    own: Tensor
    cloud: Tensor
    plain: Tensor

    def halved(self) -> Ground:
        """The same at half the resolution."""
        side = self.optical.shape[-1] // 2
        optical, sar, cloud, plain = (
            average_areas(image, side, side)
            for image in (self.optical, self.sar, self.cloud, self.plain)
        )
        return Ground(optical, sar, rescale_affine(self.own, 0.5, 0.5), cloud, plain)


@dataclass(frozen=True)
class LowBatch:
    """optical, sar: (B, bands, S, S) normalised, NaN for nodata. shift: (B, 2) pixels.

    is_elsewhere: (B,) bool, where SAR shows other ground. cloud, plain: see `Ground`.
    """

    optical: Tensor
    sar: Tensor
    shift: Tensor
    is_elsewhere: Tensor
    cloud: Tensor
    plain: Tensor


def measure_misalignment(data: PatchPairs, registrar: Registrar) -> Misalignment:
    """How `registrar` finds each pair misaligned, by one affine; some it may refuse.

    Raises:
        InputError: it refuses all of them.
    """
    accepted, affines = [], []
    for index in range(len(data)):
        optical, sar = data.optical[index].cpu().numpy(), data.sar[index].cpu().numpy()
        found = registrar.register(optical, sar, max_offset_px=LARGEST_OWN_PX)
        if found.accepted:
            accepted.append(index)
            affines.append(torch.from_numpy(found.affine).float())
    if not accepted:
        raise InputError("pairs: the engine finds none of them aligned, there is nothing to learn")
    device = data.optical.device
    return Misalignment(torch.tensor(accepted, device=device), torch.stack(affines).to(device))


def draw_low_batch(data: PatchPairs, known: Misalignment, batch: int, seed: int) -> LowBatch:
    """A random batch, fully determined by `seed`, of the pairs whose misalignment is known."""
    generator = torch.Generator(data.optical.device).manual_seed(seed)
    ground = draw_ground(data, known, batch, generator)
    return draw_views(ground if seed // batch % HALVED_EVERY else ground.halved(), generator)


def draw_ground(
    data: PatchPairs, known: Misalignment, batch: int, generator: torch.Generator
) -> Ground:
    """Pairs in random symmetry, some speckled, some under cloud, some laid under plain ground."""
    device, side = data.optical.device, data.optical.shape[-1]
    drawn = torch.randint(len(known.pair), (batch,), generator=generator, device=device)
    chosen = known.pair[drawn]
    turn = torch.randint(8, (batch, 1, 1, 1), generator=generator, device=device)
    both = torch.cat([data.optical[chosen], data.sar[chosen]], dim=1).float() / 255
    both = apply_symmetry(both, turn)
    optical, sar = both[:, :-1], both[:, -1:]
    is_empty, is_unseen = (optical == 0).all(dim=1, keepdim=True), sar == 0
    is_speckled = choose(batch, SPECKLED_SHARE, generator)
    sar = torch.where(is_speckled, sar_appearance(sar, generator), sar)
    brightness, opacity = draw_clouds(batch, side, generator)
    cloud = torch.where(choose(batch, CLOUDY_SHARE, generator), opacity, 0.0)
    seen, opacity = draw_plain(batch, side, generator)
    plain = torch.where(choose(batch, PLAIN_SHARE, generator), opacity, 0.0)
    optical = optical * (1 - plain) + seen[:, :1] * plain
    optical = optical * (1 - cloud) + brightness * cloud
    sar = sar * (1 - plain) + seen[:, 1:] * plain
    return Ground(
        optical.masked_fill(is_empty, 0.0),
        sar.masked_fill(is_unseen, 0.0),
        turn_affines(known.affine[drawn], turn.flatten(), side),
        cloud,
        plain,
    )


def draw_views(ground: Ground, generator: torch.Generator) -> LowBatch:
    """What both sensors see of a random part of the ground, SAR moved by a random shift.

    SAR is resampled as in matching, to where it could lie and back; some of it shows other ground.
    """
    batch, side, device = len(ground.optical), ground.optical.shape[-1], ground.optical.device
    crop_px = min(CROP_PX, side)
    corner = (uniform((batch, 1, 2), generator) * (side - crop_px + 1)).floor()
    crop = pixel_grid(crop_px, crop_px, device).reshape(1, -1, 2) + corner
    shift = REACH_PX * (2 * uniform((batch, 2), generator) - 1)
    strangers, others = (round(ELSEWHERE_SHARE * batch / 2) for _ in "ab")
    turn, length = uniform((2, others, 1), generator)
    length = ELSEWHERE_PX[0] + (ELSEWHERE_PX[1] - ELSEWHERE_PX[0]) * length
    far = length * torch.cat([(2 * math.pi * turn).cos(), (2 * math.pi * turn).sin()], dim=1)
    off = F.pad(far, (0, 0, strangers, batch - strangers - others)) - shift

    apart = random_affines(APART, batch, side, generator).float()
    identity = torch.eye(2, 3, device=device).expand(batch, 2, 3)
    apart = torch.where(uniform((batch, 1, 1), generator) < AS_IT_IS_SHARE, identity, apart)
    grid = pixel_grid(side, side, device).reshape(1, -1, 2).expand(batch, -1, 2)
    moved = sample(ground.sar, apply_affine(invert_affine(apart), grid).view(batch, side, side, 2))
    back = apply_affine(compose_affine(apart, ground.own), crop + off[:, None])
    shape = (batch, crop_px, crop_px, 2)
    optical, sar = sample(ground.optical, crop.view(shape)), sample(moved, back.view(shape))
    sar = torch.cat([sar.roll(1, dims=0)[:strangers], sar[strangers:]])
    is_lined = choose(batch, LINED_SHARE, generator)
    lines = [is_lined & draw_lines(batch, crop_px, generator) for _ in "ab"]
    covers = torch.cat([ground.cloud, ground.plain], dim=1)
    cloud, plain = sample(covers, crop.view(shape)).nan_to_num(0.0).split(1, dim=1)
    return LowBatch(
        normalise_with_nan(optical.masked_fill(lines[0], torch.nan)),
        normalise_with_nan(sar.masked_fill(lines[1], torch.nan)),
        shift,
        torch.arange(batch, device=device) < strangers + others,
        cloud,
        plain,
    )


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Of [0, 1), on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)


def turn_affines(own: Tensor, turn: Tensor, side_px: int) -> Tensor:
    """Affines (B, 2, 3) between images that `augment.apply_symmetry` has turned by (B,)."""
    down, across = 1 - 2.0 * (turn % 2), 1 - 2.0 * (turn // 2 % 2)
    linear = torch.diag_embed(torch.stack([across, down], dim=1))
    linear = torch.where((turn // 4 == 1)[:, None, None], linear.flip(1), linear)
    centre = torch.full((2, 1), (side_px - 1) / 2, device=own.device)
    turned = torch.cat([linear, centre - linear @ centre], dim=2)
    return compose_affine(turned, compose_affine(own, invert_affine(turned)))


def low_loss(network: TarNetwork, batch: LowBatch) -> Tensor:
    """Mean over sizes of windows of the loss of those that see both sensors."""
    optical = subtract_mean(network.low_level(batch.optical, "optical"))
    sar = subtract_mean(network.low_level(batch.sar, "sar"))
    cells = correlate_cells(optical, sar, CELL_PX, SEARCH_PX)
    both = valid_mask(batch.optical) * valid_mask(batch.sar)
    is_seen = F.avg_pool2d(both, CELL_PX)[:, 0] > SEEN
    covers = F.avg_pool2d((torch.cat([batch.cloud, batch.plain], dim=1) > 0.5).float(), CELL_PX)
    covers = F.avg_pool2d(covers, 3, stride=1, padding=1, count_include_pad=False)
    cloud, plain = covers.unbind(dim=1)
    is_elsewhere = batch.is_elsewhere[:, None, None]
    found = is_seen & ~is_elsewhere & (cloud < CLEAR) & (plain < SOME)
    nowhere = is_seen & (is_elsewhere | (cloud > COVERED) | (plain > HARDLY_ANY))
    total = optical.new_zeros(())
    for size, side_cells in enumerate(WINDOW_CELLS):
        surfaces = window_correlations(cells, side_cells, CELL_PX)
        sharpness, none = network.low_sharpness[size].exp(), network.low_nowhere[size]
        total = total + window_loss(surfaces * sharpness, none, batch.shift, found, nowhere)
    return total / len(WINDOW_CELLS)
