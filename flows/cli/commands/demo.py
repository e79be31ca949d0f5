"""`tar-pipeline demo`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from flows.cli.terminal import DONE, add_json, output, prepare_prefect, write_json


def describe_demo(parser: argparse.ArgumentParser) -> None:
    """The `demo` command's options."""
    parser.description = (
        "Draw a small region with a known misregistration, serve it as a STAC API,\n"
        "register it, and compare the result with the truth."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo-region"), metavar="DIR",
        help="where scenes, mosaic and report go (default: %(default)s)",
    )  # fmt: skip
    add_json(parser)
    parser.set_defaults(command=demo)


def demo(args: argparse.Namespace) -> int:
    """Register a self-made region and compare with its truth."""
    prepare_prefect()
    from flows.cli.demo import run_demo
    from flows.report.schema import encode_report

    write_json(args, json.loads(encode_report(run_demo(args.out, output(args)))))
    return DONE
