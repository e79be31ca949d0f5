"""Which files a catalogue may lead to: those of its own kind of place, and no pointers to others.

An item is what somebody wrote; a run reads what it names and publishes the pixels. So an API cannot
name files of the machine that reads, nor addresses that only that machine or its network reaches
where the API itself lies elsewhere, and what lies elsewhere cannot be a list of further files (a
VRT), which GDAL would follow anywhere. What can be told of an address is told here; where it really
leads, when it is opened (`catalog.outside`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

from catalog.archives.items import Asset, Scene
from catalog.errors import shown
from catalog.outside.addresses import is_public

LOCAL_SCHEMES = ("", "file")
REMOTE_DRIVERS = ("GTiff", "JP2OpenJPEG", "JPEG", "PNG")
"""The formats, by GDAL's names, that are read of what lies elsewhere: all hold their own pixels.

HDF5, and netCDF on it, can name further files of any place in their external links."""


def within_reach(scene: Scene, *, local_files: bool, inside: bool) -> Scene:
    """The scene; unusable where its catalogue must not lead to one of its files.

    `local_files`: whether the catalogue may name files of this machine. `inside`: whether it may
    name addresses of this machine and its network; then so its assets are opened.
    """
    for href in _hrefs(scene):
        if fault := _fault_of(href, local_files=local_files, inside=inside):
            return replace(scene, assets=(), mask=None, unusable=f"its asset {shown(href)} {fault}")
    if not inside:
        return scene
    mask = scene.mask and replace(scene.mask, asset=_opened_inside(scene.mask.asset))
    return replace(scene, assets=tuple(map(_opened_inside, scene.assets)), mask=mask)


def is_local(href: str) -> bool:
    """Whether it names a file of the machine that reads it."""
    return urlsplit(href).scheme in LOCAL_SCHEMES


def _opened_inside(asset: Asset) -> Asset:
    return replace(asset, access=replace(asset.access, inside=True))


def _hrefs(scene: Scene) -> Iterator[str]:
    """Everything that would be read of a scene."""
    masks = () if scene.mask is None else (scene.mask.asset,)
    for asset in (*scene.assets, *masks):
        named = (asset.href, asset.annotation, asset.calibration, asset.noise)
        yield from (href for href in named if href is not None)


def _fault_of(href: str, *, local_files: bool, inside: bool) -> str | None:
    if is_local(href):
        if local_files:
            return None
        return (
            "is a file of this machine, which only a catalog file on it may name (--allow-local "
            "lets any)"
        )
    if urlsplit(href).path.lower().endswith(".vrt"):
        return "is a VRT, which could lead to any other file"
    if not inside and _says_inside(href):
        return (
            "is an address that only this machine or its network can reach, which only a catalog "
            "there may name (--allow-local lets any)"
        )
    return None


def _says_inside(url: str) -> bool:
    """Whether an address says by itself that it is this machine's or its network's."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("http", "https"):
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not is_public(host)
    except ValueError:  # it is a name
        return False
