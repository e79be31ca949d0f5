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

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.config import RivalConfig
from tar_engine.constants import made_once


def find_rivals(optical: Tensor, sar: Tensor, config: RivalConfig) -> tuple[Tensor, Tensor]:
    """How far off SAR fits as well as where it is; and how sharply it fits there.

    Args:
        optical, sar: (B, C, H, W) float32 features of aligned images, 0 for nodata; H and W in
            whole cells.

    Returns:
        (B,) distance of the nearest rival, to a cell, pixels; NaN where there is none. In a lattice
        that is its period. And (B,) correlation with each frequency alike, in [-1, 1].
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

    distance_px = lag_distances(size, optical.device) * config.cell_px
    is_here, is_far = distance_px < 1.5 * config.cell_px, distance_px > config.near_px
    enough = shared >= config.least_overlap * shared[:, :1, :1]
    plain = plain.masked_fill(~enough, -1.0)
    needed = (config.plain_share * largest(plain, is_here)).clamp_min(config.least_correlation)
    is_peak = plain == F.max_pool2d(plain, 3, stride=1, padding=1)
    is_rival = is_peak & is_far & (plain >= needed)
    is_inner = inner_lags(size, optical.device)
    sharpness = largest(sharp, is_here)
    stands_out = largest(sharp, is_far & is_inner) < config.sharp_share * sharpness
    decided = stands_out & (sharpness >= config.least_sharpness)
    nearest = distance_px.masked_fill(~is_rival | decided, torch.inf).amin(dim=(1, 2))
    return nearest.masked_fill(nearest.isinf(), torch.nan), sharpness[:, 0, 0]


def largest(surface: Tensor, there: Tensor) -> Tensor:
    """(B, 1, 1) largest value of (B, h, w) where (h, w) bool is true."""
    return surface.masked_fill(~there, -1.0).amax(dim=(1, 2), keepdim=True)


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


@made_once
def lag_distances(size: tuple[int, int], device: torch.device) -> Tensor:
    """(h, w) length of the shift that each place of a correlation stands for, cells."""
    down, across = (torch.fft.fftfreq(side) * side for side in size)
    distance: Tensor = torch.hypot(down[:, None], across)
    return distance.to(device)


@made_once
def inner_lags(size: tuple[int, int], device: torch.device) -> Tensor:
    """(h, w) bool: shifts by at most half of the image, each way; `size` is twice the image's."""
    down, across = (torch.fft.fftfreq(side).abs() <= 0.25 for side in size)
    inner: Tensor = down[:, None] & across
    return inner.to(device)
