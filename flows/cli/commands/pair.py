"""`tar-pipeline pair`: two rasters, no catalog."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from flows.cli.terminal import DONE, REFUSED, add_json, output, write_json


def describe_pair(parser: argparse.ArgumentParser) -> None:
    """The `pair` command's options."""
    from flows.cli.options import add_request_option
    from flows.plan.request import MAX_OFFSET_PX

    parser.description = (
        "Register one SAR raster to one optical raster; the result lies on the optical\n"
        "raster's pixels. Exit code 3 when the pair is refused; then nothing is written."
    )
    parser.epilog = (
        "Rasters without a georeference are matched as images, whatever their rotation and scale;\n"
        "--max-offset-px is for those that have one."
    )
    parser.add_argument("optical", type=Path, metavar="OPTICAL.tif", help="stays where it is")
    parser.add_argument("sar", type=Path, metavar="SAR.tif", help="is registered to it")
    parser.add_argument("--out", type=Path, required=True, metavar="REGISTERED.tif",
                        help="the SAR raster on the optical raster's pixels")  # fmt: skip
    add_request_option(parser, "max_offset_px", MAX_OFFSET_PX)
    add_request_option(parser, "weights")
    add_json(parser)
    parser.set_defaults(command=pair)


def pair(args: argparse.Namespace) -> int:
    """Register one SAR raster to one optical raster."""
    from flows.cli.pair import register_files

    console = output(args)
    with Console(stderr=True).status("matching"):
        result = register_files(args.optical, args.sar, args.out, args.max_offset_px, args.weights)
    write_json(args, {**vars(result), "out": str(args.out) if result.accepted else None})
    if not result.accepted:
        console.print(f"[red]Refused:[/] {result.reason}. Nothing was written.")
        return REFUSED
    console.print(
        f"[green]Registered[/] by a {result.kind} field from {result.matches} matches: moved by "
        f"{result.median_displacement_px:.2f} px (median), expected error "
        f"{result.expected_error_px:.2f} px.\n{args.out}"
    )
    return DONE
