"""The `tar-pipeline` command as it is started: long commands run in a session of their own.

Ctrl-C goes to every process in a terminal's foreground at once. Prefect's server and Dask's nannies
would be gone before the run that needs them to end in order. So a long command lives, with all it
starts, in a session that no terminal signals. The process that the terminal knows does nothing else
than to answer for it: it passes an interruption on, to the run alone, and ends what is left of it.
That is safe at any moment, for nothing half-written is ever visible in a store.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from catalog.child_server import ending_with_parent

LONG = ("run", "demo", "nightly", "backfill")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_SECONDS = 6.0  # to end in order; then, or when asked again, at once
POLL_SECONDS = 0.2
ATTENDED = "import sys; from flows.cli.attended import run_attended; sys.exit(run_attended())"
SHOW_CURSOR = "\x1b[?25h"  # which a progress bar hides


def main() -> int:
    """Run the command that was typed; returns its exit code, 128 + N when signal N ended it."""
    words = sys.argv[1:]
    _speak_utf8()
    typed = next((word for word in words if not word.startswith("-")), None)
    if typed not in LONG:
        from flows.cli.main import main as run_here

        return run_here(words)
    return attend([sys.executable, "-c", ATTENDED, *words])


def _speak_utf8() -> None:
    """Begin again in Python's UTF-8 mode where the locale is of another encoding.

    Else paths of other letters could not be named, nor what is told be printed.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def attend(command: Sequence[str]) -> int:
    """Run `command` in a session of its own until it ends, or is ended."""
    with _noted() as asked:
        run = _start(command)
        with _suspended_together(run):
            try:
                code = _wait_or_end(run, asked)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(run.pid, signal.SIGKILL)
    if not asked and code is not None:
        return code if code >= 0 else 128 - code  # as a shell tells it
    if sys.stderr.isatty():
        _tell(SHOW_CURSOR)
    return 128 + asked[0]


def run_attended() -> int:
    """The command itself, in the session that `attend` made for it; it is interrupted once."""
    words = sys.argv[1:]

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if "--debug" not in words:  # who attends has said it; how libraries take it is no news
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, sys.stdout.fileno())
            os.dup2(silence, sys.stderr.fileno())
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        from flows.cli.main import main as run_here

        code = run_here(words)
        if "prefect" in sys.modules:  # which plans and helps do without
            _part_from_prefect(code)
        return code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _part_from_prefect(code: int) -> None:
    """Tell Prefect how it ended; leave at once where its server is gone."""
    from flows.cli.terminal import DONE, PARTIAL
    from flows.prefect_server import told_all

    if told_all():
        return
    if code in (DONE, PARTIAL):  # else it was told already
        _tell("tar-pipeline: Prefect's server is gone, and does not show how this run ended\n")
    sys.stdout.flush()
    os._exit(code)


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """The command in a session of its own. It is blind to SIGINT until it says otherwise.

    So one that comes while it imports what it needs is kept for it, and ends in no traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        return subprocess.Popen(ending_with_parent(command, signal.SIGINT), start_new_session=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait_or_end(run: subprocess.Popen[bytes], asked: Sequence[int]) -> int | None:
    """The exit code of the run, which is interrupted when asked to; None if it did not end soon."""
    while not asked:
        with suppress(subprocess.TimeoutExpired):
            return run.wait(POLL_SECONDS)
    with suppress(ProcessLookupError):
        os.kill(run.pid, signal.SIGINT)
    time.sleep(POLL_SECONDS)  # from now on its progress bar draws no more
    _tell("\ntar-pipeline: interrupted; the same command continues where it stopped\n")
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline and len(asked) == 1:
        with suppress(subprocess.TimeoutExpired):
            return run.wait(POLL_SECONDS)
    return None


@contextmanager
def _noted() -> Iterator[list[int]]:
    """The signals that asked this process to end while the block ran."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    heeded = [each for each in ENDING if signal.getsignal(each) is not signal.SIG_IGN]  # nohup
    before = {each: signal.signal(each, note) for each in heeded}
    try:
        yield asked
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _suspended_together(run: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ctrl-Z stops the run too, and what goes on again goes on together."""

    def suspend(_number: int, _frame: FrameType | None) -> None:
        os.killpg(run.pid, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.killpg(run.pid, signal.SIGCONT)

    before = signal.signal(signal.SIGTSTP, suspend)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)


def _tell(text: str) -> None:
    """To standard error, where that is still there: its terminal may have been closed."""
    with suppress(OSError):
        print(text, end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
