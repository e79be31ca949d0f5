"""A command typed at a real terminal: a pseudo-terminal whose foreground it has, keys and all."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import psutil

CTRL_C = b"\x03"
COMMAND = "import sys; from flows.cli.attended import main; sys.exit(main())"


class Typed:
    """`tar-pipeline WORDS` at a terminal of its own; what it showed so far is `shown`."""

    def __init__(
        self,
        words: Sequence[str],
        environment: dict[str, str] | None = None,
        code: str = COMMAND,
    ) -> None:
        """`code` is the Python that runs in the place of the command's entry point."""
        self.shown = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:  # the child, which has the terminal
            arguments = [sys.executable, "-c", code, *words]
            os.execve(sys.executable, arguments, os.environ | (environment or {}))
        self.started: set[psutil.Process] = set()

    def read(self, seconds: float) -> None:
        """Take in what it shows for so long, and which processes it has."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            with suppress(psutil.Error):
                self.started.update(psutil.Process(self.pid).children(recursive=True))
            ready, _, _ = select.select([self.terminal], [], [], min(left, 0.1))
            if ready:
                try:
                    self.shown += os.read(self.terminal, 65536).decode(errors="replace")
                except OSError:  # it has ended
                    return

    def read_until(self, text: str, seconds: float) -> None:
        """Read until it has shown a text; raises `TimeoutError` when it does not for so long."""
        self._read_until(lambda: text in self.shown, seconds)

    def read_until_it_has_a_child(self, seconds: float) -> None:
        """Read until it has started a process; raises `TimeoutError` likewise."""
        self._read_until(lambda: bool(self.started), seconds)

    def _read_until(self, happened: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                raise TimeoutError(f"it did not come to that in {seconds} s: {self.shown[-500:]}")
            self.read(0.05)

    def has_ended(self) -> bool:
        """Whether it ended by itself; its exit code is still there to be waited for."""
        return not _runs(psutil.Process(self.pid))

    def press(self, key: bytes) -> None:
        """Type a key."""
        os.write(self.terminal, key)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process that the terminal knows, and to no other."""
        os.kill(self.pid, number)

    def hang_up(self) -> None:
        """Close the terminal."""
        os.close(self.terminal)
        self.terminal = os.open(os.devnull, os.O_RDWR)

    def wait(self, seconds: float) -> int:
        """Its exit code; raises `TimeoutError` when it goes on for longer than that."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                with suppress(OSError):
                    self.read(0.1)
                return os.waitstatus_to_exitcode(status)
            self.read(0.05)
        raise TimeoutError(f"still there after {seconds} s: {self.shown[-500:]}")

    def left_behind(self) -> list[str]:
        """The processes that it started and that still run, whoever their parent is now."""
        _, alive = psutil.wait_procs(list(self.started), timeout=1)
        return [str(each) for each in alive if _runs(each)]


def _runs(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
