"""What the commands share: exit codes, the console, and an embedded Prefect that keeps quiet."""

from __future__ import annotations

import os

from rich.console import Console

DONE, FAILED, WRONG_REQUEST, REFUSED, PARTIAL = 0, 1, 2, 3, 4
WIDTH_OF_A_FILE = 160  # columns, when output is not a terminal: tables must not be cut


def output() -> Console:
    """Standard output."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_OF_A_FILE)


def prepare_prefect() -> None:
    """Settings of an embedded run, before Prefect reads them; what the user has set stays."""
    if not os.environ.get("PREFECT_API_URL", "unset"):
        del os.environ["PREFECT_API_URL"]  # empty means neither embedded nor a server
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # its first start is slow
        # Errors are told once, by this command; the server keeps the full log of every run.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    }.items():
        os.environ.setdefault(name, value)
