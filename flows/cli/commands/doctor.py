"""`tar-pipeline doctor`: what this machine offers, and what it means."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.cli.terminal import DONE, FAILED, add_json, output, prepare_prefect, write_json

MARKS = {"good": "[green]✓[/]", "note": "[yellow]·[/]", "wrong": "[red]✗[/]"}


def describe_doctor(parser: argparse.ArgumentParser) -> None:
    """The `doctor` command's options."""
    parser.description = (
        "Look at this machine before a run: processors, memory, disks, Prefect, credentials,\n"
        "archives. Nothing is written, and no credential is shown."
    )
    parser.epilog = "exit code 1 when something is wrong that a run cannot do without (✗)"
    parser.add_argument("--store", metavar="PATH|s3://…", help="look at the store's disk too")
    add_json(parser)
    parser.set_defaults(command=doctor)


def doctor(args: argparse.Namespace) -> int:
    """Print what was found, and what it means."""
    prepare_prefect()
    from flows.cli.doctor import examine

    console = output(args)
    with Console(stderr=True).status("looking at this machine, and for the archives"):
        findings = list(examine(args.store))
    table = Table(box=None, show_header=False, padding=(0, 1))
    for each in findings:
        told = escape(each.found) + (f"\n[dim]{escape(each.means)}[/]" if each.means else "")
        table.add_row(MARKS[each.grade], each.what, told)
    console.print(table, highlight=False)
    write_json(args, [asdict(each) for each in findings])
    return FAILED if any(each.grade == "wrong" for each in findings) else DONE
