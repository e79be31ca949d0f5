"""The XML beside a product: on a disk, over HTTP, and where it is not what it should be."""

from __future__ import annotations

import functools
import http.server
from pathlib import Path
from xml.etree import ElementTree

import pytest

from catalog import objects, retrying
from catalog.archives.providers import Access
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
