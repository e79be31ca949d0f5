"""Long commands at a real terminal: one sentence, the right exit code, nobody left behind."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.support.typed import CTRL_C, Typed

STARTED_SECONDS = 60
ENDED_SECONDS = 10
SENTENCE = "interrupted; the same command continues where it stopped"

# Stands for a run: a child of its own, and a way to end that may be slow.
ORDERLY = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("started", flush=True)
try:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    time.sleep(600)
except KeyboardInterrupt:
    print("ended in order", flush=True)
"""
STUBBORN = ORDERLY.replace('print("ended in order", flush=True)', "time.sleep(600)")
ATTEND = "import sys; from flows.cli.attended import attend; sys.exit(attend({command!r}))"


def started(program: str) -> Typed:
    """That program attended at a terminal, once it says that it has started."""
    typed = Typed([], code=ATTEND.format(command=[sys.executable, "-c", program]))
    typed.read_until("started", STARTED_SECONDS)
    return typed


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_whatever_ends_a_command_ends_it_in_order_with_all_it_started(
    number: signal.Signals, code: int
) -> None:
    typed = started(ORDERLY)
    if number is signal.SIGINT:
        typed.press(CTRL_C)
    else:
        typed.send(number)
    assert typed.wait(ENDED_SECONDS) == code
    assert typed.shown.count(SENTENCE) == 1
    assert "ended in order" in typed.shown
    assert typed.started
    assert not typed.left_behind()


def test_a_second_ctrl_c_ends_at_once_what_does_not_end_in_order() -> None:
    typed = started(STUBBORN)
    typed.press(CTRL_C)
    typed.read_until(SENTENCE, ENDED_SECONDS)
    typed.press(CTRL_C)
    assert typed.wait(2) == 130
    assert typed.shown.count(SENTENCE) == 1
    assert not typed.left_behind()


def test_a_command_that_does_not_end_in_order_is_ended() -> None:
    typed = started(STUBBORN)
    typed.hang_up()
    assert typed.wait(ENDED_SECONDS) == 129
    assert not typed.left_behind()


def test_a_command_that_nobody_ends_keeps_its_exit_code(tmp_path: Path) -> None:
    typed = Typed(["run", "--catalog", str(tmp_path / "none.json")])
    assert typed.wait(STARTED_SECONDS) == 2
    assert SENTENCE not in typed.shown


def test_ctrl_c_while_a_run_imports_what_it_needs_is_one_sentence() -> None:
    typed = Typed(["run", "--help"])
    typed.read_until_it_has_a_child(STARTED_SECONDS)
    typed.press(CTRL_C)
    assert typed.wait(ENDED_SECONDS) == 130
    assert "Traceback" not in typed.shown
    assert typed.shown.count(SENTENCE) == 1
