"""`tar-pipeline providers`: which archives are known, and what each needs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flows.cli.terminal import DONE, add_json, output, write_json

if TYPE_CHECKING:
    from catalog.archives.providers import Provider


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
