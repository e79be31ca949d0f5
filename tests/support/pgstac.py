"""A real STAC API on loopback: stac-fastapi with pgstac on PostgreSQL, with transactions.

Its packages are pinned in pgstac.txt and installed once, into a folder that Git ignores; PostgreSQL
and PostGIS are Debian's (`apt-get install postgresql postgresql-postgis`).
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from catalog.child_server import ending_with_parent, free_port, wait_for_answer

ROOT = Path(__file__).resolve().parents[2]
PINS = Path(__file__).with_name("pgstac.txt")
DEBIAN = Path("/usr/lib/postgresql")
START_SECONDS = 60.0
TOKEN = "S3CRET-token"
USER, PASSWORD = "me", "S3CRET-password"
ACCEPTED = (
    f"Bearer {TOKEN}",
    f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}",
)


@dataclass
class Pgstac:
    """An API that can be killed and started again, at one address and on one database."""

    folder: Path
    python: Path
    database_port: int
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def start(self) -> None:
        with (self.folder / "api.log").open("ab") as log:
            self.process = subprocess.Popen(
                ending_with_parent([
                    str(self.python), "-m", "uvicorn", "tests.support.pgstac_app:app",
                    "--host", "127.0.0.1", "--port", str(self.port), "--log-level", "warning",
                ]),
                env=os.environ | self.environment(), cwd=ROOT, stdout=log, stderr=log,
            )  # fmt: skip
        if not wait_for_answer(self.url, self.process, START_SECONDS):
            raise AssertionError((self.folder / "api.log").read_text()[-3000:])

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def environment(self) -> dict[str, str]:
        """What leads its programs to the database."""
        return {
            "PGHOST": "127.0.0.1", "PGPORT": str(self.database_port), "PGUSER": "tester",
            "PGPASSWORD": "none", "PGDATABASE": "postgres", "ACCEPTED": ",".join(ACCEPTED),
            "ENABLE_TRANSACTIONS_EXTENSIONS": "true",
        }  # fmt: skip

    def log(self) -> str:
        return (self.folder / "api.log").read_text()


@contextmanager
def served_pgstac() -> Iterator[Pgstac]:
    """The API for the length of the block; skips the test, and says so, without PostgreSQL."""
    programs = _postgres_programs()
    python = _environment()
    folder = Path(tempfile.mkdtemp(prefix="pgstac-"))  # not below pytest's, which are root's alone
    try:
        with _database(folder, programs) as port:
            api = Pgstac(folder, python, port)
            subprocess.run(
                [str(python), "-m", "pypgstac.pypgstac", "migrate"],
                env=os.environ | api.environment(), check=True, capture_output=True,
            )  # fmt: skip
            try:
                api.start()
                yield api
            finally:
                api.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postgres_programs() -> Path:
    """The newest of Debian's PostgreSQLs that has PostGIS."""
    there = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda each: int(each.parts[4]))
    with_postgis = [
        each.parent
        for each in there
        if Path(f"/usr/share/postgresql/{each.parts[4]}/extension/postgis.control").exists()
    ]
    if not with_postgis:
        pytest.skip("no PostgreSQL with PostGIS: apt-get install postgresql postgresql-postgis")
    return with_postgis[-1]


def _environment() -> Path:
    """The Python of the environment with the pinned packages, which is made once."""
    mark = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = ROOT / ".pgstac" / mark
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder.parent, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet",
             "--no-deps", "--requirement", str(PINS)],
            check=True,
        )  # fmt: skip
        (folder / "ready").touch()
    return python


@contextmanager
def _database(folder: Path, programs: Path) -> Iterator[int]:
    """A PostgreSQL of its own; yields its port."""
    as_user: Callable[[Sequence[str]], list[str]] = list
    if os.geteuid() == 0:  # which it refuses to be
        shutil.chown(folder, "postgres", "postgres")
        who = ["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=INT"]
        as_user = lambda command: ["/usr/bin/setpriv", *who, *command]  # noqa: E731
    data, port = folder / "data", free_port()
    subprocess.run(
        as_user([str(programs / "initdb"), "-D", str(data), "-U", "tester", "-A", "trust"]),
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    settings = {
        "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
        "fsync": "off",
    }  # fmt: skip
    options = [f"--{name}={value}" for name, value in settings.items()]
    with (folder / "database.log").open("wb") as log:
        server = subprocess.Popen(
            as_user([str(programs / "postgres"), "-D", str(data), *options]),
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        _wait_for(server, port, folder / "database.log")
        yield port
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        # A database that is starting takes connections, so its own words tell.
        if "ready to accept connections" in log.read_text():
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        time.sleep(0.05)
    raise AssertionError(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
