"""`tar-pipeline evaluate` and `tar-pipeline train`: the engine without a catalog."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from flows.cli.terminal import DONE, add_json, output, require_place, write_json

if TYPE_CHECKING:
    from tar_engine import Registrar
    from tar_engine.network.text import TextBank
    from tar_engine.training.patches import PatchPairs

PROTOCOL_NAMES = [
    "small", "large", "extreme", "elastic", "relief", "relief-blind", "cloudy", "part", "foreign",
    "repeated", "burnt", "thick", "sparse", "season",
]  # fmt: skip
OF_ONE_DATE = PROTOCOL_NAMES[:-1]  # season asks for pairs of two dates; of others it is large
EVALUATE_EPILOG = """\
PAIRS_DIR holds aligned pairs NAME_optical.webp (or .png) and NAME_sar.png of one size; or series,
PLACE/MM_optical.tif and PLACE/MM_sar.tif: each month's SAR with the optical image of half a year
later, for --protocol season. A month whose SAR shows other ground than the others is left out.
Each pair is warped in a way that its name and the protocol fix, then registered without knowing:
  small     shift +-8 px, scale +-2 %, rotation +-2 degrees (a georeferenced pair)
  large     scale 0.7 to 1.3, rotation +-35 degrees, translation 10 % (the paper's)
  extreme   any rotation, scale 0.5 to 2, shear +-10 degrees, translation 20 %
  elastic   small, and a smooth terrain-like field of 2 to 6 px
  cloudy    large, with 40 % of the optical image under cloud
  part      large, of the optical image only a part of 192 px: frames cannot be matched
  foreign   another place's SAR under the large warp: whatever is accepted is wrong
  repeated  ground under one lattice: roads of a mile, pivots in rows, chequered fields
  burnt     a graticule, crosses or noise burnt into the pixels of both images
  thick     cloudy, with 70 % of the optical image under cloud
  sparse    large, all but 8 to 15 % of the place under plain sea, snow or sand
  relief    small, and made relief of 2 to 6 px along range, whose heights are given
  relief-blind  the same pairs, and no heights
  season    large, of pairs whose images are of two dates
repeated and burnt come with a prior and without, with the place's own SAR and with another place's,
which shares the lattice or the marks; `false` is the share of such wrong pairs that were accepted.
CMR@t is the share of pairs with a root mean square error below t pixels; a refusal is a failure.
>=3px is the share of pairs that were accepted with an error of 3 px or more, and wrong therefore.
px<t is the share of pixels with an error below t pixels.
"""
TRAIN_EPILOG = """\
examples:
  tar-pipeline train patches/train --out tar.safetensors --pairs 30000 --validate patches/val
  tar-pipeline train patches/train --scenes scenes --drawn 240 --pack train.npz   only pack
  tar-pipeline train train.npz --out tar.safetensors --validate patches/val       train elsewhere
  tar-pipeline train train.npz --out clip.safetensors --part text --pairs 16 \\
      --initial tar_engine/weights/tar.safetensors --text-encoder RemoteCLIP-ViT-B-32.pt
                    the shipped network comes to know the words of another encoder, at once
A stopped training continues from FILE.resume when started again.
"""


def evaluate(args: argparse.Namespace) -> int:
    """Print the accuracy table of a folder of pairs."""
    from tar_engine import Registrar
    from tar_engine.training.evaluate import reliability_table, table

    console = output(args)
    data = _read_pairs(args.pairs_dir)
    registrar = Registrar.load(args.weights, args.device)
    registrar.network.tafe.mode = args.text
    results = _evaluate_pairs(registrar, data, args.protocol)
    tables = table(results)
    if args.calibration:
        tables += f"\n\nIs expected_error_px true?\n{reliability_table(results)}"
    console.print(tables, highlight=False, markup=False, soft_wrap=True)
    write_json(args, results)  # an error that is infinite (a refusal) becomes null
    return DONE


def train(args: argparse.Namespace) -> int:
    """Train a half of the network, or only pack the pairs."""
    from flows.cli.training_scenes import scene_pairs
    from flows.plan.request import RequestError
    from tar_engine.config import ModelConfig
    from tar_engine.network.weights import load_checkpoint
    from tar_engine.training.patches import joined
    from tar_engine.training.train import TrainConfig
    from tar_engine.training.train import train as train_network
    from tar_engine.training.training_set import synthetic_pairs

    require_place("out", args.out or args.pack)
    if args.pairs < 1 or args.batch < 1:
        raise RequestError("pairs, batch: both must be at least 1")
    parts = [_read_pairs(path) for path in args.pairs_dirs]
    if args.scenes:
        parts.append(scene_pairs(args.scenes))
    if args.drawn:
        parts.append(synthetic_pairs(args.drawn))
    data = joined(parts)
    if args.pack:
        data.save(args.pack)
        print(f"{len(data)} pairs packed into {args.pack}")
        return DONE
    bank = _text_bank(args.text_encoder)
    config = TrainConfig(
        pairs=args.pairs,
        batch=args.batch,
        seed=args.seed,
        peak_rate=args.rate,
    )
    model = ModelConfig(text_channels=bank.embeddings.shape[-1], text_mode=args.text)
    initial = load_checkpoint(args.initial) if args.initial else None
    train_network(
        data, bank, args.out, config, model,
        device=args.device,
        part=args.part,
        initial=initial,
    )  # fmt: skip
    print(f"saved {args.out}")
    if args.validate:
        _validate(args.out, bank, _read_pairs(args.validate), args.device)
    return DONE


def _validate(file: Path, bank: TextBank, data: PatchPairs, device: str) -> None:
    """Measure a checkpoint under every protocol, print the table and keep it in the checkpoint."""
    from tar_engine import Registrar
    from tar_engine.network.weights import save_checkpoint
    from tar_engine.training.evaluate import table

    registrar = Registrar.load(file, device)
    results = _evaluate_pairs(registrar, data, OF_ONE_DATE)
    accuracy = table(results)
    print(accuracy)
    history = registrar.checkpoint.history | {"validation": accuracy.splitlines()}
    save_checkpoint(file, registrar.network, bank, history)


def describe_evaluate(parser: argparse.ArgumentParser) -> None:
    """The `evaluate` command's options."""
    from flows.cli.options import add_request_option

    parser.description = "Measure how well the engine registers."
    parser.epilog = EVALUATE_EPILOG
    parser.add_argument("pairs_dir", type=Path, metavar="PAIRS_DIR")
    parser.add_argument("--protocol", nargs="+", default=OF_ONE_DATE, choices=PROTOCOL_NAMES,
                        metavar="NAME", help="default: all of them but season")  # fmt: skip
    parser.add_argument("--calibration", action="store_true",
                        help="also print whether the stated errors are true")  # fmt: skip
    add_request_option(parser, "weights")
    _add_text(parser, "what the text bank is replaced by, to measure what it is worth")
    _add_device(parser)
    add_json(parser)
    parser.set_defaults(command=evaluate)


def describe_train(parser: argparse.ArgumentParser) -> None:
    """The `train` command's options."""
    parser.description = "Train the engine's network on aligned pairs under random warps."
    parser.epilog = TRAIN_EPILOG
    parser.add_argument("pairs_dirs", type=Path, nargs="+", metavar="PAIRS",
                        help="folders of pairs or series, or files made by --pack")  # fmt: skip
    parser.add_argument("--scenes", type=Path, metavar="DIR",
                        help="also crops of scenes NAME_S2.tif, NAME_S1.tif")  # fmt: skip
    parser.add_argument("--drawn", type=int, default=0, metavar="N",
                        help="also N drawn pairs, whose land cover is known")  # fmt: skip
    todo = parser.add_mutually_exclusive_group(required=True)
    todo.add_argument("--out", type=Path, metavar="FILE", help="the checkpoint to write")
    todo.add_argument("--pack", type=Path, metavar="FILE.npz", help="pack the pairs, train nothing")
    parser.add_argument("--pairs", type=int, default=30_000, metavar="N",
                        help="pairs to see in all (default: %(default)s)")  # fmt: skip
    parser.add_argument("--batch", type=int, default=16, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--rate", type=float, default=1.5e-3, metavar="RATE",
                        help="peak learning rate (default: %(default)g)")  # fmt: skip
    parser.add_argument("--part", choices=["high", "low", "text"], default="high",
                        help="which half of the network learns, or only what reads the text bank "
                        "(default: %(default)s)")  # fmt: skip
    parser.add_argument("--initial", type=Path, metavar="FILE", help="start from this checkpoint")
    parser.add_argument("--text-encoder", default="minilm", metavar="minilm|remoteclip|FILE.pt",
                        help="the frozen encoder of the text bank; FILE.pt is a RemoteCLIP "
                        "ViT-B-32 checkpoint (default: %(default)s)")  # fmt: skip
    parser.add_argument("--validate", type=Path, metavar="PAIRS_DIR", help="evaluate at the end")
    _add_text(parser, "train with another text bank, for ablations")
    _add_device(parser)
    parser.set_defaults(command=train)


def _add_text(parser: argparse.ArgumentParser, help_text: str) -> None:
    modes = ("bank", "shuffled", "random", "none")
    parser.add_argument("--text", choices=modes, default="bank", help=help_text)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")


def _read_pairs(path: Path) -> PatchPairs:
    """Pairs from where `evaluate` and `train` look for them; what is left out is told."""
    from flows.cli.training_series import read_pairs

    data, left_out = read_pairs(path)
    for what in left_out:
        print(f"left out: {what}", file=sys.stderr)
    return data


def _evaluate_pairs(registrar: Registrar, data: PatchPairs, protocols: list[str]) -> dict[str, Any]:
    """Evaluate with a progress bar."""
    from tar_engine.training.evaluate import evaluate as evaluate_pairs

    with Progress(console=Console(stderr=True), transient=True) as bar:
        tasks = {name: bar.add_task(name, total=len(data)) for name in protocols}
        return evaluate_pairs(
            data,
            registrar,
            protocols,
            lambda name, done, _: bar.update(tasks[name], completed=done),
        )


def _text_bank(encoder: str) -> TextBank:
    from tar_engine.network.text import minilm_bank, remoteclip_bank

    if encoder == "minilm":
        return minilm_bank()
    return remoteclip_bank(None if encoder == "remoteclip" else Path(encoder))
