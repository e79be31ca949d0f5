"""`tar-pipeline export`: a published day as one GeoTIFF."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flows.cli.terminal import DONE, output

EPILOG = """\
Without --bands the file holds all that is measured: optical, SAR, displacement, expected error.
quality and sar_scene are flags: ask for them in a file of their own, and they stay whole numbers.

examples:
  tar-pipeline export s3://mosaics --region bolzano --slot 2024-06-04 --out bolzano.tif
  tar-pipeline export s3://mosaics --region bolzano --slot 2024-06-04 --out quality.tif \\
      --bands quality
"""


def export(args: argparse.Namespace) -> int:
    """Write a day as a cloud-optimised GeoTIFF."""
    from catalog.errors import ArgumentError
    from catalog.store.export import export_cog, published_slot
    from catalog.store.upkeep import regions

    there = regions(args.store)
    chosen = [(url, name) for url, name in there if args.region in (None, name)]
    if len(chosen) != 1:
        known = ", ".join(name for _, name in there)
        raise ArgumentError(
            f"region: name one of those in {args.store} with --region: {known}", argument="region"
        )
    slot = published_slot(*chosen[0], args.slot)
    exported = export_cog(slot, args.out, args.bands)
    output().print(f"{args.out}: {', '.join(exported)}", highlight=False, soft_wrap=True)
    return DONE


def add_export(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add `export` to the command line."""
    parser = commands.add_parser(
        "export", parents=[common], help="a published day as a GeoTIFF",
        description="Write a published day as one cloud-optimised GeoTIFF, with its provenance as\n"
        "tags.",
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("store", metavar="STORE", help="PATH or s3://…, or one region STORE/REGION")
    parser.add_argument("--region", metavar="NAME", help="needed where the store has several")
    parser.add_argument("--slot", required=True, metavar="DAY", help="a day that is published")
    parser.add_argument("--out", required=True, type=Path, metavar="X.tif")
    parser.add_argument(
        "--bands", nargs="+", metavar="NAME", help="which, in this order (default: all measured)"
    )
    parser.set_defaults(command=export)
