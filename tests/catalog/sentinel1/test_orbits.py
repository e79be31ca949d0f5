"""Orbit files: the right one is found, and scenes are placed by it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from catalog.archives.items import Asset
from catalog.archives.providers import Access
from catalog.errors import SceneReadError
from catalog.pixels.scene import probe
from catalog.sentinel1.annotation import AnnotationError
from catalog.sentinel1.orbits import find_orbit_file, states_around
from catalog.sentinel1.range_doppler import range_doppler_of
from tests.support.grd import LATITUDE, LONGITUDE, Radar, flat, region, write_grd
from tests.support.grd_annotations import write_annotation
from tests.support.scenes import noise, scene

Floats = NDArray[np.float64]
WHEN = datetime(2024, 6, 14, 5, 34, 20, tzinfo=UTC)
FIRST = np.datetime64("2024-06-14T05:34:20", "ns")
SMALL = Radar(flat, shape=(600, 600), points=(3, 3))
PRECISE = "S1A_OPER_AUX_POEORB_OPOD_20240704T070000_V20240613T225942_20240615T005942.EOF"
RESTITUTED = "S1A_OPER_AUX_RESORB_OPOD_20240614T090000_V20240614T034500_20240614T070000.EOF"


def write_orbit(path: Path, radar: Radar, ahead_s: float = 0.0, every_s: float = 10.0) -> Path:
    """States of a made satellite, which was ahead of what its annotation tells."""
    seconds = np.arange(-1_000, 1_000, every_s)
    states = "".join(
        f"<OSV><UTC>UTC={FIRST + np.timedelta64(round(s * 1e9), 'ns')}</UTC>"
        + "".join(f'<{n} unit="m">{v:.12e}</{n}>' for n, v in zip("XYZ", position, strict=True))
        + "".join(f"<V{n}>{v:.12e}</V{n}>" for n, v in zip("XYZ", velocity, strict=True))
        + "</OSV>"
        for s, position, velocity in zip(seconds, *radar.states(seconds + ahead_s), strict=True)
    )
    path.write_text(
        "<Earth_Explorer_File><Data_Block type='xml'><List_of_OSVs>"
        f"{states}</List_of_OSVs></Data_Block></Earth_Explorer_File>"
    )
    return path


def test_the_precise_file_of_the_satellite_and_time_is_found(tmp_path: Path) -> None:
    names = [
        PRECISE,
        RESTITUTED,
        PRECISE.replace("20240704T07", "20240704T06"),  # an earlier version of it
        PRECISE.replace("S1A", "S1B"),
        PRECISE.replace("V20240613T225942_20240615", "V20240614T225942_20240616"),
        f"{PRECISE}.zip",
        "README",
    ]
    for name in names:
        (tmp_path / name).touch()

    def found(*called: str | None, when: datetime = WHEN) -> str | None:
        file = find_orbit_file(tmp_path.iterdir(), called, when)
        return None if file is None else Path(file).name

    assert found("sentinel-1a") == PRECISE
    assert found("SENTINEL-1A") == PRECISE
    assert found(None, "S1A_IW_GRDH_1SDV_20240614T053420_...") == PRECISE
    assert found("sentinel-1", "S1B_IW_GRDH") == PRECISE.replace("S1A", "S1B")
    assert found("sentinel-1c") is None
    assert found(None, "a scene of mine") is None
    assert found("sentinel-1a", when=datetime(2024, 6, 1, tzinfo=UTC)) is None
    (tmp_path / PRECISE).unlink()
    (tmp_path / names[2]).unlink()
    assert found("sentinel-1a") == RESTITUTED
    # At the ends of what a file tells, it does not tell the whole scene.
    assert found("sentinel-1a", when=datetime(2024, 6, 14, 6, 59, tzinfo=UTC)) is None


def test_an_orbit_file_replaces_the_orbit_of_the_annotation(tmp_path: Path) -> None:
    annotation = str(write_annotation(tmp_path / "p.xml", SMALL))
    place = np.array([LONGITUDE]), np.array([LATITUDE]), np.array([412.0])
    told = range_doppler_of(annotation, Access()).view(*place)
    same = write_orbit(tmp_path / "same.EOF", SMALL)
    found = range_doppler_of(annotation, Access(), str(same)).view(*place)
    # States ten seconds apart leave less than a millimetre between them.
    np.testing.assert_allclose(found[0], told[0], atol=1e-3)
    np.testing.assert_allclose(found[1], told[1], atol=1e-2)
    ahead = write_orbit(tmp_path / "ahead.EOF", SMALL, ahead_s=0.03)
    earlier = range_doppler_of(annotation, Access(), str(ahead)).view(*place)
    np.testing.assert_allclose(earlier[0], told[0] - 20, atol=1e-3)  # lines of 1.5 ms


def test_only_the_states_around_the_scene_are_read(tmp_path: Path) -> None:
    seconds, positions, velocities = states_around(
        str(write_orbit(tmp_path / "o.EOF", SMALL)), FIRST, 25.0
    )
    np.testing.assert_allclose(seconds, np.arange(-40, 71, 10))
    assert positions.shape == velocities.shape == (12, 3)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("OSV>", "other>", "has 0 sound states"),
        ("<X unit", "<Y unit", "is no orbit file"),
        ("UTC=2024", "UTC=last year, 2024", "is no orbit file"),
        ("UTC=2024", "UTC=2023", "has 0 sound states"),
    ],
)
def test_a_broken_orbit_file_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = write_orbit(tmp_path / "o.EOF", SMALL)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(AnnotationError, match=says) as caught:
        states_around(str(path), FIRST, 25.0)
    assert str(path) in str(caught.value)
    grd = str(write_grd(tmp_path / "vv.tif", SMALL, noise((1, 600, 600))))
    annotation = str(write_annotation(tmp_path / "p.xml", SMALL))
    asset = Asset("vv", grd, ("vv",), annotation=annotation)
    with pytest.raises(SceneReadError, match=says):
        probe(scene("S1", region(3), assets=(asset,), orbit_file=str(path)))
