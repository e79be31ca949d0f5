"""A proxy before a real HTTP server that answers late, answers with errors, or hangs up.

Which requests fail is drawn from a seeded generator. A failing request fails before the server saw
it or after it was done, by turns: clients must survive both.
"""

from __future__ import annotations

import http.client
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.support.loopback import serving

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


def nothing(_method: str, _path: str, _headers: Mapping[str, str]) -> None:
    """The server answers by itself."""


def s3_error(status: int, code: str) -> tuple[int, bytes]:
    """As S3 tells an error."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}!</Message></Error>"
    return status, body.encode()


@dataclass
class Faults:
    """What goes wrong, as shares of requests, and what did."""

    errors: float = 0.0
    """Answered 500 or 503."""
    drops: float = 0.0
    """Cut off: before any answer, in the middle of it, or reset."""
    latency_s: float = 0.0
    seed: int = 0
    instead: Callable[[str, str, Mapping[str, str]], tuple[int, bytes] | None] = nothing
    """What is answered to a method, path and headers instead of what the server would."""
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()

    def draw(self) -> tuple[str, bool]:
        """What becomes of the next request, and whether the server sees it all the same."""
        with self._lock:
            self.counts["requests"] += 1
            chance, seen = self._random.random(), self._random.random() < 0.5
            if chance < self.errors:
                kind = self._random.choice(("500", "503"))
            elif chance < self.errors + self.drops:
                kind = self._random.choice(("hang up", "cut short", "reset"))
            else:
                return "", True
            self.counts[kind] += 1
            return kind, seen

    @property
    def summary(self) -> str:
        """For a table: how many of how many requests failed, and how."""
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(self.counts.items()))
        return f"{kinds}; {self.latency_s * 1000:.0f} ms late"


@contextmanager
def faulty_proxy(upstream: str, faults: Faults) -> Iterator[str]:
    """A proxy before the server at `upstream` (host:port); yields its own host:port."""

    class Handler(_Handler):
        server_address = upstream
        plan = faults

    with serving(_Server(("127.0.0.1", 0), Handler)) as address:
        yield address


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients hang up as they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_address: str
    plan: Faults
    connection_upstream: http.client.HTTPConnection | None = None

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunked_body()
        time.sleep(self.plan.latency_s)
        if (other := self.plan.instead(self.command, self.path, self.headers)) is not None:
            self._answer(other[0], [("Content-Type", "application/xml")], other[1])
            return
        kind, seen = self.plan.draw()
        answer = self._forward(body) if seen else None
        if kind in ("500", "503"):
            self._answer(int(kind), [], b"")
        elif kind == "":
            assert answer is not None
            self._answer(*answer)
        else:
            self._break_off(kind, answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

    def finish(self) -> None:
        if self.connection_upstream is not None:
            self.connection_upstream.close()
        super().finish()

    def log_message(self, *_: object) -> None:
        pass

    def _chunked_body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return None
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _forward(self, body: bytes | None) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = self.connection_upstream
        if upstream is None:
            upstream = self.connection_upstream = http.client.HTTPConnection(self.server_address)
        upstream.putrequest(
            self.command, self.path, skip_host=True, skip_accept_encoding=True
        )  # its signature covers the headers as they came
        for name, value in self.headers.items():
            if name.lower() not in HOP_BY_HOP | {"expect"}:
                upstream.putheader(name, value)
        if body is not None or self.command in ("PUT", "POST"):
            upstream.putheader("Content-Length", str(len(body or b"")))
        upstream.endheaders(body)
        response = upstream.getresponse()
        return response.status, response.getheaders(), response.read()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._head(status, headers, len(body))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: list[tuple[str, str]], length: int) -> None:
        self.send_response_only(status)
        declared = {name.lower(): value for name, value in headers}
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        # The answer to a HEAD tells a length and has none.
        head_only = self.command == "HEAD" and "content-length" in declared
        self.send_header("Content-Length", declared["content-length"] if head_only else str(length))
        self.end_headers()

    def _break_off(
        self, kind: str, answer: tuple[int, list[tuple[str, str]], bytes] | None
    ) -> None:
        self.close_connection = True
        if kind == "cut short" and answer is not None and len(answer[2]) > 1:
            status, headers, body = answer
            self._head(status, headers, len(body))
            self.wfile.write(body[: len(body) // 2])
        elif kind == "reset":  # an RST instead of a FIN
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        with suppress(OSError):
            self.wfile.flush()
            if kind != "reset":
                self.connection.shutdown(socket.SHUT_RDWR)
