"""The one import law: catalog and tar_engine know neither each other nor Prefect."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "catalog": {"tar_engine", "flows", "prefect", "distributed"},
    "tar_engine": {"catalog", "flows", "prefect", "dask", "distributed", "xarray", "rasterio"},
}


def imported(file: Path) -> set[str]:
    """Top-level names of everything a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_the_import_law(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    broken = {file.name: imported(file) & FORBIDDEN[package] for file in files}
    assert not {name: names for name, names in broken.items() if names}


def test_inference_needs_neither_open_clip_nor_prefect() -> None:
    code = (
        "import sys, tar_engine; "
        "heavy = ('open_clip', 'torchvision', 'prefect', 'transformers'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_no_file_grows_past_four_hundred_lines() -> None:
    files = [
        f for p in ("catalog", "flows", "tar_engine", "tests") for f in (ROOT / p).rglob("*.py")
    ]
    long = {file.name: n for file in files if (n := len(file.read_text().splitlines())) > 400}
    assert not long
