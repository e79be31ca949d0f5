"""Whether a scene is what its item says: data where it should be, numbers that can be reflectance.

Looks at a thin sample of every asset, so it costs a few small requests. What it finds is a reason
not to use the scene, a warning, or where the scene has data, if that is not where its item says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow
from shapely.geometry.base import BaseGeometry

from catalog.archives.items import Asset, Scene
from catalog.archives.providers import MSI_BANDS
from catalog.grid import LONLAT
from catalog.longitudes import facing, in_one_piece, longitudes_facing
from catalog.pixels.rasters import has_undeclared_padding, read_asset
from catalog.sentinel1.gcps import gcp_grid_of, has_only_gcps, lonlat_of, outline_of

PixelMapping = Callable[[NDArray[np.float64]], NDArray[np.float64]]
SAMPLE_PX = 128  # longest side of a sample that overviews serve
POINTS = 5  # along a side, of a large raster without overviews: every point costs a block
SMALL_PX = 2048  # along a side; up to here no overviews are needed
LEAST_SAMPLES = 16  # fewer prove nothing

# Of a footprint may be empty, by its author's rounding. More is a promise of ground that is not
# there, as by items that tell the square of their tile; from half of it on it is told.
MOST_EMPTY_SHARE = 0.1
LEAST_TOLD_SHARE = 0.5
# Of its data a footprint may leave out. Edges that are straight in longitude and latitude are not
# straight in the raster: at 80 degrees north, four corners leave out 2 %.
MOST_LEFT_OUT_SHARE = 0.002
# Over dark water and in deep shadow, atmospheric correction goes some hundredths below nothing. An
# offset subtracted twice takes a tenth from all: vegetation, dark in visible light, goes lower.
LOWEST_REFLECTANCE = -0.03
MOST_BELOW = 0.1  # share of pixels
LOWEST_MEDIAN = -0.02
# Where bright ground hides that, the dark end of all numbers tells it, or of the ground that its
# scene classes call dark: dark areas, shadows, vegetation and water. An offset that was not
# subtracted adds a tenth to all: the dark end of every band is that, and no vegetation is dark.
# Beside borders and bright edges the overviews of JPEG 2000 swing, and are darker still.
DARK_CLASSES, VISIBLE = (2, 3, 4, 6), ("blue", "green", "red")
DARK_END, DARK_END_OF_CLASSES = 0.05, 0.1  # share of the pixels that are darker
LOWEST_DARK_END, LOWEST_DARK_END_OF_CLASSES = -0.05, -0.03
OFFSET_DARK_END = (0.09, 0.13)
FEWEST_BANDS = 3  # of which all have to say so
# Footprints are rounded, and boxes around tilted rasters are larger than these.
LEAST_SHARED = 0.7


@dataclass(frozen=True)
class Examination:
    """What was found: a reason to exclude the scene, warnings, and where it really lies."""

    excluded: str | None = None
    warnings: tuple[str, ...] = ()
    footprint: BaseGeometry | None = None
    """The outline of its data, where its item's is another; longitude and latitude."""


@dataclass(frozen=True)
class _Sample:
    """Some pixels of an asset, and where its raster lies."""

    asset: Asset
    values: NDArray[np.float32]
    """(bands, N), physical, NaN where there is no data."""
    zero: NDArray[np.bool_]
    """(N,): where all bands store zero."""
    lonlat: NDArray[np.float64]
    """(2, N), degrees."""
    outline: BaseGeometry
    """Of the raster, longitude and latitude."""
    seen: BaseGeometry
    """The outline of its data, longitude and latitude, too large by a sample at most."""
    undeclared: bool
    """Whether it holds zeros that count as no data though nothing says so."""
    corner: tuple[float, float]
    """(x, y) where the raster begins, in its CRS."""
    pixel: float
    """Side of a pixel, in units of that CRS."""

    @property
    def data(self) -> NDArray[np.bool_]:
        """(N,): which samples hold anything."""
        return np.isfinite(self.values).any(axis=0) & ~self.zero


def examine(scene: Scene) -> Examination:
    """Sample every asset and compare it with the item. Raises SceneReadError."""
    samples = [
        read_asset(scene, asset, partial(_take_sample, scene=scene, asset=asset))
        for asset in scene.assets
    ]
    faults = (_empty_fault(sample) or _offset_fault(sample) for sample in samples)
    excluded = next(filter(None, faults), None)
    if excluded:
        return Examination(excluded)
    footprint, contradiction = _believed_footprint(scene, samples)
    moved = next(filter(None, map(_origin_contradiction, samples)), None)
    warnings = (
        contradiction,
        moved,
        _undeclared_padding(samples),
        _odd_dark_end(samples, _dark_ground(scene)),
    )
    return Examination(None, tuple(filter(None, warnings)), footprint)


def _empty_fault(sample: _Sample) -> str | None:
    if sample.data.any():
        return None
    return f"every pixel looked at in its asset {sample.asset.key} is zero or no data"


def _believed_footprint(
    scene: Scene, samples: Sequence[_Sample]
) -> tuple[BaseGeometry | None, str | None]:
    """Where a scene has data, if its item says otherwise, and what to tell of that."""
    # Dark water is zero in single bands.
    fullest = max(samples, key=lambda sample: sample.data.mean())
    contradictions = (_footprint_contradiction(scene, sample) for sample in samples)
    if why := next(filter(None, contradictions), None):
        return fullest.seen, why
    inside = _inside(fullest, scene.footprint)
    empty = 1 - fullest.data[inside].mean() if inside.sum() >= LEAST_SAMPLES else 0.0
    if empty > MOST_EMPTY_SHARE:
        told = (
            f"{empty:.0%} of its item's geometry is zero or no data in its asset "
            f"{fullest.asset.key}; it is used where it has data"
        )
        return scene.footprint & fullest.seen, told if empty > LEAST_TOLD_SHARE else None
    left_out = 1 - inside[fullest.data].mean()
    return (fullest.seen if left_out > MOST_LEFT_OUT_SHARE else None), None


def _offset_fault(sample: _Sample) -> str | None:
    """Reflectances so far below zero that an offset must have been subtracted twice."""
    if sample.asset.offset >= 0:
        return None
    for band, values in zip(sample.asset.bands, sample.values, strict=True):
        known = values[sample.data]
        if band not in MSI_BANDS or known.size < LEAST_SAMPLES:
            continue
        below, median = float((known < LOWEST_REFLECTANCE).mean()), float(np.median(known))
        if below > MOST_BELOW or median < LOWEST_MEDIAN:
            return (
                f"{below:.0%} of its reflectances in {band} lie below {LOWEST_REFLECTANCE:g} "
                f"(median {median:.3f}): its numbers have no offset left to subtract, whatever "
                "its item says"
            )
    return None


def _dark_ground(scene: Scene) -> NDArray[np.bool_] | None:
    """(N,): which samples show ground that is dark in visible light; None where nothing tells."""
    if scene.mask is None or scene.mask.kind != "scene classes":
        return None
    asset = scene.mask.asset
    classes = read_asset(scene, asset, partial(_take_sample, scene=scene, asset=asset)).values[0]
    return np.isin(classes, DARK_CLASSES)


def _odd_dark_end(samples: Sequence[_Sample], dark: NDArray[np.bool_] | None) -> str | None:
    """Reflectances whose darkest look as if an offset was subtracted twice, or not at all."""
    scaled = [sample for sample in samples if sample.asset.scale < 1]
    subtracts = any(sample.asset.offset < 0 for sample in scaled)
    everywhere = _dark_ends(scaled, DARK_END)
    in_classes = {} if dark is None else _dark_ends(scaled, DARK_END_OF_CLASSES, dark)
    in_classes = {band: end for band, end in in_classes.items() if band in VISIBLE}
    low, high = OFFSET_DARK_END
    twice = {band: end for band, end in everywhere.items() if end < LOWEST_DARK_END}
    twice |= {band: end for band, end in in_classes.items() if end < LOWEST_DARK_END_OF_CLASSES}
    if subtracts and twice:
        band, end = min(twice.items(), key=lambda each: each[1])
        return (
            f"the darkest of its reflectances in {band} are {end:.2f}: the offset that is "
            "subtracted may be subtracted already"
        )
    if subtracts or min(len(everywhere), len(in_classes) or FEWEST_BANDS) < FEWEST_BANDS:
        return None
    if (
        all(end > low for end in in_classes.values())
        if in_classes
        else all(low < end < high for end in everywhere.values())
    ):
        return (
            f"its reflectances are {min(everywhere.values()):.2f} and more in every band, as if an "
            "offset was not subtracted that nothing declares"
        )
    return None


def _dark_ends(
    samples: Sequence[_Sample], share: float, among: NDArray[np.bool_] | None = None
) -> dict[str, float]:
    """By band of Sentinel-2, the reflectance that a share of the pixels is darker than."""
    ends = {}
    for sample in samples:
        if among is not None and among.shape != sample.data.shape:
            continue  # sampled elsewhere
        chosen = sample.data if among is None else sample.data & among
        if chosen.sum() >= LEAST_SAMPLES:
            for band, values in zip(sample.asset.bands, sample.values, strict=True):
                if band in MSI_BANDS:
                    ends[band] = float(np.quantile(values[chosen], share))
    return ends


def _footprint_contradiction(scene: Scene, sample: _Sample) -> str | None:
    """An item's geometry that its raster contradicts."""
    if scene.footprint.area <= 0:
        return None
    on_raster = scene.footprint.intersection(sample.outline).area / scene.footprint.area
    if on_raster < LEAST_SHARED:
        return (
            f"its item's geometry lies to {on_raster:.0%} on its raster {sample.asset.key}; the "
            "raster is believed"
        )
    data = sample.data
    if data.sum() < LEAST_SAMPLES:
        return None
    inside = _inside(sample, scene.footprint)[data].mean()
    if inside < LEAST_SHARED:
        return (
            f"its item's geometry holds {inside:.0%} of the data of its raster "
            f"{sample.asset.key}; the raster is believed"
        )
    return None


def _undeclared_padding(samples: Sequence[_Sample]) -> str | None:
    """Zeros that are taken for no data by what the numbers are."""
    padded = [sample.asset.key for sample in samples if sample.undeclared]
    if not padded:
        return None
    return (
        f"neither its item nor its files say what stands for no data in {', '.join(padded)}; "
        "zeros count as that"
    )


def _origin_contradiction(sample: _Sample) -> str | None:
    """A `proj:transform` that is not the file's."""
    declared = sample.asset.transform
    if declared is None or len(declared) < 6:
        return None
    x, y = declared[2], declared[5]
    apart = np.hypot(x - sample.corner[0], y - sample.corner[1])
    if apart <= sample.pixel:
        return None
    return (
        f"its item says that {sample.asset.key} begins at {x:.10g}, {y:.10g}, its file "
        f"at {sample.corner[0]:.10g}, {sample.corner[1]:.10g}; the file is believed"
    )


def _inside(sample: _Sample, footprint: BaseGeometry) -> NDArray[np.bool_]:
    """(N,): which samples lie in a footprint."""
    return np.asarray(shapely.contains_xy(footprint, *sample.lonlat), np.bool_)


def _take_sample(source: DatasetReader, scene: Scene, asset: Asset) -> _Sample:
    indexes = list(range(1, len(asset.bands) + 1))
    height, width = source.shape
    if source.overviews(1) or max(height, width) <= SMALL_PX:
        factor = max(1, -(-max(height, width) // SAMPLE_PX))
        shape = -(-height // factor), -(-width // factor)
        whole = RasterWindow(0, 0, width, height)
        stored, mask = _read(source, indexes, whole, shape)
    else:
        shape = POINTS, POINTS
        points = [
            _read(source, indexes, RasterWindow(int(x), int(y), 1, 1), (1, 1))
            for y in _middles(height, POINTS)
            for x in _middles(width, POINTS)
        ]
        stored = np.concatenate([values for values, _ in points], axis=1)
        mask = np.concatenate([known for _, known in points])
    if asset.nodata is not None:
        mask = ~((stored == np.float32(asset.nodata)) | np.isnan(stored)).all(axis=0)
    values = stored * np.float32(asset.scale) + np.float32(asset.offset)
    values[:, ~mask] = np.nan
    columns, rows = np.meshgrid(_middles(width, shape[1]), _middles(height, shape[0]))
    pixels = np.stack([columns.ravel(), rows.ravel()])
    zero = (stored == 0).all(axis=0)
    data = np.isfinite(values).any(axis=0) & ~zero
    seen = _hull(pixels[:, data], (height, width), shape)
    middle = 0.0 if scene.footprint.is_empty else scene.footprint.centroid.x
    transform = source.transform
    lonlat: PixelMapping
    if has_only_gcps(source):
        grid = gcp_grid_of(source)
        # Whatever transform its item tells is made up: the file has none.
        asset = replace(asset, transform=None)
        lonlat = partial(lonlat_of, grid)
        outline, corner, pixel = outline_of(grid), (0.0, 0.0), 0.0
    else:
        lonlat = _lonlat_mapping(source)
        outline = _on_earth(shapely.box(0, 0, width, height), lonlat)
        corner, pixel = (transform.c, transform.f), abs(transform.a)
    longitudes, latitudes = lonlat(pixels)
    return _Sample(
        asset,
        values,
        zero,
        np.stack([longitudes_facing(longitudes, middle), latitudes]),
        facing(outline, middle),
        facing(_on_earth(seen, lonlat), middle),
        bool(zero.any()) and not has_only_gcps(source) and has_undeclared_padding(source, asset),
        corner,
        pixel,
    )


def _hull(
    pixels: NDArray[np.float64], size: tuple[int, int], samples: tuple[int, int]
) -> BaseGeometry:
    """What lies between sampled pixels (2, N) of a raster, and a sample's width around it."""
    height, width = size
    across, down = width / samples[1], height / samples[0]
    reach = 1.5 * np.array([[across], [down]])
    corners = [pixels + reach * np.array([[x], [y]]) for x in (-1, 1) for y in (-1, 1)]
    # Of a line through the points: a geometry of its own for each of them costs ten times as much.
    hull = shapely.convex_hull(shapely.linestrings(np.concatenate(corners, axis=1).T))
    return hull & shapely.box(0, 0, width, height)


def _lonlat_mapping(source: DatasetReader) -> PixelMapping:
    """From pixel positions to longitude and latitude, both (2, N), corners at integers."""
    crs = pyproj.CRS.from_wkt(source.crs.to_wkt())
    to_lonlat = pyproj.Transformer.from_crs(crs, LONLAT, always_xy=True)
    transform = source.transform

    def lonlat_of(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack(to_lonlat.transform(*(transform @ (pixels[0], pixels[1]))))

    return lonlat_of


def _on_earth(outline: BaseGeometry, lonlat: PixelMapping) -> BaseGeometry:
    """A polygon without holes in pixels, from their corners, in longitude and latitude."""
    if outline.is_empty:
        return outline
    left, top, right, bottom = outline.bounds
    dense = shapely.segmentize(outline, max(right - left, bottom - top) / 16)
    ring = shapely.get_coordinates(dense)[:-1]  # splines give one point twice with other ulps
    return in_one_piece(shapely.Polygon(lonlat(ring.T).T))


def _read(
    source: DatasetReader, indexes: list[int], window: RasterWindow, shape: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(bands, N) as stored, and (N,) which the file itself calls data."""
    stored = source.read(
        indexes, window=window, out_shape=(len(indexes), *shape), out_dtype="float32",
        resampling=Resampling.nearest,
    )  # fmt: skip
    mask = source.dataset_mask(window=window, out_shape=shape)
    return stored.reshape(len(indexes), -1), mask.ravel() > 0


def _middles(size: int, count: int) -> NDArray[np.float64]:
    """Where `count` samples along `size` pixels lie, in pixels from the corner."""
    return (np.arange(count) + 0.5) * size / count
