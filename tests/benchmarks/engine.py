"""What the engine's time goes into, what the machine could do, and what a whole scene takes.

    .venv/bin/python -m tests.benchmarks.engine --threads 2 [PAIRS_DIR]

Stages are replayed on their own with what `match_batch` gave them; indented ones are parts of the
one above. Only convolutions, matrix products and FFTs count as operations, no sampling, sorting or
element-wise work, and of the fit, which is NumPy, nothing. Bytes are every operator's inputs and
outputs; in a cache they can move faster than the large copy beside them. So a share of a ceiling
hints at what a stage waits for, not at how well it is written. A scene's time is that of tiles
already read; the flows also read and write, and search where a tile's matches disagree. Whether
answers are right is for `matching.py`; the gradients only match what lies close to the identity.
Times hold for the machine, its load and its threads: compare them within one run.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from tar_engine import Registrar, register
from tar_engine.fields.fit import fit
from tar_engine.fields.matches import Matches
from tar_engine.matching import locate, refine
from tar_engine.training.evaluate import align_columns
from tar_engine.training.patches import load_pairs
from tar_engine.training.protocols import PROTOCOLS, Case, make_case
from tar_engine.training.synthesis import synthetic_pair
from tests.benchmarks.baselines import BASELINES, Bytes, oriented_gradient_grid
from tests.support.pairs import drawn_pairs

Lines = Iterator[list[str]]
Times = dict[str, float]  # seconds per pair, by stage

BATCHES = (1, 4, 16)
HALO_PX = 64  # on every side of a tile's core, as the flows cut them: 512 + 2 * 64 = 640 px
PRIOR_PX = 16.0  # the largest offset looked for in a scene, as far as the gradients' grid reaches
MOSAIC_PX = 1280  # of drawn ground; a scene repeats it
SHIFT_XY = (6, -4)  # of a scene's SAR image, px
PROBES = {"cpu": (2048, 2**28), "cuda": (8192, 2**31)}  # side of a product, bytes of a copy
FFTS = (torch.ops.aten._fft_c2c, torch.ops.aten._fft_r2c, torch.ops.aten._fft_c2r)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Calls that together do `pairs` pairs."""

    name: str
    pairs: int
    calls: Sequence[Callable[[], object]]

    @torch.inference_mode()
    def run(self) -> None:
        """Make the calls."""
        for call in self.calls:
            call()


def main() -> None:
    """Print the tables."""
    args = arguments()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    registrar = Registrar.load(device=args.device)
    drawn = {f"drawn{seed}": seed for seed in range(args.pairs)}
    data = load_pairs(args.pairs_dir) if args.pairs_dir else drawn_pairs(drawn)
    cases = [make_case(data, i, PROTOCOLS["large"]) for i in range(min(args.pairs, len(data)))]
    area_px = math.prod(cases[0].optical.shape[1:])
    print(f"{args.device}, {args.threads} threads, {len(cases)} pairs, protocol large\n")
    stages, wholes = replays(registrar, cases), whole_calls(registrar, cases)
    took = {stage.name: seconds(stage, args.device) for stage in (*stages, *wholes)}
    print(align_columns(list(stage_lines([*stages, *wholes], took, area_px, args.device))))
    with patch.object(registrar, "match_batch", wraps=registrar.match_batch) as spy:
        wholes[0].run()
    print(f"{spy.call_count - len(cases)} pairs needed any rotation; {peak_resident()}\n")
    print(align_columns(list(ceiling_lines(stages[:-1], took, args.device))), end="\n\n")
    print(align_columns(list(baseline_lines(cases, took["register"]))), end="\n\n")
    if args.scene:
        print_scene(registrar, args)


def stacked(pairs: Sequence[Case]) -> tuple[Tensor, Tensor]:
    """Their optical and their SAR images."""
    optical, sar = [pair.optical for pair in pairs], [pair.sar for pair in pairs]
    return torch.from_numpy(np.stack(optical)), torch.from_numpy(np.stack(sar))


def replays(registrar: Registrar, cases: Sequence[Case]) -> list[Stage]:
    """Match each pair while watching; then every stage can run again with what it was given."""
    watched: dict[str, tuple[Any, str]] = {
        "normalise": (register, "normalise_with_nan"),
        "describe": (locate, "describe_images"),
        "cloud": (locate, "mask_cloud"),
        "search, usual": (locate, "search_similarities"),
        "search, any": (locate, "search_similarities"),
        "rank": (locate, "rank_by_descriptors"),
        "refine": (register, "refine"),
        "confirm": (register, "confirm_matches"),
        "  low level": (registrar.network, "low_level"),
        "  windows": (refine, "match_windows"),
        "  consensus": (refine, "consensus_affine"),
        "  all together": (refine, "estimate_smooth_offsets"),
    }
    calls: dict[str, list[partial[Any]]] = {}
    with ExitStack() as stack:
        watches = {at: patch.object(*at, wraps=getattr(*at)) for at in watched.values()}
        spies = {at: stack.enter_context(watch) for at, watch in watches.items()}
        found = [registrar.match_batch(*stacked([case])).of_pair(0) for case in cases]
    for name, at in watched.items():
        calls[name] = [partial(getattr(*at), *c.args, **c.kwargs) for c in spies[at].call_args_list]
    calls["search, any"] = [partial(call, any_rotation=True) for call in calls["search, any"]]
    calls["fit"] = [partial(fit, matches, registrar.config.fit) for matches in found]
    return [Stage(name, len(cases), made) for name, made in calls.items()]


def whole_calls(registrar: Registrar, cases: Sequence[Case]) -> list[Stage]:
    """`register` pair by pair, and `match_batch` in batches, where cases may come twice."""
    one_by_one = [partial(registrar.register, case.optical, case.sar) for case in cases]
    stages = [Stage("register", len(cases), one_by_one)]
    for n in BATCHES:
        batch = stacked(list(islice(cycle(cases), n)))
        stages.append(Stage(f"match_batch of {n}", n, [partial(registrar.match_batch, *batch)]))
    return stages


def peak_resident() -> str:
    """Since the process started, with what is kept for replays and probes."""
    return f"peak resident {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB"


def seconds(stage: Stage, device: str, repeats: int = 3) -> float:
    """Per pair: the fastest of some runs, after a first call that pays for what is set up."""
    finish: Callable[[], object] = torch.cuda.synchronize if device == "cuda" else lambda: None
    dataclasses.replace(stage, calls=stage.calls[:1]).run()
    took = []
    for _ in range(repeats):
        finish()
        started = time.perf_counter()
        stage.run()
        finish()
        took.append(time.perf_counter() - started)
    return min(took) / stage.pairs


def stage_lines(stages: Sequence[Stage], took: Times, area_px: int, device: str) -> Lines:
    """On CUDA with the memory at a stage's peak, weights and recorded arguments included."""
    head = ["stage", "ms/pair", "pairs/s", "optical Mpx/s"]
    yield [*head, "peak MiB"] if device == "cuda" else head
    for stage in stages:
        each = took[stage.name]
        rates = f"{1 / each:.1f}", f"{area_px / each / 1e6:.2f}"
        line = [stage.name, f"{1e3 * each:.2f}", *rates]
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            stage.run()
            line.append(f"{torch.cuda.max_memory_allocated() / 2**20:.0f}")
        yield line


def ceiling_lines(stages: Sequence[Stage], took: Times, device: str) -> Lines:
    """What stages do per second, beside a large matrix product and a copy that fits no cache."""
    side, size = PROBES[device]
    source, target = torch.zeros(2, size, dtype=torch.uint8, device=device)
    copied = 2 * size / seconds(Stage("", 1, [partial(target.copy_, source)]), device)
    matmul = {}
    for kind in [torch.float32, torch.bfloat16] if device == "cuda" else [torch.float32]:
        factors = torch.ones(2, side, side, dtype=kind, device=device)
        product = Stage("", 1, [partial(torch.mm, *factors)])
        matmul[f"of {kind}".replace("torch.", "")] = 2 * side**3 / seconds(product, device)
    yield ["stage", "Gop/pair", "of it FFT", "Gop/s", *matmul, "MB/pair", "GB/s", "of copy"]
    top = [f"{rate / 1e9:.0f}" for rate in matmul.values()]
    yield ["ceilings, Gop/s and GB/s", "", "", "", *top, "", "", f"{copied / 1e9:.1f}"]
    for stage in stages:
        ffts, operations, moved = (count / stage.pairs for count in counted(stage))
        rate, speed = operations / took[stage.name], moved / took[stage.name]
        work = [f"{operations / 1e9:.3f}", f"{ffts / max(1, operations):.0%}", f"{rate / 1e9:.1f}"]
        work += [f"{rate / ceiling:.1%}" for ceiling in matmul.values()]
        memory = [f"{moved / 1e6:.1f}", f"{speed / 1e9:.1f}", f"{speed / copied:.0%}"]
        yield [stage.name, *work, *memory]


def counted(stage: Stage) -> tuple[int, int, int]:
    """Operations of FFTs, all operations, and bytes of one run."""
    counter = FlopCounterMode(display=False, custom_mapping=dict.fromkeys(FFTS, fft_operations))
    with counter, Traffic() as traffic:  # type: ignore[no-untyped-call]
        stage.run()
    counts = counter.get_flop_counts().get("Global", {})
    return sum(counts.get(fft, 0) for fft in FFTS), counter.get_total_flops(), traffic.total


def fft_operations(shape: Any, dim: Any, *_: Any, out_shape: Any, **__: Any) -> int:
    """5 N log2 N for every transform of N points, the customary count; half of that if real."""
    larger = max(shape, out_shape, key=math.prod)
    halves = 2 if shape == out_shape else 1
    points = math.prod(larger[axis] for axis in dim)
    return int(halves * 2.5 * math.prod(larger) * math.log2(points))


class Traffic(TorchDispatchMode):
    """Sums the bytes that operators take and give; what is broadcast counts once, views nothing."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and add its bytes."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            for one in tree_leaves((args, kwargs, result)):
                if isinstance(one, Tensor):
                    self.total += min(one.nbytes, one.untyped_storage().nbytes())
        return result


def baseline_lines(cases: Sequence[Case], engine: float) -> Lines:
    """Baselines run on the CPU, whatever the engine runs on."""
    yield ["matcher", "s/pair", "times register's"]
    yield ["register", f"{engine:.3f}", "1.00"]
    for name, baseline in BASELINES.items():
        calls = [partial(baseline, case.optical, case.sar) for case in cases]
        each = seconds(Stage(name, len(cases), calls), "cpu", repeats=1)
        yield [name, f"{each:.3f}", f"{each / engine:.2f}"]


def print_scene(registrar: Registrar, args: argparse.Namespace) -> None:
    """Match tiles of a drawn scene within a prior, and say what all of them take."""
    drawn = synthetic_pair(0, MOSAIC_PX)
    mosaic = np.concatenate([drawn.optical, np.roll(drawn.sar, SHIFT_XY, axis=(2, 1))])
    starts = range(0, args.scene_px, args.tile_px - 2 * HALO_PX)
    corners = [(y, x) for y in starts for x in starts]
    count, few = len(corners), args.sample_tiles
    sample = [corners[i * count // few] for i in range(few)]

    def tile(corner: tuple[int, int]) -> tuple[Bytes, Bytes]:
        y, x = (start - HALO_PX + np.arange(args.tile_px) for start in corner)
        cut = mosaic[:, y[:, None] % MOSAIC_PX, x % MOSAIC_PX]
        return cut[:3], cut[3:]

    def match(corner: tuple[int, int]) -> Matches:
        pair = (torch.from_numpy(image)[None] for image in tile(corner))
        return registrar.match_batch(*pair, max_offset_px=PRIOR_PX).of_pair(0)

    found = [match(corner) for corner in sample]
    grid = [partial(oriented_gradient_grid, *tile(corner)) for corner in sample]
    matched = corners if args.whole else sample
    stages = [
        Stage("match_batch", len(matched), [partial(match, corner) for corner in matched]),
        Stage("fit", len(sample), [partial(fit, matches) for matches in found]),
        Stage("gradients", len(sample), grid),
    ]
    lines = [["matching a scene", "tiles run", "s/tile", f"s for {count} tiles", ""]]
    for stage in stages:
        each = seconds(stage, args.device, repeats=1)
        how = "measured" if stage.pairs == count else f"extrapolated from {stage.pairs} tiles"
        lines.append([stage.name, str(stage.pairs), f"{each:.3f}", f"{each * count:.0f}", how])
    print(f"scene of {args.scene_px} px, drawn, tiles of {args.tile_px} px, prior {PRIOR_PX:g} px")
    print(align_columns(lines))
    every = Matches.concatenate(found)
    error = np.hypot(*(every.sar_xy - every.optical_xy - SHIFT_XY).T)[every.confidence > 0]
    print(f"median error of a match: {np.median(error):.2f} px; {peak_resident()}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs_dir", type=Path, nargs="?", help="real pairs; drawn ones if none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--scene-px", type=int, default=10980)
    parser.add_argument("--tile-px", type=int, default=640)
    parser.add_argument("--sample-tiles", type=int, default=12)
    parser.add_argument("--whole", action="store_true", help="match every tile of the scene")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--no-scene", dest="scene", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    main()
