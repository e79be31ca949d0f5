"""Which files a catalogue may lead to: those of its own kind of place, and no pointers to others.

An item is what somebody wrote; a run reads what it names and publishes the pixels. So an API cannot
name files of the machine that reads, nor addresses that only that machine reaches, and what lies
elsewhere cannot be a list of further files (a VRT), which GDAL would follow anywhere.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from catalog.archives.items import Scene
from catalog.errors import shown

LOCAL_SCHEMES = ("", "file")
REMOTE_DRIVERS = ("GTiff", "JP2OpenJPEG", "JPEG", "PNG", "netCDF", "HDF5")
"""The formats, by GDAL's names, that are read of what lies elsewhere: all hold their own pixels."""


def within_reach(scene: Scene, api_url: str, *, local_files: bool) -> Scene:
    """The scene; unusable where its catalogue must not lead to one of its files.

    `local_files`: whether the catalogue may name files of this machine.
    """
    for href in _hrefs(scene):
        if fault := _fault_of(href, api_url, local_files=local_files):
            return replace(scene, assets=(), mask=None, unusable=f"its asset {shown(href)} {fault}")
    return scene


def is_local(href: str) -> bool:
    """Whether it names a file of the machine that reads it."""
    return urlsplit(href).scheme in LOCAL_SCHEMES


def _hrefs(scene: Scene) -> Iterator[str]:
    """Everything that would be read of a scene."""
    masks = () if scene.mask is None else (scene.mask.asset,)
    for asset in (*scene.assets, *masks):
        named = (asset.href, asset.annotation, asset.calibration, asset.noise)
        yield from (href for href in named if href is not None)


def _fault_of(href: str, api_url: str, *, local_files: bool) -> str | None:
    if is_local(href):
        if local_files:
            return None
        return (
            "is a file of this machine, which only a catalog file on it may name (--allow-local "
            "lets any)"
        )
    if urlsplit(href).path.lower().endswith(".vrt"):
        return "is a VRT, which could lead to any other file"
    if _is_of_this_machine(href) and not _is_of_this_machine(api_url):
        return "is an address that only this machine or its network can reach"
    return None


def _is_of_this_machine(url: str) -> bool:
    """Whether its host is this machine, or of the addresses that no router passes on."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("http", "https"):
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local or address.is_unspecified
