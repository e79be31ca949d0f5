"""The errors of this package, one small tree.

    CatalogError
    ├── ArgumentError     a request that cannot be served; `argument` names what to change
    ├── SearchError       a catalog that is unreachable, unsuitable or broken; `url` names it
    ├── SceneReadError    a scene that cannot be opened or read; `scene_id` and `href` name it
    ├── ApiError          a STAC API that is down or refuses an entry; `url` names what was asked
    └── StoreError        a store that cannot be written, read or trusted; `url` names it

Every message says what failed and, where there is one, the way out. The cause is chained. All of
them survive pickling, because they travel from Dask workers to the flow.
"""

from __future__ import annotations

import re
from typing import NoReturn
from urllib.parse import urlsplit

STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What steers a terminal or turns text around, and halves of surrogate pairs; not line ends."""


def without_steering(text: str) -> str:
    """The text with a mark in the place of each character that steers a terminal."""
    return STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


class CatalogError(Exception):
    """Base of every error this package raises on purpose."""

    def __str__(self) -> str:
        # The remaining arguments are for programs: they are attributes, and they let the
        # exception be rebuilt on the other side of a process boundary. Some of the words are those
        # of servers and of files.
        return without_steering(str(self.args[0]))


class ArgumentError(CatalogError, ValueError):
    """A value given by the caller is unusable."""

    def __init__(self, message: str, argument: str) -> None:
        super().__init__(message, argument)
        self.argument = argument


class SearchError(CatalogError):
    """A STAC catalog could not be searched."""

    def __init__(self, message: str, url: str) -> None:
        super().__init__(message, url)
        self.url = url


class SceneReadError(CatalogError):
    """A scene could not be opened or read."""

    def __init__(self, message: str, scene_id: str, href: str) -> None:
        super().__init__(message, scene_id, href)
        self.scene_id = scene_id
        self.href = href


class ApiError(CatalogError):
    """A STAC API could not be brought up to date. `status`: what it answered, None if nothing."""

    def __init__(self, message: str, url: str, status: int | None = None) -> None:
        super().__init__(message, url, status)
        self.url = url
        self.status = status


class StoreError(CatalogError):
    """A mosaic store could not be written or read."""

    def __init__(self, message: str, url: str) -> None:
        super().__init__(message, url)
        self.url = url


def raise_portably(error: CatalogError, cause: BaseException) -> NoReturn:
    """Raise `error` from a copy of `cause` in plain words.

    Errors of GDAL and of storage libraries cannot be rebuilt in another process, and one of them
    anywhere in the chain would cost a worker's error its type, message and attributes.
    """
    words = RuntimeError(f"{type(cause).__name__}: {cause}").with_traceback(cause.__traceback__)
    try:
        raise error from words
    finally:
        error.__context__ = None  # Python puts the error that is being handled there


def shown(address: str) -> str:
    """An address as messages and reports may show it.

    Signed URLs carry their secret in the query, others a password before the host; both go.
    """
    parts = urlsplit(address)
    if "://" not in address or parts.scheme == "file":
        return address  # a path may hold any character
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def has_secret(address: str) -> bool:
    """Whether a URL may carry a secret: a user or password before the host, or a query.

    Such a URL must not become a parameter: those are stored and shown.
    """
    parts = urlsplit(address)
    return "://" in address and bool("@" in parts.netloc or parts.query or parts.fragment)


def without_secrets(message: str, address: str) -> str:
    """A library's message about `address` with the address as it may be shown."""
    query = urlsplit(address).query
    message = message.replace(address, shown(address))
    # GDAL often names the last part of a path alone, query included.
    return message.replace(f"?{query}", "") if query and shown(address) != address else message
