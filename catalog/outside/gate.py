"""The gate through which GDAL reaches the files of a stranger's catalogue.

GDAL follows redirects and looks names up by itself, and has no option against either. So it is
given a proxy of this process on loopback (SOCKS 5, RFC 1928), which looks the name of every
connection up, refuses it where one of its addresses is not for everybody, and connects to just
those addresses: a redirect or a name that changes its mind finds the same gate. Nothing that passes
is looked into. Where the environment names a proxy of its own, that one decides instead.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
import threading
from functools import lru_cache

from catalog.outside.addresses import is_proxied, is_public, leading_inside

CONNECT_SECONDS = 10.0
PIECE_BYTES = 2**18
VERSION, NO_PASSWORD, CONNECT = 5, 0, 1
IPV4, NAME, IPV6 = 1, 3, 4  # kinds of addresses
DONE, REFUSED, UNREACHABLE = 0, 2, 4  # answers
OF_GDAL = {"GDAL_HTTP_PROXY", "GDAL_HTTPS_PROXY"}
CURLS_WORDS = re.compile(r"cannot complete SOCKS5 connection to (\S+?)\.? \((\d+)\)")


def gate_options() -> dict[str, str]:
    """GDAL's options for files that must not lead inside; none where a proxy is set already."""
    if is_proxied() or not OF_GDAL.isdisjoint(os.environ):
        return {}
    return {"GDAL_HTTP_PROXY": f"socks5h://127.0.0.1:{_port(os.getpid())}"}


def in_plain_words(message: str) -> str:
    """What GDAL says, with the gate's answers as people understand them."""

    def said(found: re.Match[str]) -> str:
        host, answer = found[1], int(found[2])
        if answer == REFUSED:
            return leading_inside(host)
        return f"{host} cannot be reached"

    return CURLS_WORDS.sub(said, message)


@lru_cache(maxsize=1)
def _port(_process: int) -> int:
    """Where this process's gate listens, opened when it is first asked for."""
    # With no proxy set it has no meaning but one: curl would pass by the gate.
    for name in ("no_proxy", "NO_PROXY"):
        os.environ.pop(name, None)
    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: asyncio.run(_keep(listening)), name="gate", daemon=True).start()
    return int(listening.getsockname()[1])


async def _keep(listening: socket.socket) -> None:
    server = await asyncio.start_server(_let_pass, sock=listening)
    await server.serve_forever()


async def _let_pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: what it asks for, the answer, and what goes to and fro."""
    try:
        host, port = await _asked_for(reader, writer)
        try:
            there = await asyncio.wait_for(_connect(host, port), CONNECT_SECONDS)
        except PermissionError:
            return await _answer(writer, REFUSED)
        except (OSError, UnicodeError, TimeoutError):
            return await _answer(writer, UNREACHABLE)
        await _answer(writer, DONE)
        await asyncio.gather(_pass_on(reader, there[1]), _pass_on(there[0], writer))
    except (OSError, asyncio.IncompleteReadError):
        pass  # one of the two hung up, which the other is told by the end of its connection
    finally:
        writer.close()
    return None


async def _asked_for(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, int]:
    _, methods = await reader.readexactly(2)
    await reader.readexactly(methods)
    writer.write(bytes([VERSION, NO_PASSWORD]))
    _, command, _, kind = await reader.readexactly(4)
    if kind == NAME:
        host = (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii")
    elif kind == IPV4:
        host = socket.inet_ntop(socket.AF_INET, await reader.readexactly(4))
    else:
        host = socket.inet_ntop(socket.AF_INET6, await reader.readexactly(16))
    (port,) = struct.unpack(">H", await reader.readexactly(2))
    if command != CONNECT:
        raise OSError(f"a gate connects, and was asked for {command}")
    return host, port


async def _connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To one of a host's addresses. Raises PermissionError where one is not for everybody."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    if not all(map(is_public, addresses)):
        raise PermissionError(host)
    for address in addresses[:-1]:
        try:
            return await asyncio.open_connection(address, port, limit=PIECE_BYTES)
        except OSError:
            continue
    return await asyncio.open_connection(addresses[-1], port, limit=PIECE_BYTES)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything from one side to the other, to its end."""
    try:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    finally:
        writer.close()


async def _answer(writer: asyncio.StreamWriter, what: int) -> None:
    writer.write(bytes([VERSION, what, 0, IPV4, 0, 0, 0, 0, 0, 0]))
    await writer.drain()
