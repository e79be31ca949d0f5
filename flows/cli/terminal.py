"""What the commands share: exit codes, where they tell things, and a Prefect that keeps quiet."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from catalog.errors import without_steering

DONE, FAILED, WRONG_REQUEST, REFUSED, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 4, 130
WIDTH_OF_A_FILE = 160  # columns, when output is not a terminal: tables must not be cut
STANDARD_OUTPUT = Path("-")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json FILE`, which means the same for every command that has a result."""
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write the result there, for programs; - is standard output, and what is told "
        "to people then goes to standard error",
    )


def add_store(parser: argparse.ArgumentParser) -> None:
    """STORE, the first word of every command that looks after one."""
    parser.add_argument("store", metavar="STORE", help="PATH or s3://…, or one region STORE/REGION")


def output(args: argparse.Namespace) -> Console:
    """Where people are told: standard output, unless that is for programs."""
    to_stderr = args.json == STANDARD_OUTPUT
    console = Console(stderr=to_stderr)
    return console if console.is_terminal else Console(stderr=to_stderr, width=WIDTH_OF_A_FILE)


def write_json(args: argparse.Namespace, result: Any) -> None:
    """What programs are told, if they are: numbers that are not finite become null."""
    import json

    from flows.report.report import json_values

    if args.json is None:
        return
    text = json.dumps(json_values(result), indent=2, allow_nan=False) + "\n"
    if args.json == STANDARD_OUTPUT:
        sys.stdout.write(text)
    else:
        args.json.write_text(text, encoding="utf-8")


def count(number: int, noun: str) -> str:
    """So many of them, in words: "1 day", "2 days"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def complain(message: str, code: int) -> int:
    """One line about what went wrong, on standard error; returns the exit code."""
    words = without_steering(" ".join(message.split()))
    print(f"tar-pipeline: error: {words}", file=sys.stderr)
    return code


def require_place(argument: str, file: Path) -> None:
    """A file that will be written has a folder; found out before hours of work, not after them.

    Raises `flows.plan.request.RequestError`.
    """
    from flows.plan.request import RequestError

    if not file.parent.is_dir() or file.is_dir():
        raise RequestError(f"{argument}: {file} cannot be a file, there is no folder for it")


def require_file(argument: str, file: Path) -> None:
    """A file that will be read is there. Raises `flows.plan.request.RequestError`."""
    from flows.plan.request import RequestError

    if not os.access(file, os.R_OK):
        raise RequestError(f"{argument}: there is no file {file} (give one with --{argument})")


def prepare_prefect() -> None:
    """Settings of an embedded run, before Prefect reads them; what the user has set stays.

    Raises `flows.plan.places.PlaceError` when there is no folder for what is temporary, or for
    Prefect.
    """
    from flows.plan.places import require_places

    require_places()
    logging.raiseExceptions = False  # that a log line does not reach a server is no news to people
    if not os.environ.get("PREFECT_API_URL", "unset"):
        del os.environ["PREFECT_API_URL"]  # empty means neither embedded nor a server
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # its first start is slow
        # Errors are told once, by this command; the server keeps the full log of every run.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",  # events that a lost server never got
    }.items():
        os.environ.setdefault(name, value)
