"""The XML files beside a Sentinel-1 product, fetched and parsed."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import fsspec
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from catalog import aws
from catalog.archives.providers import Access
from catalog.archives.reach import without_keys
from catalog.errors import ArgumentError, shown, without_secrets
from catalog.outside.answers import TIMEOUT_SECONDS, Limits, RefusedAnswer, session
from catalog.retrying import attempts_at, retry
from catalog.signing import signed

LARGEST_BYTES = 8 * 2**20  # an orbit file has four megabytes, other annotations one or two
MOST_ELEMENTS = 300_000  # an orbit file has a third of it; each takes a hundred bytes and more
LIMITS = Limits(answer_bytes=LARGEST_BYTES, all_bytes=2 * LARGEST_BYTES, seconds=600.0)
GONE = (404, 410)


class AnnotationError(ValueError):
    """An XML file that is missing or is not what it should be; the message names it."""


class UnreachableError(AnnotationError):
    """An XML file that its server did not give, which may pass."""


class _FewElements(ElementTree.TreeBuilder):
    """Builds the tree of a file, up to a number of elements."""

    def __init__(self, href: str) -> None:
        super().__init__()
        self._href, self._left = href, MOST_ELEMENTS

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        self._left -= 1
        if self._left < 0:
            raise AnnotationError(
                f"{shown(self._href)} is no annotation: it has more than {MOST_ELEMENTS} elements"
            )
        return super().start(tag, attrs)


def xml_of(href: str, access: Access) -> ElementTree.Element:
    """The parsed XML behind a path or URL.

    Raises AnnotationError, also for what products never have and attacks do: a document type, in
    which entities are defined that grow or lead to other files, and bytes or elements without end.
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
        parser = DefusedXMLParser(target=_FewElements(href), forbid_dtd=True)
        parser.feed(content)
        return parser.close()
    except DefusedXmlException as error:
        raise AnnotationError(
            f"{shown(href)} is no annotation: it has a document type, which could make it grow or "
            "lead to other files"
        ) from error
    except AnnotationError:
        raise
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
        note = without_keys(href, access)
        raise UnreachableError(f"{shown(href)} cannot be read: {why}{note}") from None


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
    how = {"requester_pays": access.requester_pays, "anon": access.unsigned}
    return {**aws.storage_options(), **how}
