"""Ground drawn from a seed, and how an optical and a radar sensor see it: pairs with a known truth.

One piece of ground (terrain, fields, forest, river, town, roads) is drawn once and then seen twice:
by an S2-like optical sensor, and by an S1-like radar whose geocoding ignored the terrain, so that
relief displaces its image along range. Everything comes from one seed, so two machines draw the
same ground.

    draw_ground ─▶ Ground ─┬─▶ optical_image
                           └─▶ sar_image
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.intp]

PIXEL_M = 10.0
INCIDENCE_DEG = 39.0
AZIMUTH_OFFSET_PX = 0.8  # a timing error: constant, along the track
HILL_PX = 148.0  # as wide as real relief that a radar still maps without layover

WATER, FIELD, FOREST, STREET, BUILDING, ROAD, PARK = range(7)
# Red, green, blue (0..1) and VH backscatter (dB) of each cover: contrasts differ, borders agree.
COLOUR = np.array(
    [
        (0.07, 0.14, 0.19),
        (0.43, 0.41, 0.24),
        (0.09, 0.19, 0.09),
        (0.40, 0.39, 0.38),
        (0.66, 0.58, 0.53),
        (0.58, 0.55, 0.51),
        (0.20, 0.34, 0.14),
    ],
    dtype=np.float32,
)
BACKSCATTER_DB = np.array([-26.0, -18.0, -13.0, -19.0, -7.0, -22.0, -15.0], dtype=np.float32)
CROPS = np.array(  # red, green, blue, dB: what grows decides both, but not in the same order
    [
        (0.52, 0.47, 0.27, -20.0),
        (0.24, 0.42, 0.14, -16.0),
        (0.58, 0.50, 0.20, -14.5),
        (0.36, 0.27, 0.19, -21.0),
        (0.17, 0.31, 0.12, -18.0),
        (0.46, 0.40, 0.30, -15.5),
    ],
    dtype=np.float32,
)
# What each cover is called in the text bank; the crops, which differ in looks, are numbered on.
COVER_NAMES = (
    "open water",
    "cropland",
    "broadleaf forest",
    "asphalt and roads",
    "buildings",
    "asphalt and roads",
    "grassland",
    *["cropland"] * len(CROPS),
)


@dataclass(frozen=True)
class Ground:
    """The ground truth, each array (H, W) or (2, H, W), in ground pixels of 10 m."""

    cover: Labels
    crop: Labels  # index into CROPS, -1 where no field
    height_m: Floats
    displacement: Floats  # (dx, dy): SAR position minus optical position, px
    seed: int

    def cover_index(self) -> npt.NDArray[np.uint8]:
        """(H, W) index into COVER_NAMES; fields are told apart by their crop."""
        return np.where(self.crop >= 0, PARK + 1 + self.crop, self.cover).astype(np.uint8)


@dataclass(frozen=True)
class SyntheticPair:
    """An aligned pair, uint8: optical (3, S, S), sar (1, S, S); and the ground they show."""

    optical: npt.NDArray[np.uint8]
    sar: npt.NDArray[np.uint8]
    ground: Ground


def synthetic_pair(seed: int, side_px: int, looks: float = 4.0) -> SyntheticPair:
    """A pair that lines up: the same ground, without the radar's relief displacement."""
    ground = draw_ground(side_px, seed)
    aligned = replace(ground, displacement=np.zeros_like(ground.displacement))
    return SyntheticPair(optical_image(ground), sar_image(aligned, looks=looks), aligned)


def draw_ground(size_px: int, seed: int) -> Ground:
    """Terrain first; then what grows and stands on it; then how relief displaces the radar."""
    rng = np.random.default_rng(seed)
    height_m = _terrain(rng, size_px)
    parcel, crop = _parcels(rng, size_px)
    cover = np.full((size_px, size_px), FIELD, dtype=np.intp)
    cover[_smooth_noise(rng, size_px, 45.0) > 0.75] = FOREST
    _draw_towns(rng, cover)
    _draw_roads(rng, cover)
    cover[_river(rng, size_px)] = WATER
    cover[_smooth_noise(rng, size_px, 40.0) > 2.3] = WATER
    crop_of_pixel = np.where(cover == FIELD, crop[parcel], -1)
    return Ground(cover, crop_of_pixel, height_m, _relief_displacement(height_m), seed)


def optical_image(ground: Ground) -> npt.NDArray[np.uint8]:
    """What a nadir camera sees in the morning sun: (3, H, W) uint8, red, green, blue; 0 unused."""
    rng = np.random.default_rng((ground.seed, 1))
    colour = np.where((ground.crop >= 0)[..., None], CROPS[ground.crop, :3], COLOUR[ground.cover])
    image: Floats = np.moveaxis(colour, -1, 0).astype(np.float32)
    image *= 1.0 + 0.10 * _smooth_noise(rng, ground.cover.shape[0], 2.0)
    image *= _hillshade(ground.height_m)
    image = ndimage.gaussian_filter(image, (0, 0.6, 0.6))
    image += rng.normal(0.0, 0.008, image.shape).astype(np.float32)
    return np.asarray(np.clip(np.rint(image * 330.0), 1, 255), dtype=np.uint8)


def sar_image(
    ground: Ground, subpixel: tuple[float, float] = (0.0, 0.0), looks: float = 4.0
) -> npt.NDArray[np.uint8]:
    """What a terrain-ignorant radar sees: (1, H, W) uint8 stretch of VH with speckle.

    Pixel (x, y) of the result lies at ground position (x, y) + `subpixel`. 0 is nodata.
    """
    rng = np.random.default_rng((ground.seed, 2))
    decibel = np.where(ground.crop >= 0, CROPS[ground.crop, 3], BACKSCATTER_DB[ground.cover])
    decibel = decibel.astype(np.float32) + 0.8 * _smooth_noise(rng, ground.cover.shape[0], 3.0)
    # The radar looks west: slopes that fall to the east face it and return more.
    decibel -= 9.0 * np.clip(np.gradient(ground.height_m, axis=1) / PIXEL_M, -0.5, 0.5)
    intensity = ndimage.gaussian_filter(10.0 ** (decibel / 10.0), 0.6)
    seen = _as_the_radar_maps_it(intensity, ground.displacement, subpixel)
    speckled = seen * rng.gamma(looks, 1.0 / looks, seen.shape)
    stretched = (10.0 * np.log10(np.maximum(speckled, 1e-4)) + 30.0) / 28.0
    return np.asarray(np.clip(np.rint(stretched * 254.0) + 1.0, 1, 255)[None], np.uint8)


def _as_the_radar_maps_it(
    image: Floats, displacement: Floats, subpixel: tuple[float, float]
) -> Floats:
    """Move ground `image` to where the radar shows it: the inverse of p -> p + d(p)."""
    height, width = image.shape
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    target_x, target_y = columns + subpixel[0], rows + subpixel[1]
    x, y = target_x, target_y
    for _ in range(12):  # contraction: the displacement changes by far less than 1 px per px
        shift = [ndimage.map_coordinates(d, (y, x), order=1, mode="nearest") for d in displacement]
        x, y = target_x - shift[0], target_y - shift[1]
    moved: Floats = ndimage.map_coordinates(image, (y, x), order=1, mode="nearest")
    return moved


def _relief_displacement(height_m: Floats) -> Floats:
    """Height above one reference moves ground towards the radar, which is to the east; in px."""
    relief_m = height_m - np.quantile(height_m, 0.25)  # the reference height is not the mean
    dx = relief_m / np.tan(np.radians(INCIDENCE_DEG)) / PIXEL_M
    return np.stack([dx, np.full_like(dx, AZIMUTH_OFFSET_PX)]).astype(np.float32)


def _terrain(rng: np.random.Generator, size_px: int) -> Floats:
    """Rolling hills: metres above a plain, smooth at the scale of a radar's look."""
    hills = _smooth_noise(rng, size_px, HILL_PX)
    return np.asarray(34.0 * hills + 500.0, np.float32)


def _hillshade(height_m: Floats) -> Floats:
    """Relative brightness of each slope under a south-eastern sun; 1 is flat."""
    down, right = np.gradient(height_m, PIXEL_M)
    return np.asarray(np.clip(1.0 - 0.9 * right + 0.9 * down, 0.6, 1.4), np.float32)


def _parcels(rng: np.random.Generator, size_px: int, field_px: int = 26) -> tuple[Labels, Labels]:
    """Fields as Voronoi cells of a jittered, sheared lattice: (parcel (H, W), crop of a parcel)."""
    steps = np.arange(-2, size_px // field_px + 3) * field_px
    seeds = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2).astype(float)
    seeds[:, 1] += 0.35 * seeds[:, 0] % field_px
    seeds += rng.uniform(-0.35, 0.35, seeds.shape) * field_px
    rows, columns = np.meshgrid(np.arange(size_px), np.arange(size_px), indexing="ij")
    _, parcel = cKDTree(seeds).query(np.stack([rows, columns], -1))
    return parcel, rng.integers(len(CROPS), size=len(seeds))


def _draw_towns(rng: np.random.Generator, cover: Labels) -> None:
    """Street grids of two orientations, with blocks of buildings and the odd park."""
    size_px = cover.shape[0]
    rows, columns = np.meshgrid(np.arange(size_px), np.arange(size_px), indexing="ij")
    built_up = _smooth_noise(rng, size_px, 70.0)
    for angle_deg, threshold, sign in ((12.0, 1.15, 1.0), (52.0, 1.25, -1.0)):
        town = sign * built_up > threshold
        along = columns * np.cos(np.radians(angle_deg)) + rows * np.sin(np.radians(angle_deg))
        across = rows * np.cos(np.radians(angle_deg)) - columns * np.sin(np.radians(angle_deg))
        street = (along % 17.0 < 3.0) | (across % 13.0 < 3.0)
        block = (along // 17.0).astype(int) * 7919 + (across // 13.0).astype(int)
        green = rng.random(4096)[block % 4096] < 0.3
        cover[town] = np.where(street, STREET, np.where(green, PARK, BUILDING))[town]


def _draw_roads(rng: np.random.Generator, cover: Labels, roads: int = 9) -> None:
    """Country roads: long, gently bent lines of two to three pixels."""
    size_px = cover.shape[0]
    along = np.linspace(-0.1, 1.1, 3 * size_px)
    for _ in range(roads):
        angle, offset = rng.uniform(0.0, np.pi), rng.uniform(0.15, 0.85)
        bend = 0.04 * np.sin(2.0 * np.pi * (along * rng.uniform(0.5, 1.5) + rng.random()))
        x = 0.5 + np.cos(angle) * (along - 0.5) * 1.6 - np.sin(angle) * (offset - 0.5 + bend)
        y = 0.5 + np.sin(angle) * (along - 0.5) * 1.6 + np.cos(angle) * (offset - 0.5 + bend)
        row, column = np.rint(y * size_px).astype(int), np.rint(x * size_px).astype(int)
        inside = (row >= 1) & (row < size_px) & (column >= 1) & (column < size_px)
        for dr, dc in ((0, 0), (-1, 0), (0, -1)):
            cover[row[inside] + dr, column[inside] + dc] = ROAD


def _river(rng: np.random.Generator, size_px: int) -> npt.NDArray[np.bool_]:
    """A meandering river of varying width, from north to south."""
    rows = np.arange(size_px) / size_px
    phase = rng.random(3)
    course = 0.42 + 0.10 * np.sin(2 * np.pi * (1.1 * rows + phase[0]))
    course += 0.035 * np.sin(2 * np.pi * (3.7 * rows + phase[1]))
    width_px = 9.0 + 4.0 * np.sin(2 * np.pi * (2.3 * rows + phase[2]))
    distance = np.abs(np.arange(size_px)[None, :] - course[:, None] * size_px)
    return np.asarray(distance < width_px[:, None], dtype=np.bool_)


def _smooth_noise(rng: np.random.Generator, size_px: int, feature_px: float) -> Floats:
    """Gaussian noise of unit variance, smooth over about `feature_px`: (size_px, size_px)."""
    frequency = np.hypot(np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :])
    spectrum = np.fft.rfft2(rng.standard_normal((size_px, size_px)))
    noise = np.fft.irfft2(
        spectrum * np.exp(-2.0 * (np.pi * feature_px * frequency) ** 2), s=(size_px, size_px)
    )
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)
