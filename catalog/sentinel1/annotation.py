"""The XML files beside a Sentinel-1 product, fetched and parsed."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import fsspec

from catalog import aws
from catalog.archives.providers import Access
from catalog.errors import ArgumentError, shown, without_secrets
from catalog.retrying import attempts_at, retry
from catalog.signing import signed

LARGEST_BYTES = 64 * 2**20  # annotations are some megabytes


class AnnotationError(ValueError):
    """An XML file that is missing or is not what it should be; the message names it."""


class UnreachableError(AnnotationError):
    """An XML file that its server did not give, which may pass."""


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
