"""What a granule costs: one Sentinel-2 granule with a Sentinel-1 scene over it, through the flow.

    .venv/bin/python -m tests.benchmarks.granule [--side 10980] [--grid 1] [--keep FOLDER]

The ground is nine real scenes grown by reflection, or drawn where those are absent: four bands of
16-bit reflectance, scene classes, VV and VH as floats on a grid of their own, all as
cloud-optimised GeoTIFFs. `tar-pipeline run` makes the mosaic in a process of its own; what it takes
is sampled from outside, stage by stage as the store shows them. Below stands what reading these
files and writing this mosaic takes alone. `--grid 2` lays 2 x 2 granules side by side.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import rasterio
import zarr
from affine import Affine
from pyproj import Transformer

from tar_engine.training.synthesis import draw_ground, optical_image, sar_image
from tests.support.scenes import REAL_ITEMS, REAL_SCENES

CRS, PX_M, ZONE_CENTRE_M, TOP_M = "EPSG:32611", 10.0, 500_000.0, 3_800_000.0
BANDS = ("red", "green", "blue", "nir")
SCALE, OFFSET = 0.0001, -0.1
SAR_SUBPIXEL = (0.4, 0.3)  # the radar's grid does not fall on the optical one
STAGES = ("plan and estimate", "compose", "overviews", "publish and report")
INSET_PX = 2
SAMPLE_S = 0.2
BLOCK_PX = 1024
MIB = 2**20


@dataclass
class Cost:
    """What a stage took, and what it left in the store."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    driver_mib: float = 0.0
    worker_mib: float = 0.0
    bytes: int = 0
    objects: int = 0


@dataclass
class Processes:
    """A process and all it started: CPU seconds so far, ended ones included."""

    root: psutil.Process
    cpu_s: dict[int, float] = field(default_factory=dict)

    def sample(self, cost: Cost) -> float:
        """Note peaks of memory; the CPU seconds of all processes since they began."""
        try:
            for process in (self.root, *self.root.children(recursive=True)):
                times = process.cpu_times()
                self.cpu_s[process.pid] = times.user + times.system
                resident = process.memory_info().rss / MIB
                if process == self.root:
                    cost.driver_mib = max(cost.driver_mib, resident)
                else:
                    cost.worker_mib = max(cost.worker_mib, resident)
        except psutil.Error:  # it ended between being listed and being asked
            pass
        return sum(self.cpu_s.values())


def main() -> None:
    """Make the scenes, run, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=10980, help="of a granule, pixels")
    parser.add_argument("--grid", type=int, default=1, help="so many granules squared")
    parser.add_argument("--keep", type=Path, help="leave scenes and mosaic in this folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bbox = write_granules(folder, args.side, args.grid)
        store = folder / "store"
        shutil.rmtree(store, ignore_errors=True)
        costs = run(folder / "items.json", bbox, store)
        print_stages(costs)
        print_alone(folder, store)
        print_sizes(folder, store / "granule")


def write_granules(folder: Path, side: int, grid: int) -> tuple[float, float, float, float]:
    """Scenes and their ItemCollection; returns a box that lies within all of them."""
    optical, sar = ground()
    items = []
    for row in range(grid):
        for column in range(grid):
            rows = folded(np.arange(row * side, (row + 1) * side), optical.shape[1])
            columns = folded(np.arange(column * side, (column + 1) * side), optical.shape[2])
            corner = ZONE_CENTRE_M + (column - grid / 2) * side * PX_M, TOP_M - row * side * PX_M
            place, seed = np.ix_(rows, columns), row * grid + column
            name = f"{row}{column}"
            items.append(write_optical(folder, f"S2-{name}", optical, place, corner, seed))
            items.append(write_sar(folder, f"S1-{name}", sar, place, corner, seed))
    collection = {"type": "FeatureCollection", "features": items}
    (folder / "items.json").write_text(json.dumps(collection))
    # A little inside, so that the lattice (snapped outwards) stays on the ground.
    corner = ZONE_CENTRE_M - (grid * side / 2 - INSET_PX) * PX_M, TOP_M - INSET_PX * PX_M
    outline = corners_lonlat(corner, grid * side - 2 * INSET_PX)
    south_west, south_east, north_east, north_west = outline
    return (
        max(south_west[0], north_west[0]), max(south_west[1], south_east[1]),
        min(south_east[0], north_east[0]), min(north_west[1], north_east[1]),
    )  # fmt: skip


def ground() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """What both sensors see as (3, H, W) and (H, W), 1 to 255: nine real scenes, or drawn ones."""
    if not REAL_ITEMS.exists():
        print("ground: DRAWN, for there are no real scenes here")
        drawn = draw_ground(2048, seed=7)
        sar = sar_image(drawn, SAR_SUBPIXEL)[0]
        low, high = np.quantile(sar, (0.02, 0.98))
        grey = 1 + 254 * np.clip((sar - low) / (high - low), 0, 1)
        return optical_image(drawn).astype(np.uint8), grey.astype(np.uint8)
    print("ground: nine real scenes, grown by reflection")
    optical, sar = np.zeros((3, 3072, 3072), np.uint8), np.zeros((3072, 3072), np.uint8)
    scenes = sorted(REAL_SCENES.glob("T11SMT_*_S2.tif"))
    with rasterio.open(scenes[0]) as first:
        origin = first.transform
    for path in scenes:
        with rasterio.open(path) as one, rasterio.open(f"{path}".replace("_S2", "_S1")) as other:
            column, row = (round(value) for value in ~origin @ (one.transform.c, one.transform.f))
            where = np.s_[row : row + one.height, column : column + one.width]
            optical[(slice(None), *where)], sar[where] = one.read(), other.read(1)
    return np.maximum(optical, 1), np.maximum(sar, 1)


def folded(positions: npt.NDArray[np.int64], side: int) -> npt.NDArray[np.int64]:
    """Positions on an endless line laid back and forth over `side` pixels."""
    within = positions % (2 * side)
    return np.where(within < side, within, 2 * side - 1 - within)


def write_optical(
    folder: Path, name: str, grey: npt.NDArray[np.uint8], place: Any,
    corner: tuple[float, float], seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Digital numbers between the grey levels, as if these had been stretched from them."""
    drawn = np.random.default_rng(seed)
    assets = {}
    for index, band in enumerate(BANDS):
        seen = grey[min(index, 2)][place]
        numbers = 1000 + 12 * seen.astype(np.uint16)
        numbers += drawn.integers(0, 12, seen.shape, dtype=np.uint16)
        path = folder / f"{name}-{band}.tif"
        write_cog(path, numbers, corner, PX_M, nodata=0, predictor=2)
        declared = {"name": band, "eo:common_name": band}
        assets[band] = asset(path, [declared]) | {"raster:scale": SCALE, "raster:offset": OFFSET}
    scl = folder / f"{name}-scl.tif"
    classes = np.where(grey[1][place][::2, ::2] > 90, 5, 4).astype(np.uint8)
    write_cog(scl, classes, corner, 2 * PX_M, nodata=0, predictor=1)
    assets["scl"] = asset(scl, [])
    properties = {"platform": "sentinel-2a", "sat:relative_orbit": 27}
    return item(name, "optical", "2020-11-04T18:35:41Z", properties, assets, corner, seen.shape[0])


def write_sar(
    folder: Path, name: str, grey: npt.NDArray[np.uint8], place: Any,
    corner: tuple[float, float], seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Backscatter as power: 25 dB over the grey levels, VV 7 dB above VH, its noise its own."""
    drawn = np.random.default_rng(1000 + seed)
    left, top = corner[0] + SAR_SUBPIXEL[0] * PX_M, corner[1] - SAR_SUBPIXEL[1] * PX_M
    assets = {}
    seen = grey[place]
    for polarisation, floor_db in (("vv", -23.0), ("vh", -30.0)):
        level = seen + drawn.random(seen.shape, dtype=np.float32)
        power = 10 ** ((np.float32(floor_db) + np.float32(25 / 256) * level) / np.float32(10))
        path = folder / f"{name}-{polarisation}.tif"
        write_cog(path, power, (left, top), PX_M, nodata=np.nan, predictor=3)
        assets[polarisation] = asset(path, [{"name": polarisation}])
    properties = {
        "platform": "sentinel-1a", "sat:relative_orbit": 71, "sat:orbit_state": "descending",
        "sar:polarizations": ["VV", "VH"],
    }  # fmt: skip
    return item(name, "sar", "2020-11-05T13:52:41Z", properties, assets, corner, seen.shape[0])


def write_cog(
    path: Path, values: npt.NDArray[Any], corner: tuple[float, float], px_m: float, *,
    nodata: float, predictor: int,
) -> None:  # fmt: skip
    """(H, W) as a cloud-optimised GeoTIFF, as archives keep them; nothing where it lies already."""
    if path.exists():
        return
    height, width = values.shape
    with rasterio.open(
        path, "w", driver="COG", count=1, height=height, width=width, dtype=values.dtype, crs=CRS,
        transform=Affine(px_m, 0, corner[0], 0, -px_m, corner[1]), nodata=nodata,
        compress="deflate", level=6, predictor=predictor, blocksize=512,
    ) as target:  # fmt: skip
        target.write(values, 1)


def asset(path: Path, bands: list[dict[str, str]]) -> dict[str, Any]:
    """A STAC asset, its href relative to the items."""
    return {
        "href": path.name, "type": "image/tiff; application=geotiff", "roles": ["data"],
        "bands": bands,
    }  # fmt: skip


def item(
    name: str, collection: str, when: str, properties: dict[str, Any], assets: dict[str, Any],
    corner: tuple[float, float], side: int,
) -> dict[str, Any]:  # fmt: skip
    """A STAC item."""
    corners = corners_lonlat(corner, side)
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "collection": collection,
        "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
        "bbox": [*np.min(corners, axis=0).tolist(), *np.max(corners, axis=0).tolist()],
        "properties": {"datetime": when, **properties}, "links": [], "assets": assets,
    }  # fmt: skip


def corners_lonlat(corner: tuple[float, float], side: int) -> list[list[float]]:
    """South-west, south-east, north-east, north-west."""
    to_lonlat = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    (left, top), long = corner, side * PX_M
    outline = ((left, top - long), (left + long, top - long), (left + long, top), (left, top))
    return [list(to_lonlat.transform(x, y)) for x, y in outline]


def run(items: Path, bbox: tuple[float, ...], store: Path) -> dict[str, Cost]:
    """`tar-pipeline run` in a process of its own; what each stage took."""
    command = [
        sys.executable, "-m", "flows.cli.main", "run", "--catalog", items, "--optical", "optical",
        "--sar", "sar", "--bands", *BANDS, "--bbox", *bbox, "--start", "2020-11-01",
        "--end", "2020-11-30", "--store", store, "--region", "granule",
    ]  # fmt: skip
    costs = {stage: Cost() for stage in STAGES}
    root = psutil.Popen([str(word) for word in command])
    processes, stage = Processes(root), STAGES[0]
    time_before, cpu_before = time.monotonic(), 0.0
    while root.poll() is None:
        time.sleep(SAMPLE_S)
        cost = costs[stage]
        cpu, now = processes.sample(cost), time.monotonic()
        cost.cpu_s, cost.wall_s = cost.cpu_s + cpu - cpu_before, cost.wall_s + now - time_before
        time_before, cpu_before = now, cpu
        if (new := stage_of(store / "granule")) != stage:
            cost.bytes, cost.objects = weight(store)
            stage = new
    costs[stage].bytes, costs[stage].objects = weight(store)
    if root.returncode:
        sys.exit(f"the run failed with code {root.returncode}")
    return costs


def stage_of(region: Path) -> str:
    """How far a run is, by what lies in the store."""
    if any(region.glob("items/*.json")):
        return STAGES[3]
    if any(region.glob("slots/*/*.receipts/overviews")):
        return STAGES[2]
    return STAGES[1] if any(region.glob("slots/*/*.estimate.npz")) else STAGES[0]


def weight(folder: Path) -> tuple[int, int]:
    """Bytes and number of the files below a folder."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)


def print_stages(costs: dict[str, Cost]) -> None:
    """Stage by stage; bytes and objects are those in the store when it ended."""
    print("\n| stage | wall, s | CPU, s | driver, MiB | worker, MiB | MB so far | objects so far |")
    print("|---|---|---|---|---|---|---|")
    for stage, cost in costs.items():
        print(
            f"| {stage} | {cost.wall_s:.0f} | {cost.cpu_s:.0f} | {cost.driver_mib:.0f} "
            f"| {cost.worker_mib:.0f} | {cost.bytes / 1e6:.1f} | {cost.objects} |"
        )
    wall, cpu = (sum(getattr(c, name) for c in costs.values()) for name in ("wall_s", "cpu_s"))
    print(f"| whole run | {wall:.0f} | {cpu:.0f} | | | | |")


def print_alone(folder: Path, store: Path) -> None:
    """What the same bytes take without any work on them."""
    started, cpu = time.monotonic(), time.process_time()
    for path in folder.glob("*.tif"):
        with rasterio.open(path) as source:
            for _, window in source.block_windows(1):
                source.read(1, window=window)
    wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu
    print(f"| reading the files alone | {wall_s:.0f} | {cpu_s:.0f} | | | | |")
    wall_s = cpu_s = 0.0
    with tempfile.TemporaryDirectory(dir=folder) as copies:
        for array in pixels_of(store):
            copy = zarr.create_array(
                f"{copies}/{array.path}/{array.shape[0]}", shape=array.shape, dtype=array.dtype,
                chunks=array.chunks, shards=array.shards, compressors=array.compressors,
                fill_value=array.fill_value,
            )  # fmt: skip
            for y in range(0, array.shape[0], BLOCK_PX):
                for x in range(0, array.shape[1], BLOCK_PX):
                    block = np.s_[y : y + BLOCK_PX, x : x + BLOCK_PX]
                    values = array[block]
                    started, cpu = time.monotonic(), time.process_time()
                    copy[block] = values
                    wall_s += time.monotonic() - started
                    cpu_s += time.process_time() - cpu
    print(f"| writing the mosaic alone | {wall_s:.0f} | {cpu_s:.0f} | | | | |")


def pixels_of(store: Path) -> Iterator[zarr.Array[Any]]:
    """Every variable of pixels of the mosaic, its overviews' too."""
    for group in store.rglob("*.zarr"):
        for path in sorted(group.rglob("quality")):
            level = zarr.open_group(path.parent, mode="r", zarr_format=3)
            yield from (array for _, array in sorted(level.arrays()) if array.ndim == 2)


def print_sizes(folder: Path, region: Path) -> None:
    """Bytes read and written, and what takes them."""
    read = sum(path.stat().st_size for path in folder.glob("*.tif"))
    written, objects = weight(region)
    print(
        f"\nread {read / 1e6:.1f} MB as files, written {written / 1e6:.1f} MB = "
        f"{written / read:.2f} of it, in {objects} objects"
    )
    print("\n| what | MB | objects |\n|---|---|---|")
    (group,) = region.glob("slots/*/*.zarr")
    parts = {path.name: weight(path) for path in sorted(group.iterdir()) if path.is_dir()}
    inside = [sum(numbers) for numbers in zip(*parts.values(), strict=True)]
    rest = written - inside[0], objects - inside[1]
    for name, (size, count) in {**parts, "all else": rest}.items():
        print(f"| {name} | {size / 1e6:.2f} | {count} |")


if __name__ == "__main__":
    main()
