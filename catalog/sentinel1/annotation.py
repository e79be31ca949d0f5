"""The XML files beside a Sentinel-1 product, fetched and parsed."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import defusedxml.ElementTree
import fsspec
from defusedxml import DefusedXmlException

from catalog import aws
from catalog.archives.providers import Access
from catalog.errors import ArgumentError, shown, without_secrets
from catalog.outside.answers import TIMEOUT_SECONDS, Limits, RefusedAnswer, session
from catalog.retrying import attempts_at, retry
from catalog.signing import signed

LARGEST_BYTES = 64 * 2**20  # annotations are some megabytes
LIMITS = Limits(answer_bytes=LARGEST_BYTES, all_bytes=2 * LARGEST_BYTES, seconds=600.0)
GONE = (404, 410)


class AnnotationError(ValueError):
    """An XML file that is missing or is not what it should be; the message names it."""


class UnreachableError(AnnotationError):
    """An XML file that its server did not give, which may pass."""


def xml_of(href: str, access: Access) -> ElementTree.Element:
    """The parsed XML behind a path or URL.

    Raises AnnotationError, also for what products never have and attacks do: a document type, in
    which entities are defined that grow or lead to other files, and endless bytes.
    """
    content = retry(
        lambda: _fetch(href, access),
        lambda error: isinstance(error, UnreachableError),
        attempts=attempts_at(href),
    )
    if len(content) > LARGEST_BYTES:
        raise AnnotationError(
            f"{shown(href)} is no annotation: it has more than {LARGEST_BYTES / 2**20:.0f} MiB"
        )
    try:
        return defusedxml.ElementTree.fromstring(content, forbid_dtd=True)
    except DefusedXmlException as error:
        raise AnnotationError(
            f"{shown(href)} is no annotation: it has a document type, which could make it grow or "
            "lead to other files"
        ) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # its encoding is unknown
        raise AnnotationError(f"{shown(href)} is no XML: {error}") from error


def _fetch(href: str, access: Access) -> bytes:
    address = href
    try:
        address = signed(href) if access.signed else href
        if href.startswith(("http://", "https://")):
            return _fetch_by_http(address, inside=access.inside)
        fs, path = fsspec.url_to_fs(address, **_storage_options(href, access))
        return bytes(fs.cat_file(path, start=0, end=LARGEST_BYTES + 1))
    except FileNotFoundError:
        raise AnnotationError(f"{shown(href)} is not there") from None
    except RefusedAnswer as error:
        raise AnnotationError(f"{shown(href)} cannot be read: {error}") from error
    except ArgumentError as error:
        raise AnnotationError(f"{shown(href)} cannot be read: {error}") from error
    except Exception as error:  # every storage library has its own tree of errors
        why = without_secrets(str(error) or type(error).__name__, address)
        # Without its cause, which may hold a signature.
        raise UnreachableError(f"{shown(href)} cannot be read: {why}") from None


def _fetch_by_http(address: str, *, inside: bool) -> bytes:
    with session(LIMITS, inside=inside) as asking:
        answer = asking.get(address, timeout=TIMEOUT_SECONDS)
    if answer.status_code in GONE:
        raise FileNotFoundError(address)
    answer.raise_for_status()
    return answer.content


def _storage_options(href: str, access: Access) -> dict[str, Any]:
    if not href.startswith("s3://"):
        return {}
    if access.copernicus:
        return aws.copernicus_storage_options()
    return {**aws.storage_options(), "requester_pays": access.requester_pays}
