"""All that is worth five minutes on a machine with a GPU: is it right there, how fast, a granule.

    .venv/bin/python -m tests.benchmarks.gpu                        # the first CUDA device
    .venv/bin/python -m tests.benchmarks.gpu --device cpu --tiny    # tries the script itself

Tiles are drawn ground, SAR shifted by a known distance. `right` matches the same tiles on the CPU
and on the device: a GPU computes features in bfloat16, so matches differ, but their error against
the known shift must not. `tiles/s` is of whole batches, from pinned memory to matches on the host.
`granule` matches as many tiles of a scene as `--seconds` allow, and says whether the rest is
extrapolated. `launches` replays a batch as one CUDA graph, where that can be captured: what it
saves is the time of launches. Reading and the fit are not in it: they are the CPU's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from tar_engine import Registrar
from tar_engine.fields.matches import BatchMatches, Matches
from tar_engine.training.evaluate import align_columns
from tar_engine.training.synthesis import synthetic_pair
from tests.benchmarks.engine import HALO_PX, MOSAIC_PX, SHIFT_XY

Tiles = tuple[Tensor, Tensor]
Lines = Iterator[list[str]]
PRIOR_PX = 32.0  # as in a run
REMAINDER_PX = 8.0  # as in a run, around what is remembered
CORE_PX = 512
CELL_PX = 16
GRANULE_PX = 10980
BATCHES = (1, 2, 4, 8, 16, 32)
WAYS = ("prior", "start", "anywhere")


def main() -> None:
    """Print the tables."""
    args = arguments()
    torch.set_num_threads(args.threads)
    device = Registrar.load(device=args.device)
    host = Registrar.load(device="cpu")
    side = 192 if args.tiny else CORE_PX + 2 * HALO_PX
    batches = BATCHES[:2] if args.tiny else BATCHES
    tiles = draw_tiles(max(batches), side)
    print(f"{describe(device.device)}; torch {torch.__version__}; tiles of {side} px\n")
    few = 1 if args.tiny else 4
    print(align_columns(list(right_lines(host, device, tiles, few))), end="\n\n")
    ways = WAYS[:2] if args.tiny else WAYS
    speeds = list(speed_lines(device, tiles, batches, ways))
    print(align_columns(speeds), end="\n\n")
    within = [line for line in speeds[1:] if line[0] == "prior" and len(line) > 3]
    best = max(within, key=lambda line: float(line[2]))
    seconds = 1 if args.tiny else args.seconds
    print(align_columns(list(granule_lines(device, tiles, int(best[1]), seconds))))
    if device.device.type == "cuda":  # last, since a capture that fails may leave the device broken
        print("\n" + align_columns(list(launch_lines(device, tiles))))


def describe(device: torch.device) -> str:
    """The device, in words."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def draw_tiles(count: int, side: int) -> Tiles:
    """Optical (count, 3, side, side) and SAR (count, 1, ...) float32, pinned where that helps."""
    drawn = synthetic_pair(0, MOSAIC_PX)
    sar = np.roll(drawn.sar, SHIFT_XY, axis=(2, 1))
    corners = np.random.default_rng(0).integers(0, MOSAIC_PX, (count, 2))
    cuts = []
    for image in (drawn.optical, sar):
        cut = [
            image[:, (y + np.arange(side))[:, None] % MOSAIC_PX, (x + np.arange(side)) % MOSAIC_PX]
            for y, x in corners
        ]
        stacked = torch.from_numpy(np.stack(cut)).float()
        cuts.append(stacked.pin_memory() if torch.cuda.is_available() else stacked)
    return cuts[0], cuts[1]


def match(registrar: Registrar, tiles: Tiles, way: str) -> BatchMatches:
    """Match a batch as a run would: within the prior, from what is remembered, or anywhere."""
    optical, sar = (part.to(registrar.device, non_blocking=True) for part in tiles)
    if way == "anywhere":
        return registrar.match_batch(optical, sar)
    if way == "prior":
        return registrar.match_batch(optical, sar, max_offset_px=PRIOR_PX)
    cells = [side // CELL_PX for side in optical.shape[-2:]]
    start = torch.zeros(len(optical), 2, *cells, device=registrar.device)
    return registrar.match_batch(optical, sar, max_offset_px=REMAINDER_PX, start=start)


def to_host(found: BatchMatches) -> list[Matches]:
    return [found.of_pair(index) for index in range(len(found.confidence))]


def first(tiles: Tiles, count: int) -> Tiles:
    return tiles[0][:count], tiles[1][:count]


def right_lines(host: Registrar, device: Registrar, tiles: Tiles, few: int) -> Lines:
    """The same tiles on both: errors against the known shift, and how far apart they are."""
    yield ["right", "error here", "error CPU", "apart median", "apart 95 %", "confirmed", "on CPU"]
    for way in WAYS[:2] if few == 1 else WAYS:
        here, there = (
            Matches.concatenate(to_host(match(one, first(tiles, few), way)))
            for one in (device, host)
        )
        both = (here.confidence > 0) & (there.confidence > 0)
        apart = np.hypot(*(here.sar_xy - there.sar_xy)[both].T)
        errors = [
            np.median(np.hypot(*(found.sar_xy - found.optical_xy - SHIFT_XY)[both].T))
            for found in (here, there)
        ]
        confirmed = [f"{found.confirmed_share:.1%}" for found in (here, there)]
        quantiles = np.median(apart), np.quantile(apart, 0.95)
        yield [way, *(f"{figure:.3f}" for figure in (*errors, *quantiles)), *confirmed]


def seconds_of(work: Callable[[], object], registrar: Registrar, repeats: int = 3) -> float:
    """The fastest of some runs, after one that pays for what is set up once."""
    finish = torch.cuda.synchronize if registrar.device.type == "cuda" else lambda: None
    took = []
    for _ in range(repeats + 1):
        finish()
        started = time.perf_counter()
        work()
        finish()
        took.append(time.perf_counter() - started)
    return min(took[1:])


def speed_lines(
    registrar: Registrar, tiles: Tiles, batches: tuple[int, ...], ways: tuple[str, ...]
) -> Lines:
    """Tiles per second and peak memory by batch size; the first that does not fit ends a way."""
    on_cuda = registrar.device.type == "cuda"
    yield ["way", "tiles a batch", "tiles/s", "ms/tile", *(["peak MiB"] if on_cuda else [])]
    for way in ways:
        for batch in batches:
            some = first(tiles, batch)
            if on_cuda:
                torch.cuda.reset_peak_memory_stats()
            try:
                took = seconds_of(lambda s=some, w=way: to_host(match(registrar, s, w)), registrar)  # type: ignore[misc]
            except torch.cuda.OutOfMemoryError:
                yield [way, str(batch), "does not fit"]
                break
            peak = [f"{torch.cuda.max_memory_allocated() / 2**20:.0f}"] if on_cuda else []
            yield [way, str(batch), f"{batch / took:.2f}", f"{1e3 * took / batch:.1f}", *peak]


def launch_lines(registrar: Registrar, tiles: Tiles) -> Lines:
    """A batch run as it is and as one CUDA graph: nothing in it waits, so it can be replayed."""
    yield ["launches", "tiles a batch", "ms as it is", "ms as a graph"]
    for batch in BATCHES[:4]:
        some = tuple(part[:batch].to(registrar.device) for part in tiles)
        eager = seconds_of(lambda s=some: match(registrar, s, "prior"), registrar)  # type: ignore[misc]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                match(registrar, some, "prior")  # type: ignore[arg-type]
        except RuntimeError as error:
            yield ["", str(batch), f"{1e3 * eager:.1f}", f"not captured: {str(error)[:60]}"]
            return
        yield [
            "",
            str(batch),
            f"{1e3 * eager:.1f}",
            f"{1e3 * seconds_of(graph.replay, registrar):.1f}",
        ]


def granule_lines(registrar: Registrar, tiles: Tiles, batch: int, seconds: float) -> Lines:
    """All tiles of a granule within the prior, or as many as fit the time."""
    count, done, some = (-(-GRANULE_PX // CORE_PX)) ** 2, 0, first(tiles, batch)
    to_host(match(registrar, some, "prior"))
    started = time.perf_counter()
    while done < count and time.perf_counter() - started < seconds:
        to_host(match(registrar, some, "prior"))
        done += batch
    took = time.perf_counter() - started
    yield ["granule", "tiles a batch", "tiles run", "s", f"s for {count} tiles", ""]
    how = "measured" if done >= count else f"extrapolated from {done} tiles"
    yield ["", str(batch), str(done), f"{took:.1f}", f"{took / done * count:.1f}", how]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    parser.add_argument("--seconds", type=float, default=90.0, help="at most, for the granule")
    parser.add_argument("--tiny", action="store_true", help="small and few, to try the script")
    return parser.parse_args()


if __name__ == "__main__":
    main()
