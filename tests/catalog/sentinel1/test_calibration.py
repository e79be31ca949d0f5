"""Calibration: the table against a closed form, and what a broken one says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from catalog.archives.providers import Access
from catalog.sentinel1.annotation import AnnotationError
from catalog.sentinel1.calibration import sigma_table
from tests.support.grd import Radar, flat
from tests.support.grd_annotations import sigma_nought, write_calibration


def test_the_table_is_bilinear_and_keeps_its_edges(tmp_path: Path) -> None:
    radar = Radar(flat, shape=(3_000, 2_500))
    table = sigma_table(str(write_calibration(tmp_path / "c.xml", radar)), Access())
    rows, columns = np.array([0.0, 10.5, 660, 1_000, 2_999]), np.array([0.0, 39, 40.25, 2_499])
    lines, pixels = table.lines, table.pixels[0]
    grid = RegularGridInterpolator((lines, pixels), np.stack(table.values))
    crossings = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    np.testing.assert_allclose(table.at(rows, columns), grid(crossings), rtol=1e-12)
    np.testing.assert_allclose(table.at(rows, columns), sigma_nought(rows, columns), rtol=1e-3)
    beyond = table.at(np.array([-5.0, 5_000]), np.array([-5.0, 5_000]))
    np.testing.assert_allclose(beyond, table.at(np.array([0.0, 2_999]), np.array([0.0, 2_499])))


def vector(line: object, pixels: str, values: str) -> str:
    return (
        f"<calibrationVector><line>{line}</line><pixel>{pixels}</pixel>"
        f"<sigmaNought>{values}</sigmaNought></calibrationVector>"
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no xml at all", "is no XML"),
        ("<calibration/>", "no vectors of sigmaNought"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "document type"),
        (vector(0, "0 40", "400"), "2 rising pixels and 1 values"),
        (vector(0, "40 0", "400 401"), "line 0 has"),
        (vector(0, "0 40", "400 -1"), "values of sigmaNought from zero up"),
        (vector(0, "0 40", "400 0"), "is not positive everywhere"),
        (vector(0, "0 40", "400 many"), "a vector of sigmaNought is"),
        (vector("", "0 40", "400 401"), "a vector of sigmaNought is"),
        (vector(9, "0 40", "4 4") + vector(0, "0 40", "4 4"), "in the order of lines"),
    ],
)
def test_a_broken_table_is_named(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "c.xml"
    if content.startswith("<calibrationVector"):
        content = f"<c><calibrationVectorList>{content}</calibrationVectorList></c>"
    path.write_text(content)
    with pytest.raises(AnnotationError, match=says) as caught:
        sigma_table(str(path), Access())
    assert str(path) in str(caught.value)


def test_one_vector_serves_every_line(tmp_path: Path) -> None:
    path = tmp_path / "c.xml"
    content = vector(0, "0 40", "400 440")
    path.write_text(f"<c><calibrationVectorList>{content}</calibrationVectorList></c>")
    table = sigma_table(str(path), Access()).at(np.array([0.0, 900.0]), np.array([0.0, 20.0]))
    assert table.tolist() == [[400, 420], [400, 420]]
