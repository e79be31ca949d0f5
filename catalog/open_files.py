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
from pathlib import Path
from urllib.parse import unquote, urlsplit

import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import DatasetReader
from rasterio.session import DummySession, Session

from catalog import aws
from catalog.items import Asset
from catalog.providers import Access
from catalog.signing import signed

KEPT_OPEN = 16  # files a thread
Key = tuple[str, Access, tuple[int, ...]]


class _Kept(threading.local):
    """The files that this thread has open, the one used last at the end."""

    def __init__(self) -> None:
        self.files: OrderedDict[Key, DatasetReader] = OrderedDict()


_kept = _Kept()


def address(asset: Asset) -> str:
    """What GDAL opens: with a token where there has to be one, so nothing to be told or kept."""
    if asset.href.startswith("file:"):
        return unquote(urlsplit(asset.href).path)
    return signed(asset.href) if asset.access.signed else asset.href


def is_open(path: str, access: Access) -> bool:
    """Whether this thread has the file open, as it is now."""
    return _key(path, access) in _kept.files


@contextmanager
def opened(path: str, access: Access, options: Mapping[str, str | int]) -> Iterator[DatasetReader]:
    """A raster file inside its GDAL environment, kept open afterwards unless something failed.

    Raises rasterio's errors.
    """
    key = _key(path, access)
    with rasterio.Env(session=_session(path, access), **options):
        source = _kept.files.pop(key, None) or _open(path)
        try:
            yield source
        except BaseException:
            source.close()  # whatever it was: the next attempt begins anew
            raise
        _kept.files[key] = source
        while len(_kept.files) > KEPT_OPEN:
            _, oldest = _kept.files.popitem(last=False)
            oldest.close()


def close_all() -> None:
    """Close what this thread has open."""
    while _kept.files:
        _kept.files.popitem()[1].close()


def _open(path: str) -> DatasetReader:
    with warnings.catch_warnings():
        # A raster without georeference is refused with a better message.
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def _key(path: str, access: Access) -> Key:
    """What an open file is found by: one that was written anew on the disk is another."""
    try:
        known = Path(path).stat() if urlsplit(path).scheme == "" else None
    except OSError:
        known = None
    changed = () if known is None else (known.st_ino, known.st_mtime_ns, known.st_size)
    return path, access, changed


def _session(path: str, access: Access) -> Session:
    if not path.startswith("s3://"):
        return DummySession()
    if access.copernicus:
        return aws.CopernicusSession()
    return aws.GdalSession(requester_pays=access.requester_pays)
