"""A small HTTP server on loopback for as long as a block."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[str]:
    """Let a server answer; yields its host:port."""
    # Looks every so often, in seconds, whether it shall end.
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def answer(
    handler: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """A whole answer to the request that a server handles."""
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def answer_part(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """A file, or the part of it that is asked for, as GDAL reads; of a HEAD its size alone."""
    if handler.command == "HEAD":
        handler.send_response(200)
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
    elif wanted := handler.headers.get("Range"):
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = body[int(first) : int(last or len(body)) + 1]
        end = int(first) + len(part) - 1
        answer(handler, 206, part, {"Content-Range": f"bytes {first}-{end}/{len(body)}"})
    else:
        answer(handler, 200, body)


@contextmanager
def telling_endpoint() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address that apprise knows, its password S3CRET; and what is sent there."""
    told: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer(self, 200, b"")

        def log_message(self, *_: object) -> None:
            """Not to standard error."""

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as host:
        yield f"json://me:S3CRET@{host}/hook", told
