"""What a person sees while a run is going: bars, an artifact in Prefect, and the time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

import psutil
import rich.progress
from rich.console import Console

SHOWN_EVERY_SECONDS = 2.0
STOP_SECONDS = 5.0  # that a last word to a slow server may take
Show = Callable[[float, str], None]
Spent = tuple[float, float]  # seconds by the clock, and of CPU
logger = logging.getLogger(__name__)


@dataclass
class Line:
    """How far one step of the run is."""

    description: str
    unit: str
    total: int | None = None
    done: int = 0

    def __str__(self) -> str:
        return f"{self.description}, {self.done} of {self.total or '?'} {self.unit}"


class Bar:
    """One line of progress. `expect` says how much there is, `advance` that more of it is done."""

    def __init__(
        self, lines: rich.progress.Progress, task: rich.progress.TaskID, line: Line
    ) -> None:
        self._lines = lines
        self._task = task
        self._line = line

    def expect(self, total: int) -> None:
        self._lines.update(self._task, total=total)
        self._line.total = total

    def advance(self, done: int = 1) -> None:
        self._lines.advance(self._task, done)
        self._line.done += done


class Progress:
    """Progress bars on standard error, silent where that is no terminal; and what `show` shows.

    `show` takes the share that is done, 0 to 1 of `expected` units (tiles and shards), and the line
    that is being worked on. It is called by a thread of its own every few seconds, so a slow server
    holds up no tile; the first error it raises is logged, and none stops a run.
    """

    def __init__(self, show: Show | None = None, expected: int = 0) -> None:
        console = Console(stderr=True)
        self._lines = rich.progress.Progress(
            rich.progress.TextColumn("  {task.description:<28}"),
            rich.progress.BarColumn(bar_width=32),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TextColumn("{task.fields[unit]}"),
            rich.progress.TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._show = show
        self._expected = expected
        self._steps: list[Line] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_showing, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._lines.start()
        if self._show is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.stop()
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    @contextmanager
    def bar(self, description: str, unit: str) -> Iterator[Bar]:
        """A line that lives as long as the block."""
        line = Line(description, unit)
        self._steps.append(line)
        task = self._lines.add_task(description, total=None, unit=unit)
        yield Bar(self._lines, task, line)

    def _keep_showing(self) -> None:
        shown = ""
        ended = complained = False
        while not ended:
            ended = self._ended.wait(SHOWN_EVERY_SECONDS)  # and once more at the end
            steps = list(self._steps)
            line = str(steps[-1]) if steps else "starting"
            if line == shown or self._show is None:
                continue
            done = sum(step.done for step in steps)
            # Scenes that turn out unreadable make a day begin again: more than was expected.
            expected = max(self._expected, sum(step.total or 0 for step in steps), 1)
            try:
                self._show(min(done / expected, 1.0), line)
                shown = line
            except Exception:
                if not complained:
                    logger.warning("the progress artifact cannot be updated", exc_info=True)
                complained = True


class CpuClock:
    """CPU seconds of this process and of all that it started, those that have ended too.

    Workers of a scheduler elsewhere are not among them. What a process uses between the last look
    at it and its end is not counted.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._seconds: dict[tuple[int, float], float] = {}

    def __call__(self) -> float:
        for process in [self._process, *self._process.children(recursive=True)]:
            with suppress(psutil.Error):  # it has ended meanwhile
                times = process.cpu_times()
                key = process.pid, process.create_time()
                self._seconds[key] = max(times.user + times.system, self._seconds.get(key, 0.0))
        return sum(self._seconds.values())


class Stopwatch:
    """Seconds by stage, by the clock and of CPU.

    A stage may run many times; a stage inside another counts only once.
    """

    def __init__(self) -> None:
        self._cpu = CpuClock()
        self._spent: dict[str, Spent] = {}
        self._inner: list[Spent] = []
        self._started = self._now()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = self._now()
        self._inner.append((0.0, 0.0))
        try:
            yield
        finally:
            elapsed = _difference(self._now(), started)
            own = _difference(elapsed, self._inner.pop())
            self._spent[stage] = _sum(self._spent.get(stage, (0.0, 0.0)), own)
            if self._inner:
                self._inner[-1] = _sum(self._inner[-1], elapsed)

    def seconds(self) -> dict[str, float]:
        """By stage, and `total` since this stopwatch was made; rounded to a hundredth."""
        return {stage: round(wall, 2) for stage, (wall, _) in self._all().items()}

    def cpu_seconds(self) -> dict[str, float]:
        """The same of CPU, as `CpuClock` counts it."""
        return {stage: round(cpu, 2) for stage, (_, cpu) in self._all().items()}

    def _now(self) -> Spent:
        return time.monotonic(), self._cpu()

    def _all(self) -> dict[str, Spent]:
        return {**self._spent, "total": _difference(self._now(), self._started)}


def _sum(one: Spent, other: Spent) -> Spent:
    return one[0] + other[0], one[1] + other[1]


def _difference(one: Spent, other: Spent) -> Spent:
    return one[0] - other[0], one[1] - other[1]
