"""The XML beside a product: on a disk, over HTTP, and where it is not what it should be."""

from __future__ import annotations

import functools
import http.server
from pathlib import Path

import numpy as np
import pytest

from catalog import objects, retrying
from catalog.archives.providers import Access
from catalog.sentinel1.annotation import AnnotationError, geolocation_grid
from tests.support.grd import Radar, mountains, write_annotation
from tests.support.loopback import serving
from tests.support.object_store import Swift, aws_environment, new_bucket


def test_angles_and_distances_are_the_products(tmp_path: Path) -> None:
    radar = Radar(mountains)
    path = write_annotation(tmp_path / "iw-vv.xml", radar)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)) as address:
        grids = [
            geolocation_grid(str(path), Access()),
            geolocation_grid(f"http://{address}/iw-vv.xml", Access()),
        ]
    points = radar.control_points
    x, y, z = (np.array([getattr(point, axis) for point in points]) for axis in "xyz")
    incidence, slant_range = radar.look(x, y, z)
    for grid in grids:
        np.testing.assert_allclose(grid.incidence_deg, incidence)
        np.testing.assert_allclose(grid.slant_range_m, slant_range)
        assert grid.pixels.tolist() == [point.col for point in points]
        assert grid.lines.tolist() == [point.row for point in points]


def test_buckets_are_read_as_their_archive_needs(
    tmp_path: Path, swift: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the account of the environment, and with one of the Copernicus Data Space."""
    path = write_annotation(
        tmp_path / "iw-vv.xml", Radar(mountains, shape=(400, 400), points=(3, 3))
    )
    expected = geolocation_grid(str(path), Access())
    there = swift.environment()
    with aws_environment(there):
        href = f"{new_bucket()}/iw-vv.xml"
        objects.put(href, path.read_bytes())
        for access in (Access(), Access(requester_pays=True)):
            found = geolocation_grid(href, access)
            assert np.array_equal(found.incidence_deg, expected.incidence_deg)
    elsewhere = {**there, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    with aws_environment(elsewhere):
        with pytest.raises(
            AnnotationError, match=r"iw-vv\.xml cannot be read: .*CDSE_ACCESS_KEY_ID"
        ):
            geolocation_grid(href, Access(copernicus=True))
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            monkeypatch.setenv(f"CDSE_{name}", there[f"AWS_{name}"])
        monkeypatch.setenv("CDSE_ENDPOINT_URL", there["AWS_ENDPOINT_URL"])
        found = geolocation_grid(href, Access(copernicus=True))
        assert np.array_equal(found.slant_range_m, expected.slant_range_m)


def test_what_is_missing_is_named_without_its_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "FIRST_WAIT_SECONDS", 0.0)
    with pytest.raises(AnnotationError, match=r"none\.xml is not there"):
        geolocation_grid(str(tmp_path / "none.xml"), Access())
    with pytest.raises(AnnotationError, match=r"127\.0\.0\.1:9/none\.xml") as caught:
        geolocation_grid("http://127.0.0.1:9/none.xml?sig=S3CRET", Access())
    assert "S3CRET" not in f"{caught.value} {caught.value.__cause__}"
    other = tmp_path / "other.xml"
    other.write_text(
        "<product><geolocationGridPoint><line>0</line></geolocationGridPoint></product>"
    )
    with pytest.raises(AnnotationError, match="is no product annotation: it has 1 sound <line>"):
        geolocation_grid(str(other), Access())
