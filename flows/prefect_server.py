"""What a run asks of its Prefect server: is it still there, and was the run cancelled in the UI?

Prefect shows a run, it does not do it: of a server that is gone a run waits for no more than
`answers(PATIENT)` does.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from uuid import UUID

import requests
from httpx import HTTPError
from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.events.worker import EventsWorker
from prefect.exceptions import PrefectException
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from catalog.retrying import retry

PATIENT = 5  # attempts, in 8 s where it refuses and 23 s where nothing comes back
ANSWER_SECONDS = 3.0
DRAIN_SECONDS = 60.0  # for the last events and log lines to reach a server that answers
LOOK_SECONDS = 3.0  # from one look whether a run is cancelled to the next
ASKED = signal.SIGUSR1


class CancelledThere(BaseException):
    """Raised in the midst of a run that somebody cancelled in the UI; no error, like Ctrl-C."""


def answers(attempts: int = 1) -> bool:
    """Whether the Prefect server that was named answers; the one that a run starts itself does."""
    url = get_current_settings().api.url
    if url is None:
        return True
    health = f"{url.rstrip('/')}/health"
    try:
        retry(lambda: requests.get(health, timeout=ANSWER_SECONDS), _is_silence, attempts=attempts)
    except requests.RequestException:
        return False
    return True


@contextmanager
def heeding_cancellation() -> Iterator[None]:
    """Raise `CancelledThere` in the block, inside a flow, once its run is cancelled in the UI.

    Prefect leaves that to whoever started the process of a run, and nobody but a person did so at a
    terminal. Nothing is watched without a server of its own address, nor outside the main thread,
    for only that can be interrupted.
    """
    url, run_id = get_current_settings().api.url, runtime.flow_run.id
    in_main = threading.current_thread() is threading.main_thread()
    if url is None or run_id is None or not in_main:
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(ASKED, signal.SIG_IGN)
        raise CancelledThere

    ended = threading.Event()
    before = signal.signal(ASKED, interrupt)
    watching = url, UUID(run_id), ended
    watch = threading.Thread(target=_watch, args=watching, name="cancellation", daemon=True)
    watch.start()
    try:
        yield
    finally:
        signal.signal(ASKED, signal.SIG_IGN)
        ended.set()
        watch.join(LOOK_SECONDS)
        signal.signal(ASKED, before)


def told_all() -> bool:
    """Tell the server what is left to tell, events and log lines; False if it does not listen.

    Then Python had better not end in order: Prefect's threads would wait for minutes.
    """
    if not answers():
        return False
    deadline = time.monotonic() + DRAIN_SECONDS
    for worker in (EventsWorker, APILogWorker):
        drained = worker.drain_all(timeout=max(0.0, deadline - time.monotonic()))
        assert isinstance(drained, tuple)  # no coroutine, outside of one
        if drained[1]:
            return False
    return True


def _watch(url: str, run_id: UUID, ended: threading.Event) -> None:
    """Interrupt the main thread once the run is being cancelled."""
    while not ended.wait(LOOK_SECONDS):
        with (
            suppress(HTTPError, PrefectException),
            temporary_settings({PREFECT_API_URL: url}),  # a thread has none but the process's
            get_client(sync_client=True) as client,
        ):
            state = client.read_flow_run(run_id).state
            if state is not None and state.is_cancelling():
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, ASKED)
                return


def _is_silence(error: BaseException) -> bool:
    return isinstance(error, requests.RequestException)
