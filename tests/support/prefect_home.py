"""Homes of Prefect with a database in them: to make one takes a server five seconds of a core."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".pytest_cache"
DATABASE = "prefect.db"  # as Prefect calls it in its home


def prepare_home(home: Path) -> None:
    """Give a home that has no database yet the one that Prefect would make there.

    It is made once, and kept for later runs of the tests with the same Prefect.
    """
    if (home / DATABASE).exists():
        return
    CACHE.mkdir(exist_ok=True)
    kept = CACHE / f"prefect-{version('prefect')}.db"
    with kept.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            _make_database(kept)
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(kept, home / DATABASE)


def _make_database(file: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"],
            env=os.environ | {"PREFECT_HOME": home}, stdout=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        new = file.with_suffix(".new")
        new.unlink(missing_ok=True)  # of a run that was stopped just here
        with closing(sqlite3.connect(Path(home) / DATABASE)) as database:
            database.execute("VACUUM INTO ?", (str(new),))  # in one file, without its journal
    new.rename(file)
