"""`tar-pipeline doctor` and `providers`: what this machine offers, and what archives."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.cli.terminal import DONE, FAILED, add_json, output, prepare_prefect, write_json

if TYPE_CHECKING:
    from catalog.archives.providers import Provider

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


def describe_providers(parser: argparse.ArgumentParser) -> None:
    """The `providers` command's options."""
    parser.description = (
        "List the archives that `run --provider NAME` knows: their collections, and what each\n"
        "needs."
    )
    add_json(parser)
    parser.set_defaults(command=providers)


def providers(args: argparse.Namespace) -> int:
    """Print every archive, and what it needs."""
    from catalog.archives.providers import PROVIDERS

    console = output(args)
    for each in PROVIDERS.values():
        console.print(f"[bold]{each.name}[/]  {each.title}", highlight=False, soft_wrap=True)
        for line in (f"needs {each.needs}", each.api_url, *_collections(each)):
            if line:
                console.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)
    console.print("\nThe first collection of a kind is its default.", highlight=False)
    write_json(args, [_values(each) for each in PROVIDERS.values()])
    return DONE


def _collections(provider: Provider) -> Iterator[str]:
    """A line for every kind of collection."""
    for role in ("optical", "sar", "dem"):
        names = []
        for each in provider.collections:
            notes = ["ground control points"] if each.geometry == "gcps" else []
            notes += ["requester pays"] if each.requester_pays else []
            if each.role == role:
                names.append(f"{each.id} ({', '.join(notes)})" if notes else each.id)
        if names:
            yield f"{role:8} {', '.join(names)}"


def _values(provider: Provider) -> dict[str, Any]:
    return {
        "name": provider.name,
        "title": provider.title,
        "needs": provider.needs,
        "api_url": provider.api_url,
        "collections": [vars(each) for each in provider.collections],
    }
