"""Small objects of a store, on a local path or in a bucket, through one set of functions.

A put is atomic: readers see the old object or the new one, never a part. Filesystems are made
where they are used, because theirs do not survive a fork or a pickle.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from catalog import aws
from catalog.errors import CatalogError, StoreError, raise_portably

FULL = ("No space left on device", "Disk quota exceeded", "File too large")
"""What systems say of a disk, a quota or a limit that is used up, whichever library hands it on."""


EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "token included in the request is expired")


@dataclass(frozen=True)
class Entry:
    """One object in a listing."""

    name: str
    """Path relative to the folder listed."""
    bytes: int
    modified: datetime
    """When it was last written, UTC."""


def filesystem(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The filesystem behind a path or URL, and the path on it. Raises StoreError."""
    if not url:
        raise StoreError("the store needs a path or an s3:// URL, not an empty one", url=url)
    with store_errors("understand", url):
        fs, path = fsspec.url_to_fs(url, **storage_options(url))
    return fs, str(path)


def storage_options(url: str) -> dict[str, Any]:
    """What fsspec takes beside a URL. Raises ArgumentError for a bad AWS environment."""
    return aws.storage_options() if url.startswith("s3://") else {}


def is_local(url: str) -> bool:
    """Whether a path or URL names the local file system."""
    return isinstance(filesystem(url)[0], LocalFileSystem)


def join(url: str, *parts: str) -> str:
    """A path or URL below another."""
    return "/".join([url.rstrip("/"), *parts])


def resolve(base_url: str, href: str) -> str:
    """What an `href` in the object at `base_url` points to."""
    if "://" in href:
        return href
    scheme, separator, path = base_url.rpartition("://")
    return f"{scheme}{separator}{posixpath.normpath(f'{posixpath.dirname(path)}/{href}')}"


def put(url: str, content: bytes) -> None:
    """Write an object, replacing an earlier one, in one step. Raises StoreError."""
    fs, path = filesystem(url)
    with store_errors("write", url):
        if isinstance(fs, LocalFileSystem):
            _put_file(Path(path), content)
        else:
            fs.pipe_file(path, content)


def get(url: str) -> bytes | None:
    """The content of an object, None where there is none. Raises StoreError."""
    fs, path = filesystem(url)
    with store_errors("read", url):
        try:
            return bytes(fs.cat_file(path))
        except (FileNotFoundError, NotADirectoryError):
            return None


def names(url: str) -> list[str]:
    """The names of the objects directly below a folder, sorted; none if it does not exist.

    Raises StoreError.
    """
    fs, path = filesystem(url)
    with store_errors("list", url):
        try:
            return sorted(posixpath.basename(found) for found in fs.ls(path, detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []


def entries(url: str) -> list[Entry]:
    """Every object at any depth below a folder, by name; none if it does not exist.

    Raises StoreError.
    """
    fs, path = filesystem(url)
    # On a disk fsspec passes over folders that it cannot list, as if nothing were in them.
    told = {"on_error": _raise_unless_gone} if isinstance(fs, LocalFileSystem) else {}
    with store_errors("list", url):
        found = fs.find(path, detail=True, **told).items()
    return sorted(
        (
            Entry(name.removeprefix(path).lstrip("/"), int(about["size"]), _modified(about))
            for name, about in found
        ),
        key=lambda entry: entry.name,
    )


def remove(url: str) -> None:
    """Delete an object. Raises StoreError."""
    fs, path = filesystem(url)
    with store_errors("delete", url):
        fs.rm_file(path)


def remove_tree(url: str) -> None:
    """Delete an object, or a folder with all that is in it; nothing happens where there is none.

    Raises StoreError, also when something is still there afterwards.
    """
    fs, path = filesystem(url)
    with store_errors("delete", url):
        with contextlib.suppress(FileNotFoundError):
            fs.rm(path, recursive=True)
        # s3fs deletes in bulk, and passes over what the store refuses to delete.
        fs.invalidate_cache(path)
        if left := fs.find(path):
            raise StoreError(
                f"cannot delete {url}: {len(left)} objects are still there; "
                "may this account delete?",
                url=url,
            )


@contextmanager
def store_errors(action: str, url: str) -> Iterator[None]:
    """Turn whatever a storage library raises into a StoreError that names the URL."""
    try:
        yield
    except CatalogError:
        raise
    except Exception as error:
        # Every storage library has its own tree of errors (OSError, botocore's, aiohttp's,
        # zarr's), and what matters to people is the same: which object, doing what, and why.
        why = str(error) or type(error).__name__
        raise_portably(
            StoreError(f"cannot {action} {url}: {_explained(why, error)}", url=url), cause=error
        )


def _explained(why: str, error: Exception) -> str:
    """What a library says, and where that leaves people alone, what it means."""
    if any(word in why for word in FULL):
        return f"the disk is full ({why}); make room, and the same command continues"
    if any(word in why for word in EXPIRED):
        return f"the credentials have expired ({why}); renew them, and the same command continues"
    if isinstance(error, PermissionError) and not error.filename:  # of a bucket
        return (
            f"{why}; this account may not do that, or may not list the bucket (s3:ListBucket): "
            "then what is missing is answered so as well"
        )
    return why


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _modified(about: Mapping[str, Any]) -> datetime:
    """When an object was last written, as its filesystem tells it."""
    moment = about.get("LastModified", about.get("mtime"))
    if isinstance(moment, datetime):
        return moment.astimezone(UTC)
    return datetime.fromtimestamp(float(moment or 0.0), UTC)


def _put_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave the new name with no content
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
