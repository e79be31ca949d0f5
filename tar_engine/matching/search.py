"""CFDM, the coarse half: every rotation, scale and shift of the SAR image, without a prior.

    both images ── edges: which way they run, and how dense they are ── averaged to a small field
        SAR's field under each rotation and scale ── correlated with the optical one by FFT,
        │   usual ones all at half the resolution, the strongest quarter at the whole
        └── the strongest few, each moved to the best between the steps

As a vector a doubled angle can be averaged, so that a pixel of 4 x 4 still knows which way its
edges run, where the gradient of a shrunk image would have lost them; it turns with the image by a
mere rotation; and one FFT correlates it at all shifts (orientation correlation: Fitch et al., BMVC
2002). What is round or small has edges of all directions, which cancel: dunes, trees, houses. It
still has more of them than the ground around it, seen by either sensor.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.config import SearchConfig
from tar_engine.constants import made_once
from tar_engine.coordinates import compose_affine, normalised_from_pixel, rescale_affine
from tar_engine.deformation import average_areas, shrink
from tar_engine.network.filters import filter_separable, gaussian_kernel
from tar_engine.network.msfl import (
    DERIVATIVE_SIGMA_PX,
    Sensor,
    double_angles,
    equalise,
    gradient,
    ground_of,
    valid_mask,
)
from tar_engine.network.precision import is_on_cpu

AT_ONCE = 32  # hypotheses of each pair, but ...
CACHED_PX = 2**17  # ... on a CPU no more pixels of all pairs' planes, so that spectra fit a cache


class Candidates(NamedTuple):
    """The best hypotheses of each pair, best first.

    affine: (B, K, 2, 3) float32, optical (x, y) -> sar (x, y), full-size pixels. score: (B, K),
    correlation over the root of both energies.
    """

    affine: Tensor
    score: Tensor

    def best(self, kept: int) -> Candidates:
        """The best `kept` of hypotheses in any order."""
        score, chosen = self.score.topk(kept, dim=1)
        return Candidates(self.affine.take_along_dim(chosen[..., None, None], dim=1), score)


def search_similarities(
    optical: Tensor,
    sar: Tensor,
    config: SearchConfig,
    *,
    any_rotation: bool = False,
    closer: bool = False,
) -> Candidates:
    """Search all shifts under `config`'s rotations and scales.

    Args:
        optical, sar: (B, bands, H, W) normalised, NaN for nodata; sizes may differ.
        any_rotation: every rotation and scale that a satellite pair could have, not only the
            usual ones; more than three times as long.
        closer: in smaller steps and more by how dense edges are, for ground of dots and dunes; four
            times as long.
    """
    weight = config.density_weight_closer if closer else config.density_weight
    weight = config.density_weight_of_any if any_rotation else weight
    optical_field, optical_factor = edge_field(optical, "optical", weight, config)
    sar_field, sar_factor = edge_field(sar, "sar", weight, config)
    hypotheses = grid_hypotheses(config, any_rotation, closer, optical.device)
    hypotheses = hypotheses.expand(len(optical), -1, -1, -1)
    if not any_rotation and not closer:
        size = config.field_px // 2, config.field_px // 2
        small = average_areas(optical_field, *size), average_areas(sar_field, *size)
        hypotheses = strongest_hypotheses(*small, hypotheses, config)
    kept = config.kept_of_any if any_rotation else config.kept
    found = correlate_hypotheses(optical_field, sar_field, hypotheses, config).best(kept)
    if kept > 1:
        found = refine_candidates(optical_field, sar_field, found, config)
    return Candidates(rescale_affine(found.affine, optical_factor, sar_factor), found.score)


def refine_candidates(
    optical: Tensor, sar: Tensor, candidates: Candidates, config: SearchConfig
) -> Candidates:
    """The candidates again, each moved to the best of its neighbours between the steps tried."""
    kept = candidates.score.shape[1]
    affine = candidates.affine.flatten(0, 1)
    repeated = sar.repeat_interleave(kept, dim=0)
    turned = warp_field(repeated, affine)
    near = neighbouring_maps(config, optical.device)
    score, step = correlate_nearby(optical, turned.unflatten(0, (-1, kept)), near, config.near_px)
    # What a candidate moves out of sight counts, as before it was moved: else those that leave
    # little of the SAR image in sight would come first.
    whole = warp_field(repeated, about_centre(affine[..., :2], config.field_px))
    share = energy(turned) / energy(whole).clamp_min(1e-6)
    score = score * share.clamp_max(1).sqrt().view_as(score)
    score, order = score.sort(dim=1, descending=True)
    moved = compose_affine(candidates.affine, step)
    return Candidates(moved.take_along_dim(order[..., None, None], dim=1), score)


def correlate_nearby(
    optical: Tensor, sar: Tensor, near: Tensor, reach_px: int
) -> tuple[Tensor, Tensor]:
    """Each candidate's best of a few small maps (N, 2, 3), at its best shift by `reach_px` at most.

    By a matrix product: so few shifts need no FFT.

    Args:
        optical: fields (B, 3, F, F). sar: (B, K, 3, F, F), warped by the candidates.

    Returns:
        score (B, K), see `Candidates`, and step (B, K, 2, 3) that leads from the candidate there.
    """
    batch, kept, planes, side = sar.shape[:4]
    count, lags = len(near), 2 * reach_px + 1
    together = sar.reshape(1, -1, side, side).expand(count, -1, -1, -1)
    field = F.grid_sample(together, sampling_grid(near, side), align_corners=False)
    turn_in_place(counter_rotation(near), field.view(count, batch * kept, planes, side, side))
    field = field.view(count, batch, kept, -1).transpose(0, 1).flatten(1, 2)
    shifted = F.pad(optical, [reach_px] * 4).unfold(2, side, 1).unfold(3, side, 1)
    shifted = shifted.permute(0, 2, 3, 1, 4, 5).reshape(batch, lags**2, -1)
    length = field.norm(dim=2, keepdim=True).clamp_min(1e-6)
    score = (field @ shifted.transpose(1, 2) / length).view(batch, count, kept, -1)
    best, place = score.transpose(1, 2).flatten(2).max(dim=2)
    shift = reach_px - torch.stack([place % lags, place // lags % lags], dim=-1)
    linear = near[place // lags**2]
    shift = (linear[..., :2] @ shift.to(near)[..., None]) + linear[..., 2:]
    norm = energy(optical).sqrt().clamp_min(1e-6)
    return best / norm[:, None], torch.cat([linear[..., :2], shift], dim=-1)


@made_once
def grid_hypotheses(
    config: SearchConfig, any_rotation: bool, closer: bool, device: torch.device
) -> Tensor:
    """(1, turns times scales, 2, 3) similarities that the search tries."""
    turns, scales = config.grid(any_rotation=any_rotation, closer=closer)
    grid = similarities_about_centre(turns, scales, config.field_px)
    return grid.flatten(0, 1)[None].to(device)


@made_once
def neighbouring_maps(config: SearchConfig, device: torch.device) -> Tensor:
    """(N, 2, 3) small maps: half a step of rotation and of scale, and stretches."""
    turn = math.radians(config.turn_step_deg) / 2
    scale = math.log(2) / config.scales_per_octave / 2
    rotate, grow = torch.tensor([[0.0, -turn], [turn, 0.0]]), scale * torch.eye(2)
    stretch = config.stretch * torch.tensor([[1.0, 0.0], [0.0, -1.0]])
    slant = config.stretch * torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    steps = [a * rotate + b * grow for a in (-1, 0, 1) for b in (-1, 0, 1)]
    steps += [a * stretch + b * slant for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
    near = torch.linalg.matrix_exp(torch.stack(steps))
    return about_centre(near, config.field_px).to(device)


def edge_field(
    image: Tensor, sensor: Sensor, density_weight: float, config: SearchConfig
) -> tuple[Tensor, float]:
    """(B, 3, field_px, field_px) float32, and how many image pixels make one of its pixels.

    Two planes are the mean over a pixel's area of unit directions, doubled in angle; at nodata and
    where the image is flat they are close to 0. The third says how much stronger the edges are
    than around it, with `density_weight` times the others' root of energy.
    """
    seen, factor = shrink_to_square(image, config.seen_px)
    seen, inner = ground_of(seen, valid_mask(seen), sensor)
    pool = config.seen_px // config.field_px
    gradients = gradient(seen, DERIVATIVE_SIGMA_PX)
    angles = equalise((double_angles(*gradients),), inner)[0]
    directions = F.avg_pool2d(angles, pool)
    power = (gradients[0].square() + gradients[1].square()).mean(dim=1, keepdim=True)
    typical = energy(power.sqrt() * inner) / energy(inner).clamp_min(1)
    faint = config.faint * typical.clamp_min(1e-12)[:, None, None, None]
    covered = F.avg_pool2d(inner, pool)
    strength = F.avg_pool2d((power + faint).log() * inner, pool)
    kernel = gaussian_kernel(config.density_sigma_px, image.device)
    around, seen_around = filter_separable(
        torch.cat([strength, covered], dim=1), kernel, kernel
    ).split(1, dim=1)
    density = strength - covered * around / seen_around.clamp_min(1e-3)
    scale = (energy(directions) / energy(density).clamp_min(1e-12)).sqrt()
    density = density * (density_weight * scale[:, None, None, None])
    return torch.cat([directions, density], dim=1), factor * pool


def energy(field: Tensor) -> Tensor:
    """(B,) sum of the squares of (B, planes, S, S)."""
    return field.square().sum(dim=(1, 2, 3))


def shrink_to_square(image: Tensor, side_px: int) -> tuple[Tensor, float]:
    """Pad (B, bands, H, W) with nodata to a square, shrink it to `side_px`; and how many times."""
    height, width = image.shape[-2:]
    longest = max(height, width)
    image = F.pad(image, (0, longest - width, 0, longest - height), value=torch.nan)
    return shrink(image, side_px, side_px), longest / side_px


def similarities_about_centre(turns: Tensor, scales: Tensor, side_px: int) -> Tensor:
    """(turns, scales, 2, 3) similarities about the centre: sar (x, y) of a turned (x, y)."""
    turn, scale = torch.meshgrid(turns, scales, indexing="ij")
    cosine, sine = scale * turn.cos(), scale * turn.sin()
    return about_centre(
        torch.stack([cosine, -sine, sine, cosine], -1).unflatten(-1, (2, 2)), side_px
    )


def about_centre(linear: Tensor, side_px: int) -> Tensor:
    """(..., 2, 3) affines that leave the middle of an image where it is, of (..., 2, 2)."""
    centre = torch.full((2, 1), (side_px - 1) / 2, device=linear.device)
    return torch.cat([linear, centre - linear @ centre], dim=-1)


def warp_field(field: Tensor, affine: Tensor) -> Tensor:
    """Fields (B, 3, S, S) as seen through affines (B, 2, 3), directions turned with them."""
    seen = F.grid_sample(field, sampling_grid(affine, field.shape[-1]), align_corners=False)
    return turn_in_place(counter_rotation(affine), seen[:, None])[:, 0]


def counter_rotation(affine: Tensor) -> Tensor:
    """(...) unit complex numbers that turn doubled angles back by the rotation of (..., 2, 3)."""
    angle = torch.atan2(
        affine[..., 1, 0] - affine[..., 0, 1], affine[..., 0, 0] + affine[..., 1, 1]
    )
    return torch.polar(torch.ones_like(angle), -2 * angle)


def strongest_hypotheses(
    optical: Tensor, sar: Tensor, hypotheses: Tensor, config: SearchConfig
) -> Tensor:
    """(B, k, 2, 3) of (B, K, 2, 3), the best on fields (B, 3, F/2, F/2) of half the resolution."""
    small = rescale_affine(hypotheses, 0.5, 0.5)
    score = correlate_hypotheses(optical, sar, small, config).score
    chosen = score.topk(math.ceil(config.tried_whole * score.shape[1]), dim=1).indices
    return hypotheses.take_along_dim(chosen[..., None, None], dim=1)


def correlate_hypotheses(
    optical: Tensor, sar: Tensor, hypotheses: Tensor, config: SearchConfig
) -> Candidates:
    """Each of (B, K, 2, 3) hypotheses on fields (B, 3, F, F), at its best shift, in their order.

    The correlation is divided by the energies of the whole fields, not of their overlap: for
    unrelated fields its spread is then the same at every shift and under every hypothesis, so that
    the highest value is the least likely by chance.
    """
    batch, planes, side = optical.shape[:3]
    padded = math.ceil(config.padded * side)
    here = torch.fft.rfft2(optical, s=(padded, padded)).conj()[:, :, None].unbind(dim=1)
    scores, places = [], []
    at_once = max(1, CACHED_PX // (batch * side**2)) if is_on_cpu(sar) else AT_ONCE
    for some in hypotheses.split(at_once, dim=1):
        count = some.shape[1]
        seen = warp_field(sar.repeat_interleave(count, dim=0), some.flatten(0, 1))
        seen = seen.view(batch, count, planes, side, side)
        # Axis by axis, so that rows which are mere padding are not transformed.
        along_x = torch.fft.rfft(seen, n=padded)
        there = torch.fft.fft(along_x, n=padded, dim=-2).unbind(dim=2)
        product = there[0] * here[0]
        for plane, optical_plane in zip(there[1:], here[1:], strict=True):
            product.addcmul_(plane, optical_plane)
        correlation = torch.fft.irfft2(product, s=(padded, padded)).flatten(2)
        best, place = correlation.max(dim=2)
        scores.append(best / seen.flatten(2).norm(dim=2).clamp_min(1e-6))
        places.append(place)
    place = torch.cat(places, dim=1)
    shift = torch.stack([place % padded, place // padded], dim=-1)
    shift = torch.where(shift >= padded / 2, shift - padded, shift).to(sar)
    identity = torch.eye(2, device=sar.device).expand(*place.shape, 2, 2)
    turned_from_optical = torch.cat([identity, shift[..., None]], dim=-1)
    norm = energy(optical).sqrt().clamp_min(1e-6)
    return Candidates(
        compose_affine(hypotheses, turned_from_optical), torch.cat(scores, dim=1) / norm[:, None]
    )


def turn_in_place(turn: Tensor, field: Tensor) -> Tensor:
    """Fields (N, B, 3, S, S) that nobody else needs, turned by unit complex numbers (N,): their
    directions, that is."""
    cosine, sine = turn.real[:, None, None, None], turn.imag[:, None, None, None]
    across, down = field[:, :, 0], field[:, :, 1]
    turned = across * cosine - down * sine
    down.mul_(cosine).addcmul_(across, sine)
    across.copy_(turned)
    return field


def sampling_grid(affine: Tensor, side: int) -> Tensor:
    """(N, S, S, 2) where affines (N, 2, 3) take the pixels of a square, normalised."""
    line = torch.arange(side, device=affine.device, dtype=affine.dtype)[:, None]
    across = line * affine[:, None, :, 0] * (2 / side)
    down = normalised_from_pixel(line * affine[:, None, :, 1] + affine[:, None, :, 2], side, side)
    return across[:, None] + down[:, :, None]
