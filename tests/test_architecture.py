"""The import laws: which packages know each other, and which floors of one package."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "catalog": {"tar_engine", "flows", "prefect", "distributed"},
    "tar_engine": {"catalog", "flows", "prefect", "dask", "distributed", "xarray", "rasterio"},
}

# From the ground up: a room may import what stands on floors below its own, never above.
FLOORS = {
    "catalog": (
        "errors retrying", "crs longitudes aws child_server signing outside", "grid objects",
        "archives", "sentinel1", "pixels", "store", "cube stac_api", "memory retention export",
    ),
    "tar_engine": (
        "errors config constants", "coordinates", "deformation", "fields", "network", "matching",
        "register", "training",
    ),
    "flows": (
        "progress colours prefect_server", "cluster", "plan", "stages", "memory", "outcome",
        "report", "tasks", "estimate_slot", "run_region", "register_region", "service", "view",
        "cli",
    ),
}  # fmt: skip
MOST_FILES = 12


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


def modules_of(package: str) -> dict[str, Path]:
    """Every module of a package by its dotted name."""
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
        for file in (ROOT / package).rglob("*.py")
    }


def imports_of(module: str, modules: dict[str, Path]) -> set[str]:
    """Which of `modules` a module imports, wherever in it."""
    named = set()
    for node in ast.walk(ast.parse(modules[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & modules.keys()
            named |= inside or {node.module}
    return (named & modules.keys()) - {module}


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_no_import_points_to_a_higher_floor(package: str) -> None:
    floor = {
        f"{package}.{room}": number
        for number, rooms in enumerate(FLOORS[package])
        for room in rooms.split()
    }

    def floor_of(module: str) -> int:
        return floor[".".join(module.split(".")[:2])]

    modules = modules_of(package)
    upward = {
        f"{module} -> {other}"
        for module in modules
        if module != package
        for other in imports_of(module, modules) - {package}
        if floor_of(other) > floor_of(module)
        or (floor_of(other) == floor_of(module) and module.split(".")[1] != other.split(".")[1])
    }
    assert not upward


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_no_modules_import_each_other_in_a_circle(package: str) -> None:
    modules = modules_of(package)
    order = TopologicalSorter({module: imports_of(module, modules) for module in modules})
    order.prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("package", sorted(FLOORS))
def test_a_reader_meets_few_files_at_once(package: str) -> None:
    folders = {
        package,
        *(str(file.parent.relative_to(ROOT)) for file in modules_of(package).values()),
    }
    crowded = {
        folder: count
        for folder in folders
        if (count := len(list((ROOT / folder).glob("*.py")))) > MOST_FILES
    }
    assert not crowded


def loaded_by(code: str, among: tuple[str, ...]) -> list[str]:
    """Which of these modules a new Python has imported once it ran `code`."""
    asking = f"{code}; import sys; print(*[name for name in {among} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, check=True)
    return out.stdout.split()


def test_inference_needs_neither_open_clip_nor_prefect() -> None:
    heavy = ("open_clip", "torchvision", "prefect", "transformers")
    assert not loaded_by("import tar_engine", heavy)


def test_a_lattice_is_made_without_xarray_and_zarr() -> None:
    heavy = ("dask.array", "xarray", "zarr")
    assert not loaded_by("import catalog, catalog.grid", heavy)
    assert loaded_by("import catalog; catalog.composite, catalog.open_mosaic", heavy)


def test_no_file_grows_past_four_hundred_lines() -> None:
    files = [
        f for p in ("catalog", "flows", "tar_engine", "tests") for f in (ROOT / p).rglob("*.py")
    ]
    long = {file.name: n for file in files if (n := len(file.read_text().splitlines())) > 400}
    assert not long
