"""Whether SAR would fit as well elsewhere: ground that repeats itself deceives windows together.

    features as the answer aligns them ── correlated as a whole, at all shifts, by FFT
        ├── as they are: is some other shift as good?
        └── each frequency alike: does what repeats not decide between them?

Streets of a mile, pivots in rows and chequered fields look the same a period away, wherever they
are. What a lattice shows stands in few frequencies; what one place alone shows, in all of them
(phase correlation: Kuglin and Hines 1975). Ground apart from lattices has no rival in the first
sense; one place under a lattice is still seen in the second.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.config import RivalConfig
from tar_engine.constants import made_once


class WholeFit(NamedTuple):
    """How SAR as a whole fits where it is, and elsewhere; (B,) float32 each.

    rival_px: distance of the nearest rival, to a cell, pixels; NaN where there is none. In a
    lattice that is its period. sharpness: correlation with each frequency alike, in [-1, 1].
    prominence: how many times its spread over all shifts the correlation is, as it is or with each
    frequency alike, whichever is less. Of unrelated images 8 is usual, though they were bent to
    fit; lattices, which fit at many shifts, have little too.
    """

    rival_px: Tensor
    sharpness: Tensor
    prominence: Tensor


def fit_whole(optical: Tensor, sar: Tensor, config: RivalConfig) -> WholeFit:
    """Correlate the pair as a whole, as it is aligned and under all shifts.

    Args:
        optical, sar: (B, C, H, W) float32 features of aligned images, 0 for nodata; H and W in
            whole cells.
    """
    height, width = optical.shape[-2:]
    size = 2 * height // config.cell_px, 2 * width // config.cell_px
    of_here, of_energy_here, of_seen_here = spectra_of(optical, size, config)
    of_there, of_energy_there, of_seen_there = spectra_of(sar, size, config)
    crossed = (of_here.conj() * of_there).sum(dim=1)
    typical = (energy(of_here) * energy(of_there)).sqrt()[:, 0]
    floor = config.faint * typical.mean(dim=(1, 2), keepdim=True).clamp_min(1e-6)
    levelled = crossed / torch.maximum(typical, floor) * blur_spectrum(size, config, optical.device)
    overlaps = torch.cat(
        [
            of_energy_here.conj() * of_seen_there,
            of_seen_here.conj() * of_energy_there,
            of_seen_here.conj() * of_seen_there,
        ],
        dim=1,
    )
    surfaces = torch.cat([crossed[:, None], levelled[:, None], overlaps], dim=1)
    product, sharp, energy_here, energy_there, shared = torch.fft.irfft2(surfaces, s=size).unbind(1)
    plain = product / (energy_here.clamp_min(1e-3) * energy_there.clamp_min(1e-3)).sqrt()

    lags = lags_of(size, config, optical.device)
    enough = shared >= config.least_overlap * shared[:, :1, :1]
    plain = plain.masked_fill(~enough, -1.0)
    needed = (config.plain_share * largest(plain, lags.here)).clamp_min(config.least_correlation)
    is_peak = plain == F.max_pool2d(plain, 3, stride=1, padding=1)
    is_rival = is_peak & lags.far & (plain >= needed)
    both = torch.stack([product, sharp], dim=1)
    peak = largest(both, lags.here)
    # The mean by chance is as good as 0.
    spread = (both.square() * lags.chance).mean(dim=(2, 3)).sqrt() / lags.chance_share**0.5
    sharpness = peak[:, 1]
    stands_out = largest(sharp, lags.chance) < config.sharp_share * sharpness
    decided = stands_out & (sharpness >= config.least_sharpness)
    nearest = lags.distance_px.masked_fill(~is_rival | decided, torch.inf).amin(dim=(1, 2))
    return WholeFit(
        rival_px=nearest.masked_fill(nearest.isinf(), torch.nan),
        sharpness=sharpness[:, 0, 0],
        prominence=(peak[..., 0, 0] / spread.clamp_min(1e-9)).amin(dim=1),
    )


def largest(surface: Tensor, there: Tensor) -> Tensor:
    """(..., 1, 1) largest value of (..., h, w) where (h, w) bool is true."""
    return surface.masked_fill(~there, -torch.inf).amax(dim=(-2, -1), keepdim=True)


def spectra_of(
    features: Tensor, size: tuple[int, int], config: RivalConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Of features averaged over cells: their spectra, of their energy, and of where there are any.

    (B, C, h, w), (B, 1, h, w) twice: half spectra, padded to `size`.
    """
    features = F.avg_pool2d(features, config.cell_px)
    strength = energy(features)
    planes = torch.cat([features, strength, (strength > 0).to(features.dtype)], dim=1)
    features, strength, seen = torch.fft.rfft2(planes, s=size).split([features.shape[1], 1, 1], 1)
    return features, strength, seen


def energy(planes: Tensor) -> Tensor:
    """(B, 1, h, w) squared length of real or complex (B, C, h, w)."""
    squared: Tensor = (planes * planes.conj()).real
    return squared.sum(dim=1, keepdim=True)


@made_once
def blur_spectrum(size: tuple[int, int], config: RivalConfig, device: torch.device) -> Tensor:
    """Half spectrum of a Gaussian of `blur_cells` that is 1 in the middle, for such surfaces."""
    down, across = torch.fft.fftfreq(size[0]), torch.fft.rfftfreq(size[1])
    squared = down[:, None].square() + across.square()
    gaussian = torch.exp(-2 * (math.pi * config.blur_cells) ** 2 * squared)
    spectrum: Tensor = gaussian / torch.fft.irfft2(gaussian + 0j, s=size)[0, 0]
    return spectrum.to(device)


class Lags(NamedTuple):
    """The shifts that the places of a correlation stand for, (h, w) each.

    distance_px: their lengths. here: bool, the answer's own; far: those that a rival could have;
    chance: of them by at most half of the image each way, a share of all of `chance_share`.
    """

    distance_px: Tensor
    here: Tensor
    far: Tensor
    chance: Tensor
    chance_share: float


@made_once
def lags_of(size: tuple[int, int], config: RivalConfig, device: torch.device) -> Lags:
    """Of a correlation of `size` cells, twice the image's."""
    down, across = (torch.fft.fftfreq(side) * side for side in size)
    distance_px = torch.hypot(down[:, None], across) * config.cell_px
    far = distance_px > config.near_px
    inner = (down[:, None].abs() <= size[0] / 4) & (across.abs() <= size[1] / 4)
    chance = far & inner
    share = float(chance.float().mean())
    here = distance_px < 1.5 * config.cell_px
    return Lags(distance_px.to(device), here.to(device), far.to(device), chance.to(device), share)
