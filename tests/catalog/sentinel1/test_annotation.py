"""The XML beside a product: on a disk, over HTTP, and where it is not what it should be."""

from __future__ import annotations

import functools
import http.server
from pathlib import Path
from xml.etree import ElementTree

import pytest

from catalog import objects, retrying
from catalog.archives.providers import Access
from catalog.sentinel1 import annotation
from catalog.sentinel1.annotation import AnnotationError, xml_of
from tests.support.grd import Radar, mountains
from tests.support.grd_annotations import write_annotation
from tests.support.loopback import serving
from tests.support.object_store import Swift, aws_environment, new_bucket

SMALL = Radar(mountains, shape=(400, 400), points=(3, 3))


def content(href: str, access: Access) -> bytes:
    return ElementTree.tostring(xml_of(href, access))


def test_a_disk_and_a_server_tell_the_same(tmp_path: Path) -> None:
    path = write_annotation(tmp_path / "iw-vv.xml", SMALL)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as address:
        served = content(f"http://{address}/iw-vv.xml", Access(inside=True))
    assert served == content(str(path), Access())
    assert len(served) > 1_000


def test_buckets_are_read_as_their_archive_needs(
    tmp_path: Path, swift: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the account of the environment, and with one of the Copernicus Data Space."""
    path = write_annotation(tmp_path / "iw-vv.xml", SMALL)
    expected = content(str(path), Access())
    there = swift.environment()
    with aws_environment(there):
        href = f"{new_bucket()}/iw-vv.xml"
        objects.put(href, path.read_bytes())
        for access in (Access(), Access(requester_pays=True)):
            assert content(href, access) == expected
    elsewhere = {**there, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    with aws_environment(elsewhere):
        with pytest.raises(
            AnnotationError, match=r"iw-vv\.xml cannot be read: .*CDSE_ACCESS_KEY_ID"
        ):
            xml_of(href, Access(copernicus=True))
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            monkeypatch.setenv(f"CDSE_{name}", there[f"AWS_{name}"])
        monkeypatch.setenv("CDSE_ENDPOINT_URL", there["AWS_ENDPOINT_URL"])
        assert content(href, Access(copernicus=True)) == expected


def test_what_is_missing_is_named_without_its_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT_SECONDS", 0.0)
    with pytest.raises(AnnotationError, match=r"none\.xml is not there"):
        xml_of(str(tmp_path / "none.xml"), Access())
    with pytest.raises(AnnotationError, match=r"127\.0\.0\.1:9/none\.xml") as caught:
        xml_of("http://127.0.0.1:9/none.xml?sig=S3CRET", Access())
    assert "S3CRET" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ('<!DOCTYPE p [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><p>&b;</p>', "it has a document type"),
        ('<!DOCTYPE p [<!ENTITY x SYSTEM "file:///etc/hostname">]><p>&x;</p>', "document type"),
        ('<!DOCTYPE p SYSTEM "file:///etc/hostname"><p/>', "it has a document type"),
        (f"<p>{'<a/>' * (annotation.MOST_ELEMENTS + 1)}</p>", "more than 300000 elements"),
        (f"<p>{' ' * annotation.LARGEST_BYTES}</p>", "more than 8 MiB"),
        ('<?xml version="1.0" encoding="UTF-7"?><p/>', "is no XML"),
        ('<?xml version="1.0" encoding="no-such"?><p/>', "is no XML"),
        ("", "is no XML"),
    ],
    ids=["grows", "leads to a file", "is told elsewhere", "many", "large", "UTF-7", "odd", "empty"],
)
def test_xml_that_is_no_annotation_is_refused(tmp_path: Path, content: str, fault: str) -> None:
    """From a disk and from a server, in an encoding that hides it as well."""
    path = tmp_path / "x.xml"
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as address:
        for encoding in ("utf-8", "utf-16"):
            path.write_bytes(content.encode(encoding))
            for href in (str(path), f"http://{address}/x.xml"):
                with pytest.raises(AnnotationError, match=r"x\.xml") as caught:
                    xml_of(href, Access(inside=True))
                if encoding == "utf-8":
                    assert fault in str(caught.value)


def test_orbit_files_are_well_within_the_limits(tmp_path: Path) -> None:
    """One of a day has 9361 states of 8 elements, 4.4 MB."""
    state = "<OSV>" + "".join(f"<{name}>1</{name}>" for name in "ABCDEFGH") + "</OSV>"
    path = tmp_path / "x.EOF"
    path.write_text(f"<e>{state * 9361}{' ' * 3_500_000}</e>")
    assert len(xml_of(str(path), Access())) == 9361


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
