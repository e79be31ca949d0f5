"""Disks that are soon full: small file systems in memory."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, kilobytes: int, *, read_only: bool = False) -> Iterator[Path]:
    """A file system of that size at `folder`; the test is skipped where none may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={kilobytes}k,{'ro' if read_only else 'rw'}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


READ_ONLY = """
for folder in / /tmp /var/tmp /usr/tmp "$PWD"; do
    mounted=$(findmnt --noheadings --output TARGET --target "$folder") || continue
    mount -o remount,bind,ro "$mounted" || exit 99
done
exec "$@"
"""


def where_nothing_can_be_written(command: Sequence[str]) -> list[str]:
    """The command, in a mount namespace whose disks may only be read, but for small ones.

    The test is skipped where there may be no such namespace.
    """
    words = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh"]
    if not shutil.which("unshare"):
        pytest.skip("disks cannot be made read-only for one program: there is no unshare")
    tried = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"disks cannot be made read-only for one program: {tried.stderr.strip()}")
    return [*words, *command]


def fill(disk: Path, leaving_bytes: int = 0) -> Path:
    """A file that takes what room there is, but for so much."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(0, shutil.disk_usage(disk).free - leaving_bytes)))
    return ballast
