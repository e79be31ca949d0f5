"""One raster file: opening it with retries, and reading it on another grid or on its own.

Everything comes back as float32, in physical values, with NaN where there is no data: outside the
raster, where the nodata value stands in all bands, or where the mask or alpha band says so.
"""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
import pyproj
import rasterio
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.session import DummySession, Session
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from catalog import aws
from catalog.errors import SceneReadError, raise_portably, shown, without_secrets
from catalog.gcps import gcp_fault, has_only_gcps
from catalog.items import Asset, Scene
from catalog.providers import POLARISATIONS, Access
from catalog.signing import signed

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
# open that read garbage, it does not. These are the seconds before whole new attempts.
REMOTE_ATTEMPT_DELAYS = (0.5, 1.0, 2.0, 4.0)
# These answers are the truth, and asking again would not change them.
DEFINITE = re.compile(
    "HTTP response code: 40[134]|specified (key|bucket) does not exist|request signature we "
    "calculated|Access ?Denied|InvalidAccessKeyId"
)
# GDAL remembers what it read, garbage included: a new attempt has to ask anew.
FORGET = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/:/vsis3/"}
# GDAL's approximation of the warp, in pixels; its default of an eighth would show in a
# registration to a tenth.
WARP_TOLERANCE_PX = 0.01
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


def attempt(scene: Scene, asset: Asset, operation: Callable[[DatasetReader], T]) -> T:
    """Open an asset and do something with it; a remote one gets more than one chance.

    Raises SceneReadError naming the scene and the file.
    """
    remote = urlsplit(asset.href).scheme in ("http", "https", "s3")
    delays = list(REMOTE_ATTEMPT_DELAYS if remote else ())
    options = GDAL_OPTIONS
    while True:
        path = asset.href
        try:
            path = _path(asset)
            with _opened(path, asset.access, options) as source:
                _require_sound(source, scene, asset)
                return operation(source)
        except RasterioError as error:
            href, why = shown(asset.href), without_secrets(_told(error), path)
            if not delays or DEFINITE.search(why):
                raise_portably(
                    SceneReadError(
                        f"scene {scene.id} cannot be read from {href}: {why}",
                        scene_id=scene.id,
                        href=href,
                    ),
                    cause=RasterioError(why).with_traceback(error.__traceback__),
                )
            logger.warning("reading %s failed (%s); once more", href, why)
            time.sleep(delays.pop(0))
            options = {**GDAL_OPTIONS, **FORGET}


def check_blocks(source: DatasetReader) -> None:
    """Decode the blocks of an open raster, a row of blocks at a time, to find damaged ones.

    All of them; of a large file, and of one that may stand for large ones, the first, the middle
    and the last row.
    """
    path = Path(source.name)
    large = source.driver == "VRT" or not path.is_file() or path.stat().st_size > SMALL_FILE_BYTES
    rows = list(range(0, source.height, max(height for height, _ in source.block_shapes)))
    step = rows[1] if len(rows) > 1 else source.height
    for y0 in sorted({rows[0], rows[len(rows) // 2], rows[-1]}) if large else rows:
        source.read(window=RasterWindow(0, y0, source.width, min(step, source.height - y0)))


def grid_of(source: DatasetReader) -> RasterGrid:
    """The pixel grid of an open raster."""
    return RasterGrid(pyproj.CRS.from_wkt(source.crs.to_wkt()), source.transform, source.shape)


def read_on_grid(
    source: DatasetReader, asset: Asset, indexes: list[int], geobox: GeoBox
) -> NDArray[np.float32]:
    """Bands resampled bilinearly to a grid: (bands, H, W); aligned pixels keep their bits."""
    assert geobox.crs is not None
    nodata = source.nodata if asset.nodata is None else asset.nodata
    if nodata is None and np.issubdtype(np.dtype(source.dtypes[0]), np.floating):
        nodata = np.nan  # floats without a declared nodata value may still hold NaN
    with WarpedVRT(
        source,
        crs=geobox.crs.to_wkt(),
        transform=geobox.affine,
        height=geobox.shape[0],
        width=geobox.shape[1],
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
    values[:, opacity < OPAQUE] = np.nan
    return _physical(values, asset)


def read_crop(
    source: DatasetReader, asset: Asset, indexes: list[int], crop: Crop
) -> NDArray[np.float32]:
    """Bands of a part of a raster in its own grid: (bands, h, w)."""
    values: NDArray[np.float32] = source.read(
        indexes,
        window=crop.raster_window,
        out_shape=(len(indexes), *crop.shape),
        out_dtype="float32",
        resampling=Resampling.average,
    )
    if asset.nodata is not None:
        no_data = (values == np.float32(asset.nodata)) | np.isnan(values)
        values[:, no_data.all(axis=0)] = np.nan
    else:
        mask = source.dataset_mask(window=crop.raster_window, out_shape=crop.shape)
        values[:, mask < OPAQUE] = np.nan
    if zero_is_nodata(source, asset):
        values[:, (values == 0).all(axis=0)] = np.nan
    return _physical(values, asset)


def zero_is_nodata(source: DatasetReader, asset: Asset) -> bool:
    """Whether exact zeros were not seen: in backscatter as floats, as archives pad its borders.

    A power of zero does not occur, nor in decibels, in practice, one of exactly zero. In an 8-bit
    stretch zero is the darkest ground.
    """
    return set(asset.bands) <= set(POLARISATIONS) and np.dtype(source.dtypes[0]).kind == "f"


def _path(asset: Asset) -> str:
    """What GDAL opens: with a token where there has to be one, so nothing to be told or kept."""
    if asset.href.startswith("file:"):
        return unquote(urlsplit(asset.href).path)
    return signed(asset.href) if asset.access.signed else asset.href


def _session(path: str, access: Access) -> Session:
    if not path.startswith("s3://"):
        return DummySession()
    if access.copernicus:
        return aws.CopernicusSession()
    return aws.GdalSession(requester_pays=access.requester_pays)


@contextmanager
def _opened(path: str, access: Access, options: Mapping[str, str | int]) -> Iterator[DatasetReader]:
    with rasterio.Env(session=_session(path, access), **options):
        with warnings.catch_warnings():
            # A raster without georeference is refused with a better message.
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            source = rasterio.open(path)
        with source:
            yield source


def _require_sound(source: DatasetReader, scene: Scene, asset: Asset) -> None:
    fault, href = None, shown(asset.href)
    if has_only_gcps(source):
        fault = gcp_fault(source)
    elif source.crs is None:
        fault = "has no coordinate reference system"
    if fault is None and source.count < len(asset.bands):
        fault = f"has {source.count} bands where its item promises {', '.join(asset.bands)}"
    if fault:
        raise SceneReadError(f"scene {scene.id}: {href} {fault}", scene_id=scene.id, href=href)


def _told(error: RasterioError) -> str:
    """What rasterio says; where that only points to its cause, what the cause says."""
    return str(error).replace("See previous exception for details.", str(error.__cause__))


def _alpha_bands(source: DatasetReader) -> dict[str, int | bool]:
    kinds = list(source.colorinterp)
    if ColorInterp.alpha not in kinds:
        return {"add_alpha": True}
    index = kinds.index(ColorInterp.alpha) + 1
    return {"src_alpha": index, "dst_alpha": index}


def _physical(values: NDArray[np.float32], asset: Asset) -> NDArray[np.float32]:
    if (asset.scale, asset.offset) == (1.0, 0.0):
        return values
    return values * np.float32(asset.scale) + np.float32(asset.offset)
