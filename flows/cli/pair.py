"""Two rasters, no catalog: SAR registered to the pixels of an optical raster.

Georeferenced rasters go the way of a region of one pair, tile by tile and block by block, so their
size does not matter. Rasters without georeference are matched as images, whatever their rotation
and scale.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyproj
import rasterio
import shapely
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window as RasterWindow
from shapely.geometry.base import BaseGeometry

from catalog.archives.items import Asset, Scene
from catalog.archives.pairs import Pair
from catalog.grid import LONLAT, Lattice, Window
from catalog.longitudes import facing, in_one_piece
from catalog.pixels.resample import resample
from catalog.pixels.scene import source_window
from catalog.sentinel1.gcps import gcp_fault, gcp_grid_of, has_only_gcps, outline_of
from flows.cluster.workers import load_registrar
from flows.plan.groups import Group
from flows.plan.request import LARGEST_OFFSET_PX, MAX_OFFSET_PX, RequestError
from flows.stages.fit import fit_group
from flows.stages.group_matches import Collected
from flows.stages.match import corners_of, group_tiles, match_tile, read_tile

Floats = npt.NDArray[np.float32]
BLOCK_PX = 512


@dataclass(frozen=True)
class PairResult:
    """What became of the pair. Distances in pixels of the optical raster."""

    accepted: bool
    reason: str
    kind: str
    matches: int
    expected_error_px: float
    median_displacement_px: float


def register_files(
    optical: Path,
    sar: Path,
    out: Path,
    max_offset_px: float = MAX_OFFSET_PX,
    weights: Path | None = None,
) -> PairResult:
    """Write `sar` on the pixels of `optical` to `out` (float32 GeoTIFF); nothing when refused.

    Raises `RequestError` when a raster cannot be read, `out` cannot be written, or
    `max_offset_px` is no sensible distance.
    """
    _check_arguments(optical, sar, out, max_offset_px)
    with _open(optical, "optical") as optical_raster, _open(sar, "sar") as sar_raster:
        sar_located = sar_raster.crs is not None or has_only_gcps(sar_raster)
        located = optical_raster.crs is not None and sar_located
        if located:
            result, blocks = _register_located(optical_raster, sar_raster, max_offset_px, weights)
        else:  # there is no first guess to stay near
            result, blocks = _register_images(optical_raster, sar_raster, weights)
        if result.accepted:
            tags = {
                "TAR_OPTICAL": optical.name,
                "TAR_SAR": sar.name,
                "TAR_EXPECTED_ERROR_PX": f"{result.expected_error_px:.3f}",
                "TAR_SOFTWARE": f"tar-pipeline {version('tar-pipeline')}",
            }
            _write(out, optical_raster, len(_bands(sar_raster)), blocks, tags)
    return result


def _check_arguments(optical: Path, sar: Path, out: Path, max_offset_px: float) -> None:
    if not out.parent.is_dir():
        raise RequestError(f"out: there is no folder {str(out.parent)!r}")
    if out.is_dir():
        raise RequestError(f"out: {out} is a folder, name a file")
    if any(out.exists() and given.exists() and out.samefile(given) for given in (optical, sar)):
        raise RequestError(f"out: {out} is one of the two inputs, which are never overwritten")
    if not 0 < max_offset_px <= LARGEST_OFFSET_PX:
        raise RequestError(
            f"max-offset-px: {max_offset_px:g} is not between 0 and {LARGEST_OFFSET_PX:g} px"
        )


def _register_located(
    optical: Any, sar: Any, max_offset_px: float, weights: Path | None
) -> tuple[PairResult, Iterable[tuple[Window, Floats]]]:
    """Both rasters know where they are: the optical grid is the lattice of a one-pair region."""
    if optical.transform.b or optical.transform.d:
        raise RequestError("optical: its grid is rotated against its CRS; warp it north-up first")
    lattice = Lattice(GeoBox(optical.shape, optical.transform, optical.crs.to_wkt()))
    first, second = _scene(optical, "optical"), _scene(sar, "sar")
    beside = facing(second.footprint, first.footprint.centroid.x)
    scenes = first, replace(second, footprint=beside)
    overlap = scenes[0].footprint & scenes[1].footprint
    if overlap.is_empty:
        return _refusal("the two rasters do not overlap"), ()
    pair = Pair(*scenes, overlap.area / scenes[0].footprint.area, timedelta(0))
    group = Group((pair,), scenes[:1], scenes[1:])
    tiles = group_tiles(lattice, group)
    found = Collected()
    for place, tile in enumerate(tiles):
        images = read_tile(lattice, tile)
        for problem in images.unreadable.values():
            raise RequestError(problem)
        matched = match_tile(tile, images, weights=weights, max_offset_px=max_offset_px)
        found.add(place, matched)
    estimate = fit_group(group, found.of_group(corners_of(tiles), {}).matches(), lattice)
    (verdict,), field = estimate.verdicts, estimate.field
    kind = field.kind if field is not None else "none"
    result = PairResult(
        verdict.accepted, verdict.reason, kind, verdict.matches,
        verdict.expected_error_px, verdict.median_displacement_px,
    )  # fmt: skip

    def blocks() -> Iterator[tuple[Window, Floats]]:
        for window in lattice.tiles(BLOCK_PX):
            assert field is not None
            shift = field.displacement(window.x0, window.y0, window.width, window.height)
            part = source_window(scenes[1], lattice, window.positions() + shift)
            if part is not None:
                yield window, resample(*part)

    return result, blocks()


def _register_images(
    optical: Any, sar: Any, weights: Path | None
) -> tuple[PairResult, Iterable[tuple[Window, Floats]]]:
    """At least one raster does not know where it is: a global search over the whole images."""
    optical_image, sar_image = _image(optical), _image(sar)
    found = load_registrar(weights).register(optical_image, sar_image)
    moved = np.hypot(*found.displacement)
    result = PairResult(
        found.accepted, found.reason, found.kind, len(found.matches.confidence),
        float(found.expected_error_px), float(np.nanmedian(moved)),
    )  # fmt: skip
    window = Window(0, 0, *optical.shape)

    def blocks() -> Iterator[tuple[Window, Floats]]:
        yield window, resample(sar_image, window.positions() + found.displacement)

    return result, blocks()


def _write(
    out: Path,
    optical: Any,
    bands: int,
    blocks: Iterable[tuple[Window, Floats]],
    tags: dict[str, str],
) -> None:
    """Write the blocks beside `out` and put the file in place when it is whole."""
    partial = out.with_name(f".{out.name}.partial")
    height, width = optical.shape
    try:
        with _quietly(), rasterio.open(
            partial, "w", driver="GTiff", width=width, height=height, count=bands,
            dtype="float32", nodata=np.nan, crs=optical.crs, transform=optical.transform,
            tiled=True, blockxsize=BLOCK_PX, blockysize=BLOCK_PX, compress="deflate", predictor=3,
            bigtiff="if_safer", sparse_ok=False,
        ) as raster:  # fmt: skip
            raster.update_tags(**tags)
            for window, values in blocks:
                raster.write(
                    values, window=RasterWindow(window.x0, window.y0, window.width, window.height)
                )
        partial.replace(out)
    except (OSError, RasterioError) as error:
        raise RequestError(f"out: {out} cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _open(path: Path, argument: str) -> Iterator[Any]:
    try:
        with _quietly():
            raster = rasterio.open(path)
    except RasterioError as error:
        raise RequestError(f"{argument}: {path} cannot be opened: {error}") from error
    with raster:
        yield raster


@contextmanager
def _quietly() -> Iterator[None]:
    """Rasters without georeference are welcome here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def _scene(raster: Any, name: str) -> Scene:
    """An opened raster as a scene of the catalog, its bands by number."""
    footprint = _footprint(raster, name)
    asset = Asset(name, raster.name, tuple(str(index) for index in _bands(raster)))
    return Scene(name, "", datetime(2000, 1, 1, tzinfo=UTC), footprint, (asset,))


def _footprint(raster: Any, name: str) -> BaseGeometry:
    """An opened raster's outline in longitude and latitude."""
    if has_only_gcps(raster):
        if fault := gcp_fault(raster):
            raise RequestError(f"{name}: {raster.name} {fault}")
        return outline_of(gcp_grid_of(raster))
    left, bottom, right, top = raster.bounds
    outline = shapely.segmentize(shapely.box(left, bottom, right, top), (right - left) / 32)
    to_lonlat = pyproj.Transformer.from_crs(raster.crs.to_wkt(), LONLAT, always_xy=True)
    footprint: BaseGeometry = shapely.transform(
        outline, lambda xy: np.stack(to_lonlat.transform(*xy.T), axis=1)
    )
    return in_one_piece(footprint)


def _image(raster: Any) -> Floats:
    """(bands, H, W) float32, NaN where the raster's mask says so."""
    try:
        image: Floats = raster.read(_bands(raster), out_dtype="float32")
        image[:, raster.dataset_mask() == 0] = np.nan
    except RasterioError as error:
        raise RequestError(f"{raster.name} cannot be read: {error}") from error
    return image


def _bands(raster: Any) -> list[int]:
    """Band numbers without an alpha band."""
    return [i for i, kind in enumerate(raster.colorinterp, 1) if kind != ColorInterp.alpha]


def _refusal(reason: str) -> PairResult:
    return PairResult(False, reason, "none", 0, np.nan, np.nan)
