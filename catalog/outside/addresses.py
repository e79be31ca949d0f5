"""Which addresses everybody can reach, and which only this machine or its network can.

What a stranger's catalogue names is opened from where this program runs, so it must not lead to
what only that place reaches: services on loopback, the metadata and keys of a cloud's machine,
neighbours in a private network.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies

TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 behind a NAT64, in the last 32 bits
OF_A_MACHINE = frozenset({"168.63.129.16"})  # Azure answers each of its machines there


def leading_inside(host: str) -> str:
    """In words, that a host which was found to lead inside is not connected to."""
    return (
        f"it leads to {host}, which only this machine or its network can reach "
        "(--allow-local lets it)"
    )


def is_public(address: str) -> bool:
    """Whether an IP address, as text, is one that everybody can reach."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found in TRANSLATED:
            found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found.is_global and not found.is_multicast and str(found) not in OF_A_MACHINE


def leads_inside(url: str) -> bool:
    """Whether the host of an http(s) address is, as it is known here, not one for everybody.

    A host that nobody knows is not inside: it leads nowhere, or a proxy knows it.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    try:
        found = socket.getaddrinfo(parts.hostname, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return not all(is_public(str(address[0])) for *_, address in found)


def is_proxied() -> bool:
    """Whether the way out is through a proxy of the environment, which then decides what it serves.

    Then addresses are the proxy's to look up, and a check of them here would check the proxy.
    """
    return not {"http", "https", "all"}.isdisjoint(getproxies())
