"""What a person sees while a run is going: bars on a terminal, nothing elsewhere; and the time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import rich.progress
from rich.console import Console


class Bar:
    """One line of progress. `expect` says how much there is, `advance` that more of it is done."""

    def __init__(self, lines: rich.progress.Progress, task: rich.progress.TaskID) -> None:
        self._lines = lines
        self._task = task

    def expect(self, total: int) -> None:
        self._lines.update(self._task, total=total)

    def advance(self, done: int = 1) -> None:
        self._lines.advance(self._task, done)


class Progress:
    """Progress bars on standard error; silent where that is no terminal."""

    def __init__(self) -> None:
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

    def __enter__(self) -> Self:
        self._lines.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.stop()

    @contextmanager
    def bar(self, description: str, unit: str) -> Iterator[Bar]:
        """A line that lives as long as the block."""
        yield Bar(self._lines, self._lines.add_task(description, total=None, unit=unit))


class Stopwatch:
    """Seconds by stage. A stage may run many times; a stage inside another counts only once."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._inner: list[float] = []
        self._started = time.monotonic()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.monotonic()
        self._inner.append(0.0)
        try:
            yield
        finally:
            elapsed = time.monotonic() - started
            own = elapsed - self._inner.pop()
            self._seconds[stage] = self._seconds.get(stage, 0.0) + own
            if self._inner:
                self._inner[-1] += elapsed

    def seconds(self) -> dict[str, float]:
        """By stage, and `total` since this stopwatch was made; rounded to a hundredth."""
        total = time.monotonic() - self._started
        return {name: round(s, 2) for name, s in {**self._seconds, "total": total}.items()}
