"""Opening raster files: signed, paid for, and kept open for the next window.

Tiles overlap and scenes have many, so the blocks one window decoded are worth keeping for the next;
GDAL keeps them with the open file. Every thread has files of its own, a few of them: GDAL's are not
to be shared.

A window costs what its blocks take unpacked, and a file of some kilobytes can tell of blocks of
many gigabytes. So what a file says of its size is looked at before anything is read of it.
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import rasterio
from rasterio.enums import Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.session import DummySession, Session

from catalog import aws
from catalog.archives.items import Asset
from catalog.archives.providers import Access
from catalog.archives.reach import REMOTE_DRIVERS, is_local
from catalog.outside.gate import gate_options
from catalog.signing import signed

KEPT_OPEN = 16  # files a thread
LARGEST_BLOCK_BYTES = 16 * 2**20  # unpacked: 2048 x 2048 floats; archives have 1024 x 1024
MOST_PIXELS = 2**34  # of a raster in blocks that can be read one by one, 131072 x 131072
MOST_BANDS = 1024
# Other formats may have to be unpacked whole, whatever is read of them; 361 MB are the largest of
# Sentinel-2, a picture of a tile in three colours.
LARGEST_WHOLE_BYTES = 512 * 2**20
IN_BLOCKS = "GTiff"


@dataclass(frozen=True)
class File:
    """What an open file is found by: one that was written anew on the disk is another."""

    path: str
    access: Access
    changed: tuple[int, ...]


class _Kept(threading.local):
    """The files that this thread has open, the one used last at the end."""

    def __init__(self) -> None:
        self.files: OrderedDict[File, DatasetReader] = OrderedDict()


_kept = _Kept()


def file_of(asset: Asset) -> File:
    """What GDAL opens: with a token where there has to be one, so nothing to be told or kept.

    Raises RasterioError where there is none to be had.
    """
    if asset.href.startswith("file:"):
        path = unquote(urlsplit(asset.href).path)
    else:
        path = signed(asset.href) if asset.access.signed else asset.href
    try:
        known = None if "://" in path else Path(path).stat()
    except OSError:
        known = None
    changed = () if known is None else (known.st_ino, known.st_mtime_ns, known.st_size)
    return File(path, asset.access, changed)


def is_open(file: File) -> bool:
    """Whether this thread has the file open, as it is now."""
    return file in _kept.files


@contextmanager
def open_raster(file: File, options: Mapping[str, str | int]) -> Iterator[DatasetReader]:
    """A raster file inside its GDAL environment, kept open afterwards unless something failed.

    Raises rasterio's errors.
    """
    gated = urlsplit(file.path).scheme in ("http", "https") and not file.access.inside
    gate = gate_options() if gated else {}
    with rasterio.Env(session=_session(file), **options, **gate):
        source = _kept.files.pop(file, None) or _open(file.path)
        try:
            yield source
        except BaseException:
            source.close()  # whatever it was: the next attempt begins anew
            raise
        _kept.files[file] = source
        while len(_kept.files) > KEPT_OPEN:
            _, oldest = _kept.files.popitem(last=False)
            oldest.close()


def _open(path: str) -> DatasetReader:
    """A file that is moderate. Raises rasterio's errors."""
    with warnings.catch_warnings():
        # A raster without georeference is refused with a better message.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if is_local(path):
            source = rasterio.open(path)
        else:
            # rasterio.open takes only one
            source = DatasetReader(path, driver=list(REMOTE_DRIVERS))
        if source.driver != "VRT" and (fault := _excess(source, path)):
            source.close()
            raise RasterioError(f"it {fault} are not read")
    return source


def _excess(source: DatasetReader, path: str) -> str | None:
    """What a raster, its overviews or its mask tell of that is too much, None where nothing is."""
    height, width = source.shape
    if source.count > MOST_BANDS:
        return f"has {source.count} bands, and more than {MOST_BANDS}"
    if source.driver != IN_BLOCKS:
        return _excess_bytes(source, height, width, "is", LARGEST_WHOLE_BYTES)
    if height * width > MOST_PIXELS:
        return f"has {width} x {height} pixels, and more than {MOST_PIXELS:.1e} of them"
    if fault := _excess_of_blocks(source):
        return fault
    levels = len(source.overviews(1))
    for level in range(levels):
        with DatasetReader(path, driver=[IN_BLOCKS], overview_level=level) as overview:
            if fault := _excess_of_blocks(overview):
                return fault
    if not any(MaskFlags.per_dataset in flags for flags in source.mask_flag_enums):
        return None
    # Masks, of the image and of its overviews, are rasters of the file; which, it does not tell.
    for number in range(2, 2 * levels + 3):
        try:
            with DatasetReader(f"GTIFF_DIR:{number}:{_gdals_name(path)}") as other:
                if fault := _excess_of_blocks(other):
                    return fault
        except RasterioError:
            break  # there are no more
    return None


def _gdals_name(path: str) -> str:
    scheme, separator, rest = path.partition("://")
    if not separator:
        return path
    return f"/vsis3/{rest}" if scheme == "s3" else f"/vsicurl/{path}"


def _excess_of_blocks(source: DatasetReader) -> str | None:
    height, width = max(source.block_shapes, key=lambda shape: shape[0] * shape[1])
    return _excess_bytes(source, height, width, "has blocks of", LARGEST_BLOCK_BYTES)


def _excess_bytes(
    source: DatasetReader, height: int, width: int, has: str, most: int
) -> str | None:
    bands = 1 if source.interleaving == Interleaving.band else source.count
    # One kind of numbers is GDAL's alone; files of it are refused with a better message.
    kinds = (np.dtype("c8" if kind == "complex_int16" else kind) for kind in source.dtypes)
    size = height * width * bands * max(kind.itemsize for kind in kinds)
    if size <= most:
        return None
    return (
        f"{has} {width} x {height} pixels, {size / 2**20:.0f} MiB unpacked, and more than "
        f"{most / 2**20:.0f} MiB at once"
    )


def _session(file: File) -> Session:
    if not file.path.startswith("s3://"):
        return DummySession()
    if file.access.copernicus:
        return aws.CopernicusSession()
    access = file.access
    return aws.GdalSession(requester_pays=access.requester_pays, unsigned=access.unsigned)
