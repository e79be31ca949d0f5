"""The XML files beside a Sentinel-1 product: fetching them, and the geometry they tell."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree

import fsspec
import numpy as np
from numpy.typing import NDArray

from catalog import aws
from catalog.archives.providers import Access
from catalog.archives.signing import signed
from catalog.errors import ArgumentError, shown, without_secrets
from catalog.retrying import attempts_at, retry

LIGHT_M_PER_S = 299_792_458.0
LARGEST_BYTES = 64 * 2**20  # annotations are some megabytes


class AnnotationError(ValueError):
    """An XML file that is missing or is not what it should be; the message names it."""


class UnreachableError(AnnotationError):
    """An XML file that its server did not give, which may pass."""


@dataclass(frozen=True)
class GeolocationGrid:
    """What a product annotation says of points of its image: five arrays (N,)."""

    lines: NDArray[np.float64]
    pixels: NDArray[np.float64]
    incidence_deg: NDArray[np.float64]
    slant_range_m: NDArray[np.float64]


@lru_cache(maxsize=16)
def geolocation_grid(href: str, access: Access) -> GeolocationGrid:
    """The geolocation grid of a product annotation. Raises AnnotationError."""
    root = xml_of(href, access)

    def values(name: str) -> NDArray[np.float64]:
        found = root.iterfind(f".//geolocationGridPoint/{name}")
        try:
            numbers = np.array([float(element.text or "") for element in found])
        except ValueError as error:
            raise AnnotationError(f"{shown(href)}: <{name}> is no number: {error}") from error
        if len(numbers) < 4 or not np.isfinite(numbers).all():
            raise AnnotationError(
                f"{shown(href)} is no product annotation: it has {len(numbers)} sound <{name}> of "
                "geolocation grid points"
            )
        return numbers

    grid = GeolocationGrid(
        values("line"),
        values("pixel"),
        values("incidenceAngle"),
        values("slantRangeTime") * LIGHT_M_PER_S / 2,
    )
    if len({len(part) for part in vars(grid).values()}) != 1:
        raise AnnotationError(f"{shown(href)}: its geolocation grid points are incomplete")
    return grid


def xml_of(href: str, access: Access) -> ElementTree.Element:
    """The parsed XML behind a path or URL. Raises AnnotationError."""
    content = retry(
        lambda: _fetch(href, access),
        lambda error: isinstance(error, UnreachableError),
        attempts=attempts_at(href),
    )
    # Products have no document types; entities defined in one are how XML is made to explode.
    if len(content) > LARGEST_BYTES or b"<!DOCTYPE" in content:
        raise AnnotationError(f"{shown(href)} is no annotation: too large, or with a document type")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise AnnotationError(f"{shown(href)} is no XML: {error}") from error


def _fetch(href: str, access: Access) -> bytes:
    address = href
    try:
        address = signed(href) if access.signed else href
        fs, path = fsspec.url_to_fs(address, **_storage_options(href, access))
        return bytes(fs.cat_file(path))
    except FileNotFoundError:
        raise AnnotationError(f"{shown(href)} is not there") from None
    except ArgumentError as error:
        raise AnnotationError(f"{shown(href)} cannot be read: {error}") from error
    except Exception as error:  # every storage library has its own tree of errors
        why = without_secrets(str(error) or type(error).__name__, address)
        # Without its cause, which may hold a signature.
        raise UnreachableError(f"{shown(href)} cannot be read: {why}") from None


def _storage_options(href: str, access: Access) -> dict[str, Any]:
    if not href.startswith("s3://"):
        return {}
    if access.copernicus:
        return aws.copernicus_storage_options()
    return {**aws.storage_options(), "requester_pays": access.requester_pays}
