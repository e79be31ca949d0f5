"""Options of the command line, made of the fields of `flows.plan.request.RegionRequest`."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from flows.plan.request import DEFAULT, RegionRequest, prompt_of


def add_request_options(parser: argparse.ArgumentParser) -> None:
    """An option for every field of a request, under the headings that the fields name."""
    groups: dict[str, Any] = {}
    for name in RegionRequest.model_fields:
        heading = prompt_of(name).group
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        add_request_option(groups[heading], name)


def add_request_option(parser: Any, name: str, default: Any = None) -> None:
    """The option of one field: `max_gap_days` is --max-gap-days, with the field's own help.

    `parser` is an `argparse.ArgumentParser`, or a group of its options. Without a `default`, an
    option that is not given is None, and the request takes the field's own. A field of yes and no
    is a flag, which can only be given.
    """
    field = RegionRequest.model_fields[name]
    help_text = field.description or ""
    if field.annotation is bool:
        parser.add_argument(
            f"--{name.replace('_', '-')}", action="store_true", default=default, help=help_text
        )
        return
    if not field.is_required() and DEFAULT not in help_text:
        own = f"{field.default:g}" if isinstance(field.default, float) else field.default
        help_text += f" {DEFAULT}{own})"
    parser.add_argument(
        f"--{name.replace('_', '-')}", required=field.is_required(), default=default,
        help=help_text.replace("%", "%%"), **_words(field.annotation, prompt_of(name).metavar),
    )  # fmt: skip


def request_values(args: argparse.Namespace) -> dict[str, Any]:
    """The fields of a request that were given on the command line."""
    given = vars(args)
    return {name: given[name] for name in RegionRequest.model_fields if given[name] is not None}


def _words(kind: Any, metavar: str) -> dict[str, Any]:
    """How many words an option takes, and of which type; the rest is for the request to judge."""
    if NoneType in get_args(kind):
        (kind,) = (each for each in get_args(kind) if each is not NoneType)
    if get_origin(kind) is not tuple:
        return {"metavar": metavar, "type": kind if kind in (float, Path) else str}
    item, *others = get_args(kind)
    if others == [...]:
        return {"metavar": metavar, "type": item, "nargs": "+"}
    return {"metavar": tuple(metavar.split()), "type": item, "nargs": 1 + len(others)}
