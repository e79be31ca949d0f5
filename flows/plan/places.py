"""The folders that every run writes to beside its store: the temporary one, and Prefect's home.

Looked at before anything is imported or started that needs them, and would fail in its own words;
so this imports nothing that imports Prefect.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

MEGABYTE = 1_000_000
LEAST_ROOM = 64 * MEGABYTE  # for workers and a served catalog; for the database of a run's server


class PlaceError(RuntimeError):
    """A folder that a run needs cannot be written to, or is full; the message says which, and how
    another is named."""


def require_places() -> None:
    """Raise `PlaceError` unless the temporary folder and Prefect's home can be written to."""
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise PlaceError(f"{error}: set TMPDIR to a folder that can be written to") from error
    _require("the temporary folder", temporary, "TMPDIR")
    try:
        home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    except RuntimeError as error:  # no HOME, and the user has no entry that tells one
        raise PlaceError(f"{error} set PREFECT_HOME to a folder for Prefect's database") from error
    _require("Prefect's home", home, "PREFECT_HOME")


def nearest_folder(path: Path) -> Path:
    """The path itself, or what there is above it."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def _require(what: str, folder: Path, variable: str) -> None:
    there = nearest_folder(folder)
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise PlaceError(
            f"{what} {folder} cannot be written to ({there} is not writable): set {variable} to a "
            "folder that can"
        )
    free = shutil.disk_usage(there).free
    if free < LEAST_ROOM:
        raise PlaceError(
            f"{what} {folder} has {free / MEGABYTE:.1f} MB of room, and a run needs "
            f"{LEAST_ROOM / MEGABYTE:.0f} MB there: make room, or set {variable} to another folder"
        )
