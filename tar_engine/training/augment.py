"""Random appearance for training pairs: what differs between sensors, seasons and archives.

Non-monotonic contrast after XoFTR (arXiv 2404.09692), multiplicative gamma speckle, permuted and
inverted bands, clouds. Everything is drawn from a seeded generator, on the
generator's device.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

CLOUDY_SHARE = 0.4


def optical_appearance(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Bands mixed and inverted, contrast bent, some under cloud; image in [0, 1].

    Returns:
        (B, bands, S, S) the image, and (B, S, S) bool: what lies under cloud.
    """
    batch, bands = image.shape[:2]
    order = torch.rand(batch, bands, generator=generator, device=image.device).argsort(dim=1)
    image = image.gather(1, order[..., None, None].expand_as(image))
    keep = torch.rand(batch, bands, 1, 1, generator=generator, device=image.device) < 0.75
    keep[:, 0] = True
    image = torch.where(keep, image, image[:, :1])
    inverted = choose(batch, 0.15, generator)
    image = torch.where(inverted, 1 - image, image)
    image = image.clamp(0, 1) ** _uniform(batch, 0.5, 2.0, generator)
    bent = 0.5 + 0.5 * torch.cos(
        image * _uniform(batch, 0.7, 1.4, generator) * math.pi * 1.5
        + _uniform(batch, 0.0, 2 * math.pi, generator)
    )
    image = torch.where(choose(batch, 0.25, generator), bent, image)
    cloud, opacity = draw_clouds(batch, image.shape[-1], generator)
    covered = torch.where(choose(batch, CLOUDY_SHARE, generator), opacity, 0.0)
    image = image * (1 - covered) + cloud * covered
    noise = torch.randn(image.shape, generator=generator, device=image.device)
    return image + 0.02 * noise, covered[:, 0] > 0.5


def sar_appearance(image: Tensor, generator: torch.Generator) -> Tensor:
    """Speckle of 1 to 16 looks and gamma; image in [0, 1], roughly decibels."""
    batch = image.shape[0]
    looks = 2 ** _uniform(batch, 0.0, 4.0, generator)
    # A gamma(L) sample by Wilson and Hilferty's cube of a normal, which a seeded CPU
    # generator can draw in one call for every L.
    normal = torch.randn(image.shape, generator=generator, device=image.device)
    gain = (1 - 1 / (9 * looks) + normal / (3 * looks.sqrt())).clamp_min(0.02) ** 3
    speckled = image + 0.12 * gain.log()
    image = torch.where(choose(batch, 0.6, generator), speckled, image)
    return image.clamp(0, 1.3) ** _uniform(batch, 0.6, 1.7, generator)


def paint_labels(cover: Tensor, bands: int, generator: torch.Generator) -> Tensor:
    """(B, H, W) label maps in random intensities per label: (B, bands, H, W) float32 in [0, 1].

    Whatever contrast two sensors could have, borders between labels stay where they are
    (SynthMorph, Hoffmann et al. 2022).
    """
    batch, height, width = cover.shape
    palette = torch.rand(batch, bands, 256, generator=generator, device=cover.device)
    index = cover.long().flatten(1)[:, None].expand(-1, bands, -1)
    flat = palette.gather(2, index).view(batch, bands, height, width)
    texture = torch.randn(batch, 1, height, width, generator=generator, device=cover.device)
    texture = F.avg_pool2d(texture, 3, stride=1, padding=1)
    return (flat + texture * _uniform(batch, 0.0, 0.15, generator)).clamp(0, 1)


def apply_symmetry(images: Tensor, turn: Tensor) -> Tensor:
    """One of the square's eight symmetries (B, 1, 1, 1) for each of (B, C, S, S) images."""
    images = torch.where(turn % 2 == 1, images.flip(2), images)
    images = torch.where(turn // 2 % 2 == 1, images.flip(3), images)
    return torch.where(turn // 4 == 1, images.transpose(2, 3), images)


def draw_clouds(batch: int, side_px: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Brightness and opacity, both (B, 1, S, S), of random blobs over 10 to 80 %."""
    shape = _octaves(batch, side_px, (3, 6, 12, 24), generator)
    opacity = _cover(shape, _uniform(batch, 0.2, 0.9, generator), 8.0, 60.0, generator)
    texture = _octaves(batch, side_px, (6, 12, 24), generator)
    brightness = _uniform(batch, 0.75, 1.0, generator)
    return brightness + texture * _uniform(batch, 0.0, 0.08, generator), opacity


def draw_plain(batch: int, side_px: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Ground that shows the two sensors nothing they share, and how much it covers.

    Returns:
        (B, 2, S, S) the brightness of both, and (B, 1, S, S) opacity: 50 to 95 % of the image.
    """
    shape = _octaves(batch, side_px, (6, 12, 24), generator)
    opacity = _cover(shape, _uniform(batch, 0.05, 0.5, generator), 4.0, 40.0, generator)
    seen = [
        _uniform(batch, 0.1, 0.95, generator)
        + _octaves(batch, side_px, (24, 48), generator) * _uniform(batch, 0.0, 0.15, generator)
        + _noise(batch, side_px, generator) * _uniform(batch, 0.0, most_grain, generator)
        for most_grain in (0.02, 0.1)
    ]
    return torch.cat(seen, dim=1).clamp(0, 1), opacity


def draw_lines(batch: int, side_px: int, generator: torch.Generator) -> Tensor:
    """(B, 1, S, S) bool: lines across the image and down it, as a graticule's are."""
    place = torch.arange(side_px, device=generator.device)
    along = []
    for shape in ((1, 1, 1, -1), (1, 1, -1, 1)):
        period, start = (_uniform(batch, 24.0, 96.0, generator) for _ in "ab")
        along.append((place.view(shape) + start) % period < _uniform(batch, 1.0, 4.0, generator))
    return along[0] | along[1]


def draw_terrain(batch: int, side_px: int, highest_px: float, generator: torch.Generator) -> Tensor:
    """(B, 2, S, S) smooth displacement along x, the range direction, below `highest_px`."""
    relief = _octaves(batch, side_px, (4, 7), generator)
    relief = relief / relief.abs().amax(dim=(2, 3), keepdim=True)
    relief = relief * _uniform(batch, 0.0, highest_px, generator)
    return torch.cat([relief, torch.zeros_like(relief)], dim=1)


def _octaves(
    batch: int, side_px: int, octaves: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """(B, 1, S, S) noise, each octave weaker as it is finer."""
    noise = torch.zeros(batch, 1, side_px, side_px, device=generator.device)
    for cells in octaves:
        octave = torch.randn(batch, 1, cells, cells, generator=generator, device=generator.device)
        noise += F.interpolate(octave, size=(side_px, side_px), mode="bicubic") * (3 / cells)
    return noise


def _cover(
    shape: Tensor, clear: Tensor, softest: float, sharpest: float, generator: torch.Generator
) -> Tensor:
    """Opacity of the highest parts of (B, 1, S, S), all but a share `clear` (B, 1, 1, 1)."""
    batch, side = shape.shape[0], shape.shape[-1]
    place = (clear.flatten(1) * (side**2 - 1)).long()
    level = shape.flatten(1).sort(dim=1).values.gather(1, place)[..., None, None]
    return torch.sigmoid((shape - level) * _uniform(batch, softest, sharpest, generator))


def _noise(batch: int, side_px: int, generator: torch.Generator) -> Tensor:
    return torch.randn(batch, 1, side_px, side_px, generator=generator, device=generator.device)


def _uniform(batch: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    draw = torch.rand(batch, 1, 1, 1, generator=generator, device=generator.device)
    return low + (high - low) * draw


def choose(batch: int, probability: float, generator: torch.Generator) -> Tensor:
    """(B, 1, 1, 1) bool: some of a batch."""
    draw = torch.rand(batch, 1, 1, 1, generator=generator, device=generator.device)
    return draw < probability
