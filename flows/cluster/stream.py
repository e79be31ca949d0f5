"""Many jobs through few workers: how many at once, and what becomes of those that fail."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Generic, TypeVar

from distributed import Future, KilledWorker

from catalog.errors import CatalogError
from flows.cluster.workers import DispatchError, Workers
from tar_engine.errors import EngineError

STALL_SECONDS = 1800  # without any job finishing; a tile or a shard takes seconds to minutes
# At a job that raises what nobody foresaw. Dask's own `retries` would repeat every error, those too
# that our packages raise on purpose.
ATTEMPTS = 3

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Done(Generic[Result]):
    """A job that came back."""

    result: Result


@dataclass(frozen=True)
class GivenUp:
    """A job that was given up, and the error of its last attempt."""

    error: BaseException

    @property
    def reason(self) -> str:
        """One line."""
        if isinstance(self.error, KilledWorker):
            return "it killed every worker that tried it, alone too (out of memory, or a crash)"
        if isinstance(self.error, CatalogError | EngineError):
            return " ".join(str(self.error).split())
        text = " ".join(f"{type(self.error).__name__}: {self.error}".split())
        return f"{text} ({ATTEMPTS} attempts)"


class JobsFailed(RuntimeError):
    """Some jobs of a batch were given up; `failed` tells them by name."""

    def __init__(self, failed: Mapping[str, GivenUp]) -> None:
        super().__init__(failed)
        self.failed = failed

    def __str__(self) -> str:
        name, given_up = next(iter(self.failed.items()))
        more = f" (and {len(self.failed) - 1} more)" if len(self.failed) > 1 else ""
        return f"{name}: {given_up.reason}{more}"


def stream(
    workers: Workers, submit: Callable[[Job], Future[Result]], jobs: Iterable[Job]
) -> Iterator[tuple[Job, Done[Result] | GivenUp]]:
    """Submit `jobs` a few at a time and yield what became of each, in the order they finish.

    Futures under way are bounded by the cluster's size, so memory is too, however many jobs
    there are. When a worker dies, Dask does its work elsewhere. A job that raises something
    unforeseen is tried `ATTEMPTS` times; what our own packages raise on purpose would be raised
    again, so it is told at once. Workers that die again and again leave several suspects, for
    Dask blames all that waited there: each is tried once more, alone, before it is given up.

    Raises `DispatchError` when the scheduler is lost or nothing finishes in `STALL_SECONDS`.
    """
    workers.reconnect_if_lost()
    suspects: list[Job] = []
    for job, outcome in _run(workers, submit, jobs, alone=False):
        if isinstance(outcome, GivenUp) and isinstance(outcome.error, KilledWorker):
            suspects.append(job)
        else:
            yield job, outcome
    yield from _run(workers, submit, suspects, alone=True)


def run_one(workers: Workers, submit: Callable[[], Future[Result]], name: str) -> Result:
    """`stream` for a single job.

    Raises what our own packages raise on purpose, and `JobsFailed` for whatever else the job was
    given up for.
    """
    ((_, outcome),) = stream(workers, lambda _: submit(), [None])
    if isinstance(outcome, Done):
        return outcome.result
    if isinstance(outcome.error, CatalogError | EngineError | DispatchError):
        raise outcome.error
    raise JobsFailed({name: outcome}) from outcome.error


def _run(
    workers: Workers,
    submit: Callable[[Job], Future[Result]],
    jobs: Iterable[Job],
    *,
    alone: bool,
) -> Iterator[tuple[Job, Done[Result] | GivenUp]]:
    waiting, again = ((job, 1) for job in jobs), deque[tuple[Job, int]]()
    under_way: dict[Future[Result], tuple[Job, int]] = {}
    # Not `distributed.as_completed`: its timeout is one for the whole stream, not from one job that
    # finishes to the next.
    finished: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
    try:
        while True:
            while len(under_way) < (1 if alone else workers.in_flight):
                following = again.popleft() if again else next(waiting, None)
                if following is None:
                    break
                future = submit(following[0])
                under_way[future] = following
                future.add_done_callback(finished.put)
            if not under_way:
                return
            future = _next_finished(finished)
            job, attempt = under_way.pop(future)
            outcome = _outcome(future, workers)
            if isinstance(outcome, GivenUp) and _worth_another(outcome.error, attempt):
                again.append((job, attempt + 1))
            else:
                yield job, outcome
    finally:
        workers.client.cancel(list(under_way))


def _next_finished(finished: queue.SimpleQueue[Future[Result]]) -> Future[Result]:
    try:
        return finished.get(timeout=STALL_SECONDS)
    except queue.Empty:
        raise DispatchError(
            f"no tile or shard finished in {STALL_SECONDS} s: the workers are gone or hang"
        ) from None


def _outcome(future: Future[Result], workers: Workers) -> Done[Result] | GivenUp:
    try:
        return Done(future.result(timeout=STALL_SECONDS))
    except (CancelledError, OSError) as error:
        if workers.client.status != "running" or "connection-lost" in str(error):
            raise DispatchError(f"the Dask scheduler at {workers.scheduler} was lost") from error
        return GivenUp(error)
    except Exception as error:
        return GivenUp(error)


def _worth_another(error: BaseException, attempt: int) -> bool:
    return attempt < ATTEMPTS and not isinstance(error, KilledWorker | CatalogError | EngineError)
