"""Opening raster files: signed, paid for, and kept open for the next window.

Tiles overlap and scenes have many, so the blocks one window decoded are worth keeping for the next;
GDAL keeps them with the open file. Every thread has files of its own, a few of them: GDAL's are not
to be shared.
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

import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.session import DummySession, Session

from catalog import aws
from catalog.archives.items import Asset
from catalog.archives.providers import Access
from catalog.archives.reach import REMOTE_DRIVERS, is_local
from catalog.outside.gate import gate_options
from catalog.signing import signed

KEPT_OPEN = 16  # files a thread


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
    with warnings.catch_warnings():
        # A raster without georeference is refused with a better message.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        if is_local(path):
            return rasterio.open(path)
        return DatasetReader(path, driver=list(REMOTE_DRIVERS))  # rasterio.open takes only one


def _session(file: File) -> Session:
    if not file.path.startswith("s3://"):
        return DummySession()
    if file.access.copernicus:
        return aws.CopernicusSession()
    return aws.GdalSession(requester_pays=file.access.requester_pays)
