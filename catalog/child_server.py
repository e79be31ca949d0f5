"""A server of another program as a child of this process: on a free port, never outliving it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from types import MappingProxyType

POLL_SECONDS = 0.05
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# A program of its own because code between fork and exec (preexec_fn) may deadlock under threads.
_EXEC_WITH_PARENT = """
import ctypes, os, sys
PR_SET_PDEATHSIG = 1
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(sys.argv[2]))
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent is gone")
os.execv(sys.argv[3], sys.argv[3:])
"""


def ending_with_parent(command: Sequence[str], sent: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command line of a child that the kernel sends `sent` when this process ends.

    So not even SIGKILL leaves a server behind. `command` starts with the path of a program.
    """
    own = (sys.executable, "-c", _EXEC_WITH_PARENT, str(os.getpid()), str(int(sent)))
    return [*own, *command]


def wait_for_answer(
    url: str,
    server: subprocess.Popen[bytes],
    seconds: float,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Whether a child answers at `url` before it ends and before so many seconds are over."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    asking = urllib.request.Request(url, headers=dict(headers))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with opener.open(asking, timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(POLL_SECONDS)
    return False


def reach_loopback_directly() -> None:
    """Let no proxy of the environment come between loopback and this process, or what it starts."""
    spared = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if spared.strip() != "*":
        hosts = [host for host in (*spared.split(","), *LOOPBACK) if host]
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(dict.fromkeys(hosts))


def free_port() -> int:
    """A port of the loopback that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
