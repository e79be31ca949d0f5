"""One raster file: opening it with retries, and reading it on another grid or on its own.

Everything comes back as float32, in physical values, with NaN where there is no data: outside the
raster, where the nodata value stands in all bands, or where the mask or alpha band says so.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyproj
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj.exceptions import ProjError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow
from shapely.errors import GEOSException

from catalog.archives.items import Asset, Scene
from catalog.archives.providers import MSI_BANDS, POLARISATIONS
from catalog.archives.reach import without_keys
from catalog.errors import CatalogError, SceneReadError, raise_portably, shown, without_secrets
from catalog.outside.gate import in_plain_words
from catalog.pixels.open_files import file_of, is_open, open_raster
from catalog.retrying import attempts_at, retry
from catalog.sentinel1.gcps import gcp_fault, has_only_gcps

logger = logging.getLogger(__name__)
T = TypeVar("T")

GDAL_OPTIONS: dict[str, str | int] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no directory listings beside every file
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "60",
    "VSI_CACHE": "TRUE",
    "GDAL_CACHEMAX": 128 * 2**20,  # bytes; the default, 5 % of memory, is too much per worker
}
# GDAL retries a request that is answered by an error or cut off; one that is never answered, or an
# open that read garbage, it does not: those get a whole new attempt. These answers are the truth,
# and asking again would not change them.
DEFINITE = re.compile(
    "HTTP response code: 40[134]|specified (key|bucket) does not exist|request signature we "
    "calculated|Access ?Denied|InvalidAccessKeyId|only this machine or its network can "
    "reach|are not read$"
)
# GDAL remembers what it read, garbage included: a new attempt has to ask anew.
FORGET = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/"}
# GDAL's approximation of the warp, in pixels; its default of an eighth would show in a
# registration to a tenth.
WARP_TOLERANCE_PX = 0.01
ALIGNED_PX = 1e-6  # grids whose pixels lie this close are one
CHECKED_AT_ONCE_PX = 2**24
SMALL_FILE_BYTES = 64 * 2**20  # up to this size every block is checked before work starts
OPAQUE = 128  # of 255: half a pixel or more has data


@dataclass(frozen=True)
class RasterGrid:
    """Where a raster's pixels lie."""

    crs: pyproj.CRS
    transform: Affine
    shape: tuple[int, int]


@dataclass(frozen=True)
class Crop:
    """A rectangle of a raster, averaged down by a whole factor."""

    y0: int
    x0: int
    """Corner, in pixels of the raster."""
    height: int
    width: int
    """Size in pixels of the crop, each `factor` pixels of the raster wide."""
    factor: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels of the crop."""
        return self.height, self.width

    @property
    def raster_window(self) -> RasterWindow:
        """The rectangle in pixels of the raster."""
        return RasterWindow(self.x0, self.y0, self.width * self.factor, self.height * self.factor)

    def crop_from_raster(self, raster_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Crop pixel coordinates of the raster's pixel coordinates, both (2, H, W)."""
        corner = np.array([self.x0, self.y0], dtype=np.float64).reshape(2, 1, 1)
        return (raster_xy - corner + 0.5) / self.factor - 0.5


def read_asset(scene: Scene, asset: Asset, operation: Callable[[DatasetReader], T]) -> T:
    """What `operation` reads from an asset's open file; a remote one gets more than one chance.

    Raises SceneReadError naming the scene and the file; errors of catalog pass.
    """
    href, options = shown(asset.href), dict(GDAL_OPTIONS)

    def ask_anew(error: BaseException) -> None:
        logger.warning("reading %s failed (%s); once more", href, error)
        options.update(FORGET)

    try:
        return retry(
            lambda: _read_asset_once(scene, asset, operation, options),
            _may_pass,
            attempts=attempts_at(asset.href),
            before_wait=ask_anew,
        )
    except RasterioError as error:
        note = without_keys(href, asset.access)
        message = f"scene {scene.id} cannot be read from {href}: {error}{note}"
        raise_portably(SceneReadError(message, scene_id=scene.id, href=href), cause=error)
    except CatalogError:
        raise
    except (ArithmeticError, ValueError, GEOSException, ProjError) as error:
        # Whatever libraries make of what a file says of itself: one file must not end a plan.
        message = (
            f"scene {scene.id} cannot be read from {href}: what it says of its pixels makes no "
            f"sense ({type(error).__name__}: {error})"
        )
        raise_portably(SceneReadError(message, scene_id=scene.id, href=href), cause=error)


def _read_asset_once(
    scene: Scene,
    asset: Asset,
    operation: Callable[[DatasetReader], T],
    options: Mapping[str, str | int],
    *,
    anew: bool = False,
) -> T:
    """What `operation` reads from an asset's file, opened now or still open.

    Raises RasterioError without secrets, and SceneReadError for a file that is not as it should be.
    """
    path, kept = asset.href, False
    try:
        file = file_of(asset)
        path, kept = file.path, is_open(file) and not anew
        with open_raster(file, options) as source:
            _require_sound(source, scene, asset)
            return operation(source)
    except RasterioError as error:
        if kept:  # perhaps only this open file is bad: keys run out, connections break
            return _read_asset_once(scene, asset, operation, options, anew=True)
        why = without_secrets(_message_of(error), path)
        raise RasterioError(in_plain_words(why)).with_traceback(error.__traceback__) from None


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, RasterioError) and not DEFINITE.search(str(error))


def check_blocks(source: DatasetReader) -> None:
    """Decode the blocks of an open raster, some of a row at a time, to find damaged ones.

    All of them; of a large file, and of one that may stand for large ones, the first, the middle
    and the last row.
    """
    path = Path(source.name)
    large = source.driver == "VRT" or not path.is_file() or path.stat().st_size > SMALL_FILE_BYTES
    down, right = (max(sides) for sides in zip(*source.block_shapes, strict=True))
    rows = list(range(0, source.height, down))
    columns = max(1, CHECKED_AT_ONCE_PX // (down * right * source.count)) * right
    for y0 in sorted({rows[0], rows[len(rows) // 2], rows[-1]}) if large else rows:
        for x0 in range(0, source.width, columns):
            width, height = min(columns, source.width - x0), min(down, source.height - y0)
            source.read(window=RasterWindow(x0, y0, width, height))


def read_on_grid(
    source: DatasetReader, asset: Asset, indexes: list[int], geobox: GeoBox
) -> NDArray[np.float32]:
    """Bands resampled bilinearly to a grid: (bands, H, W); aligned pixels keep their bits."""
    assert geobox.crs is not None
    height, width = geobox.shape
    corner = _aligned_corner(source, geobox)
    if corner is not None:
        return _read_aligned(source, asset, indexes, corner, (height, width))
    nodata = source.nodata if asset.nodata is None else asset.nodata
    if nodata is None and np.issubdtype(np.dtype(source.dtypes[0]), np.floating):
        nodata = np.nan  # floats without a declared nodata value may still hold NaN
    if has_undeclared_padding(source, asset):
        nodata = 0.0
    with WarpedVRT(
        source,
        crs=geobox.crs.to_wkt(),
        transform=geobox.affine,
        height=height,
        width=width,
        resampling=Resampling.bilinear,
        tolerance=WARP_TOLERANCE_PX,
        dtype="float32",
        src_nodata=nodata,
        # A pixel is no data when all its bands say so: black water has zeros in single bands.
        warp_extras={"UNIFIED_SRC_NODATA": "YES"},
        # Validity travels as alpha: as a value it could not be told from data.
        **_alpha_bands(source),
    ) as warped:
        values = warped.read(indexes)
        opacity = warped.read(warped.count)
    np.copyto(values, np.nan, where=opacity < OPAQUE)
    return to_physical(values, asset)


def _aligned_corner(source: DatasetReader, geobox: GeoBox) -> tuple[int, int] | None:
    """Row and column in the raster where a grid of the same pixels begins; None on other grids."""
    assert geobox.crs is not None
    ours, theirs = geobox.affine, source.transform
    same_pixels = (ours.a, ours.b, ours.d, ours.e) == (theirs.a, theirs.b, theirs.d, theirs.e)
    if not same_pixels or not _same_crs(str(geobox.crs), source.crs.wkt):
        return None
    column, row = ~theirs @ (ours.c, ours.f)
    exact = abs(column - round(column)) < ALIGNED_PX and abs(row - round(row)) < ALIGNED_PX
    return (round(row), round(column)) if exact else None


@lru_cache(maxsize=64)
def _same_crs(one: str, other: str) -> bool:
    first, second = pyproj.CRS.from_user_input(one), pyproj.CRS.from_wkt(other)
    return bool(first.equals(second, ignore_axis_order=True))


def _read_aligned(
    source: DatasetReader,
    asset: Asset,
    indexes: list[int],
    corner: tuple[int, int],
    shape: tuple[int, int],
) -> NDArray[np.float32]:
    """A part of a raster that may leave it, as it is stored: (bands, H, W)."""
    (row, column), (height, width) = corner, shape
    y0, x0 = max(0, row), max(0, column)
    y1, x1 = min(source.height, row + height), min(source.width, column + width)
    inside = Crop(y0, x0, max(0, y1 - y0), max(0, x1 - x0))
    if inside.shape == shape:
        return read_crop(source, asset, indexes, inside)
    values = np.full((len(indexes), height, width), np.nan, np.float32)
    if inside.height and inside.width:
        part = read_crop(source, asset, indexes, inside)
        values[:, y0 - row : y1 - row, x0 - column : x1 - column] = part
    return values


def read_crop(
    source: DatasetReader, asset: Asset, indexes: list[int], crop: Crop
) -> NDArray[np.float32]:
    """Bands of a part of a raster in its own grid: (bands, h, w)."""
    values: NDArray[np.float32]
    dtype = source.dtypes[0]
    if crop.factor == 1 and dtype != "float64":
        # As stored, and then made floats: GDAL takes longer for both at once.
        values = source.read(indexes, window=crop.raster_window).astype(np.float32, copy=False)
    else:
        values = source.read(
            indexes,
            window=crop.raster_window,
            out_shape=(len(indexes), *crop.shape),
            out_dtype="float32",
            resampling=Resampling.average,
        )
    nodata = 0.0 if has_undeclared_padding(source, asset) else asset.nodata
    if nodata is None and source.count == 1 and crop.factor == 1:
        # Of an only band, not averaged, the values tell all that its mask would.
        nodata = source.nodata if source.mask_flag_enums[0] == [MaskFlags.nodata] else None
    if nodata is not None:
        no_data = values == np.float32(nodata)
        if np.dtype(dtype).kind == "f":
            no_data |= np.isnan(values)
        np.copyto(values, np.nan, where=no_data.all(axis=0))
    elif MaskFlags.all_valid not in source.mask_flag_enums[0]:
        mask = source.dataset_mask(window=crop.raster_window, out_shape=crop.shape)
        np.copyto(values, np.nan, where=mask < OPAQUE)
    if _zero_is_nodata(source, asset):
        np.copyto(values, np.nan, where=(values == 0).all(axis=0))
    return to_physical(values, asset)


def has_undeclared_padding(source: DatasetReader, asset: Asset) -> bool:
    """Whether zeros are no data though nothing says so: in numbers of 16 bits that count from 1.

    Those are the digital numbers of radar and the bands of Sentinel-2, in which zero is what was
    not seen.
    """
    counted = np.dtype(source.dtypes[0]) == np.uint16
    told = asset.nodata is not None or MaskFlags.all_valid not in source.mask_flag_enums[0]
    return counted and not told and set(asset.bands) <= {*POLARISATIONS, *MSI_BANDS}


def has_padding_to_keep_out(source: DatasetReader, asset: Asset, geobox: GeoBox) -> bool:
    """Whether `read_on_grid` would mix zeros that are no data into the ground beside them.

    GDAL's warp knows one value of no data, and it may be another.
    """
    return _zero_is_nodata(source, asset) and _aligned_corner(source, geobox) is None


def _zero_is_nodata(source: DatasetReader, asset: Asset) -> bool:
    """Whether exact zeros were not seen: in backscatter as floats, as archives pad its borders.

    A power of zero does not occur, nor in decibels, in practice, one of exactly zero. In an 8-bit
    stretch zero is the darkest ground.
    """
    return set(asset.bands) <= set(POLARISATIONS) and np.dtype(source.dtypes[0]).kind == "f"


def _require_sound(source: DatasetReader, scene: Scene, asset: Asset) -> None:
    fault, href = None, shown(asset.href)
    if has_only_gcps(source):
        fault = gcp_fault(source)
    elif source.crs is None:
        fault = "has no coordinate reference system"
    if any("complex" in kind for kind in source.dtypes):
        fault = (
            f"holds complex numbers ({source.dtypes[0]}), as a single look complex product (SLC) "
            "does; what can be registered is detected backscatter, as of GRD or RTC"
        )
    if fault is None and source.count < len(asset.bands):
        fault = f"has {source.count} bands where its item promises {', '.join(asset.bands)}"
    if fault:
        raise SceneReadError(f"scene {scene.id}: {href} {fault}", scene_id=scene.id, href=href)


def _message_of(error: RasterioError) -> str:
    """What rasterio says; where that only points to its cause, what the cause says."""
    return str(error).replace("See previous exception for details.", str(error.__cause__))


def _alpha_bands(source: DatasetReader) -> dict[str, int | bool]:
    kinds = list(source.colorinterp)
    if ColorInterp.alpha not in kinds:
        return {"add_alpha": True}
    index = kinds.index(ColorInterp.alpha) + 1
    return {"src_alpha": index, "dst_alpha": index}


def to_physical(values: NDArray[np.float32], asset: Asset) -> NDArray[np.float32]:
    """Stored values as what they stand for; in place."""
    if (asset.scale, asset.offset) != (1.0, 0.0):
        values *= np.float32(asset.scale)
        values += np.float32(asset.offset)
    return values
