"""What may pass is tried a bounded number of times, with longer and longer waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import Retrying

from catalog import retrying
from catalog.retrying import ATTEMPTS, attempts_at, retry


def failing(errors: list[Exception]) -> tuple[Callable[[], str], list[int]]:
    """An operation that raises these one after the other and then succeeds; its calls."""
    calls: list[int] = []

    def operation() -> str:
        calls.append(len(calls))
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return "done"

    return operation, calls


def is_lost(error: BaseException) -> bool:
    return isinstance(error, ConnectionError)


@given(failures=st.integers(0, 8), attempts=st.integers(1, 6))
def test_calls_end_with_the_first_success_or_the_last_attempt(failures: int, attempts: int) -> None:
    errors: list[Exception] = [ConnectionError(str(n)) for n in range(failures)]
    operation, calls = failing(errors)
    told: list[BaseException] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrying, "FIRST_WAIT_SECONDS", 0.0)
        if failures < attempts:
            assert retry(operation, is_lost, attempts=attempts, before_wait=told.append) == "done"
        else:
            with pytest.raises(ConnectionError) as caught:
                retry(operation, is_lost, attempts=attempts, before_wait=told.append)
            assert caught.value is errors[attempts - 1]
    assert len(calls) == min(failures + 1, attempts)
    assert told == errors[: len(calls) - 1]


def test_what_cannot_pass_is_raised_at_once() -> None:
    operation, calls = failing([ValueError("a bug")])
    with pytest.raises(ValueError, match="a bug"):
        retry(operation, is_lost)
    assert len(calls) == 1


def test_waits_double(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(retrying, "Retrying", partial(Retrying, sleep=waits.append))
    operation, _ = failing([ConnectionError()] * (ATTEMPTS - 1))
    assert retry(operation, is_lost) == "done"
    assert waits == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("href", "attempts"),
    [
        ("/data/x.tif", 1),
        ("file:///data/x.tif", 1),
        ("https://example.org/x.tif", ATTEMPTS),
        ("s3://bucket/x.tif", ATTEMPTS),
    ],
)
def test_only_remote_files_get_another_chance(href: str, attempts: int) -> None:
    assert attempts_at(href) == attempts
