"""Which files a catalogue may lead to: those of its own kind of place, and no pointers to others.

An item is what somebody wrote; a run reads what it names and publishes the pixels. So an API cannot
name files of the machine that reads, nor addresses that only that machine or its network reaches
where the API itself lies elsewhere, and what lies elsewhere cannot be a list of further files (a
VRT), which GDAL would follow anywhere. What can be told of an address is told here; where it really
leads, when it is opened (`catalog.outside`).

Nor is an API to have objects read that only the user's keys open, and that whoever sees the mosaic
would then see: it may name any bucket, but keys are used for those alone that the archive's record
or the user names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from catalog import aws
from catalog.archives.items import Asset, Scene
from catalog.archives.providers import Access
from catalog.errors import shown
from catalog.outside.addresses import is_public, leads_inside

LOCAL_SCHEMES = ("", "file")
REMOTE_DRIVERS = ("GTiff", "JP2OpenJPEG", "JPEG", "PNG")
"""The formats, by GDAL's names, that are read of what lies elsewhere: all hold their own pixels.

HDF5, and netCDF on it, can name further files of any place in their external links."""


def within_reach(
    scene: Scene, *, local_files: bool, inside: bool, own_buckets: Sequence[str] = ()
) -> Scene:
    """The scene; unusable where its catalogue must not lead to one of its files.

    `local_files`: whether the catalogue may name files of this machine, and anything that its
    user's keys open. `inside`: whether it may name addresses of this machine and its network; then
    so its assets are opened. `own_buckets` are read with the user's keys, others without.
    """

    def opened(asset: Asset) -> Asset:
        trusted = (*asset.access.own_buckets, *own_buckets)
        known = local_files or asset.access.copernicus or _buckets(asset).issubset(trusted)
        pays = asset.access.requester_pays and known
        access = replace(asset.access, inside=inside, unsigned=not known, requester_pays=pays)
        return replace(asset, access=access)

    mask = scene.mask and replace(scene.mask, asset=opened(scene.mask.asset))
    reached = replace(scene, assets=tuple(map(opened, scene.assets)), mask=mask)
    for asset in _assets(reached):
        for href in _hrefs(asset):
            if fault := _fault_of(href, asset.access, local_files=local_files):
                fault = f"its asset {shown(href)} {fault}"
                return replace(scene, assets=(), mask=None, unusable=fault)
    return reached


def without_keys(href: str, access: Access) -> str:
    """What to tell people beside an object that could not be read; "" where keys were used."""
    if not (access.unsigned and href.startswith("s3://")):
        return ""
    bucket = urlsplit(href).netloc
    return f"; it was read without your keys, which --own-buckets {bucket} lets it have"


def is_local(href: str) -> bool:
    """Whether it names a file of the machine that reads it."""
    return urlsplit(href).scheme in LOCAL_SCHEMES


def _assets(scene: Scene) -> Iterator[Asset]:
    yield from scene.assets
    if scene.mask is not None:
        yield scene.mask.asset


def _hrefs(asset: Asset) -> Iterator[str]:
    """Everything that would be read of it."""
    named = (asset.href, asset.annotation, asset.calibration, asset.noise)
    yield from (href for href in named if href is not None)


def _buckets(asset: Asset) -> set[str]:
    """Of s3://, that its files lie in; "", which is none, for a path that climbs out of one."""
    parts = [urlsplit(href) for href in _hrefs(asset) if href.startswith("s3://")]
    return {"" if ".." in each.path.split("/") else each.netloc for each in parts}


def _fault_of(href: str, access: Access, *, local_files: bool) -> str | None:
    if is_local(href):
        if local_files:
            return None
        return (
            "is a file of this machine, which only a catalog file on it may name (--allow-local "
            "lets any)"
        )
    if urlsplit(href).path.lower().endswith(".vrt"):
        return "is a VRT, which could lead to any other file"
    strangers_object = href.startswith("s3://") and access.unsigned
    if not access.inside and (
        _says_inside(href) or (strangers_object and leads_inside(aws.endpoint() or ""))
    ):
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
