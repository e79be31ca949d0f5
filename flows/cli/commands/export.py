"""`tar-pipeline export`: a published day as one GeoTIFF."""

from __future__ import annotations

import argparse
from pathlib import Path

from flows.cli.terminal import DONE, add_json, add_store, output, write_json

EPILOG = """\
Without --bands the file holds all that is measured: optical, SAR, displacement, expected error.
quality, sar_scene and optical_scene are flags: ask for them in a file of their own, and they stay
whole numbers.

examples:
  tar-pipeline export s3://mosaics --region bolzano --slot 2024-06-04 --out bolzano.tif
  tar-pipeline export s3://mosaics --region bolzano --slot 2024-06-04 --out quality.tif \\
      --bands quality
"""


def describe_export(parser: argparse.ArgumentParser) -> None:
    """The `export` command's options."""
    parser.description = (
        "Write a published day as one cloud-optimised GeoTIFF, with its provenance as\ntags."
    )
    parser.epilog = EPILOG
    add_store(parser)
    parser.add_argument("--region", metavar="NAME", help="needed where the store has several")
    parser.add_argument("--slot", required=True, metavar="DAY", help="a day that is published")
    parser.add_argument("--out", required=True, type=Path, metavar="X.tif",
                        help="appears when it is complete")  # fmt: skip
    parser.add_argument(
        "--bands", nargs="+", metavar="NAME", help="which, in this order (default: all measured)"
    )
    add_json(parser)
    parser.set_defaults(command=export)


def export(args: argparse.Namespace) -> int:
    """Write a day as a cloud-optimised GeoTIFF."""
    from catalog.errors import ArgumentError
    from catalog.export import export_cog, published_slot
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
    output(args).print(f"{args.out}: {', '.join(exported)}", highlight=False, soft_wrap=True)
    write_json(args, {"out": str(args.out), "region": chosen[0][1], "slot": args.slot,
                      "bands": list(exported)})  # fmt: skip
    return DONE
