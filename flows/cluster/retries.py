"""Which failures may pass by themselves, and how Prefect waits for that.

A store or a catalog that answers 503 now may answer in a minute, and a scheduler's pod comes back.
A wrong checkpoint, a broken scene or a missing permission stay what they are.
"""

from __future__ import annotations

from typing import Any

from prefect.tasks import exponential_backoff

from catalog.errors import CatalogError, SearchError, StoreError
from catalog.objects import EXPIRED, FULL
from flows.cluster.stream import JobsFailed
from flows.cluster.workers import DispatchError

RETRIES = 4
FIRST_DELAY_SECONDS = 5.0  # then twice as long each time: 5, 10, 20, 40
JITTER = 0.5  # up to half as long again, so that runs that failed together do not return together
# Storage libraries say these of what no waiting mends.
LASTING = (
    "PermissionError",
    "NotADirectoryError",
    "AccessDenied",
    "Access Denied",
    "Forbidden",
    "NoSuchBucket",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "NoCredentialsError",
    "RequestTimeTooSkewed",
    "Read-only file system",
    *FULL,
    *EXPIRED,
)


def may_pass(error: BaseException | None) -> bool:
    """Whether trying again later makes sense. A wrapped error is judged by what it wraps."""
    if error is None:
        return False
    if isinstance(error, DispatchError | ConnectionError | TimeoutError):
        return True
    if isinstance(error, JobsFailed):
        return any(may_pass(given_up.error) for given_up in error.failed.values())
    if isinstance(error, StoreError):
        text = f"{error} {error.__cause__}"
        return not any(word in text for word in LASTING)
    if isinstance(error, SearchError):  # unreachable or broken it has a cause, unsuitable none
        cause = error.__cause__
        return may_pass(cause) if isinstance(cause, SearchError) else cause is not None
    return not isinstance(error, CatalogError) and may_pass(error.__cause__)


def with_retries(timeout_seconds: float | None = None) -> dict[str, Any]:
    """Options of a Prefect task: what may pass is tried again, what may not fails at once."""
    return {
        "retries": RETRIES,
        "retry_delay_seconds": exponential_backoff(FIRST_DELAY_SECONDS),
        "retry_jitter_factor": JITTER,
        "retry_condition_fn": _may_pass,
        "timeout_seconds": timeout_seconds,
    }


def _may_pass(_task: Any, _run: Any, state: Any) -> bool:
    result = state.result(raise_on_failure=False)
    return may_pass(result if isinstance(result, BaseException) else None)
