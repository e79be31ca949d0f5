"""Answers of servers over HTTP, read whole but never without bounds.

A server may send without end, slowly without end, or send on to where its reader alone can reach.
Here an answer has a size and a time, all answers together have a size, and a connection is looked
at when it is made, before anything is asked: whatever redirects lead there and whatever the name
meant a moment before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from catalog.errors import shown
from catalog.outside.addresses import is_proxied, is_public, leading_inside

PIECE_BYTES = 2**16
TIMEOUT_SECONDS = (10.0, 60.0)  # to connect, and of silence


class RefusedAnswer(ValueError):
    """An answer that is not read to its end, or not asked for; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What is read of a server's answers."""

    answer_bytes: int
    """One answer, unpacked."""
    all_bytes: int
    """All answers of a session together."""
    seconds: float
    """From the first byte of an answer to its last."""


@contextmanager
def session(limits: Limits, *, inside: bool) -> Iterator[requests.Session]:
    """Requests that are bounded, and with `inside` may lead to this machine and its network."""
    with requests.Session() as made:
        bound(made, limits, inside=inside)
        yield made


def bound(
    made: requests.Session, limits: Limits, *, inside: bool, retries: Retry | int = 0
) -> None:
    """Bound a session of somebody else's making, for all that it asks from now on."""
    adapter = _Bounded(limits, inside, retries)
    for scheme in ("http://", "https://"):
        made.mount(scheme, adapter)


class _Bounded(HTTPAdapter):
    """Reads answers piece by piece, up to their limits."""

    def __init__(self, limits: Limits, inside: bool, retries: Retry | int) -> None:
        self._limits, self._checked = limits, not (inside or is_proxied())
        self._left = limits.all_bytes
        super().__init__(max_retries=retries)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        if self._checked:
            self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        response = super().send(request, *args, **{**kwargs, "stream": True})
        try:
            # Where it keeps what it has read; with it, nobody reads on.
            response._content = b"".join(self._pieces(response))
        except BaseException:
            response.close()
            raise
        response._content_consumed = True
        return response

    def _pieces(self, response: requests.Response) -> Iterator[bytes]:
        limits, address = self._limits, shown(str(response.url))
        size, end = 0, time.monotonic() + limits.seconds
        # What has come, without a wait for more, so that slow ones are noticed too.
        while piece := _read(response):
            size, self._left = size + len(piece), self._left - len(piece)
            if size > limits.answer_bytes:
                raise RefusedAnswer(
                    f"{address} answers with more than {_mib(limits.answer_bytes)}, and no more "
                    "is read of one answer"
                )
            if self._left < 0:
                raise RefusedAnswer(
                    f"{address} and what it led to answer with more than "
                    f"{_mib(limits.all_bytes)} in all, and no more is read"
                )
            if time.monotonic() > end:
                raise RefusedAnswer(
                    f"{address} takes longer than {limits.seconds:.0f} s for one answer"
                )
            yield piece


def _read(response: requests.Response) -> bytes:
    """What has come of an answer; nothing at its end. Raises requests' errors."""
    try:
        return bytes(response.raw.read1(PIECE_BYTES, decode_content=True))
    except HTTPError as error:
        raise requests.ConnectionError(error, request=response.request) from error


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def _require_public(connection: HTTPConnection, made: Any) -> Any:
    """The socket of a connection. Raises RefusedAnswer where it leads inside."""
    address = str(made.getpeername()[0])
    if is_public(address):
        return made
    made.close()
    raise RefusedAnswer(leading_inside(f"{connection.host} ({address})"))


class _Http(HTTPConnection):
    def _new_conn(self) -> Any:
        return _require_public(self, super()._new_conn())


class _Https(HTTPSConnection):
    def _new_conn(self) -> Any:
        return _require_public(self, super()._new_conn())


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https
