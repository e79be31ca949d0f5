"""What may pass by itself is tried again: the one place that says how often and how long to wait.

The libraries that speak HTTP for us (urllib3, botocore, GDAL) try again by themselves; this is for
what they give up or do not notice. Tenacity rather than stamina, which logs errors as they are,
with the signatures of addresses that may be in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential

ATTEMPTS = 5
FIRST_WAIT_SECONDS = 0.5  # then twice as long each time: 0.5, 1, 2, 4

Result = TypeVar("Result")


def retry(
    operation: Callable[[], Result],
    may_pass: Callable[[BaseException], bool],
    *,
    attempts: int = ATTEMPTS,
    before_wait: Callable[[BaseException], None] | None = None,
) -> Result:
    """What `operation` returns, called up to `attempts` times while it raises what `may_pass`.

    `before_wait` gets each error after which there is another attempt. Raises the last error.
    """

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if before_wait is not None and error is not None:
            before_wait(error)

    retrying = Retrying(
        stop=stop_after_attempt(attempts),
        wait=wait_exponential(multiplier=FIRST_WAIT_SECONDS),
        retry=retry_if_exception(may_pass),
        before_sleep=tell,
        reraise=True,
    )
    return retrying(operation)


def attempts_at(href: str) -> int:
    """How often a file is tried: one on this machine does not get better by waiting."""
    return ATTEMPTS if urlsplit(href).scheme in ("http", "https", "s3") else 1
