"""How large the files of scenes are, without reading them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from requests import RequestException
from shapely.geometry.base import BaseGeometry

from catalog import objects
from catalog.archives.items import Asset, Scene
from catalog.errors import CatalogError
from catalog.outside.answers import TIMEOUT_SECONDS, Limits, RefusedAnswer, session

ASKED = 32  # files whose size is asked for where items do not say it
AT_ONCE = 16
HEADERS_ALONE = Limits(answer_bytes=2**20, all_bytes=2**20, seconds=60.0)


@dataclass(frozen=True)
class FileSizes:
    """The bytes of a set of files, and how they are known."""

    files: int
    bytes: int | None
    inside: int | None
    """Of the part within the region, as if bytes lay evenly over each scene's footprint."""
    basis: str


def file_sizes(scenes: Sequence[Scene], region: BaseGeometry) -> FileSizes:
    """Bytes of all files of scenes: by their items, else by asking, else from those that answered.

    `region` is in degrees, as the footprints are. A size that nobody tells is no error: `bytes` is
    None when not one is known.
    """
    assets = {asset.href: asset for scene in scenes for asset in scene.assets}
    said = {href: asset.size_bytes for href, asset in assets.items() if asset.size_bytes}
    silent = [asset for href, asset in assets.items() if href not in said]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = threads.map(_ask_for_size, silent[:ASKED])
        told = {a.href: size for a, size in zip(silent[:ASKED], answers, strict=True) if size}
    known = {**said, **told}
    if not known:
        return FileSizes(len(assets), None, None, "no file's size is known")
    usual = sum(known.values()) / len(known)
    sizes = {href: known.get(href, usual) for href in assets}
    shares = {
        asset.href: scene.footprint.intersection(region).area / scene.footprint.area
        for scene in scenes
        for asset in scene.assets
    }
    inside = sum(size * shares[href] for href, size in sizes.items())
    basis = f"estimated from {len(known)} of {len(assets)} files"
    if len(known) == len(assets):
        basis = "measured" if told else "by the items"
    return FileSizes(len(assets), round(sum(sizes.values())), round(inside), basis)


def _ask_for_size(asset: Asset) -> int | None:
    """The size of one file by a question to its server (a HEAD), None when it does not say."""
    if asset.href.startswith(("http://", "https://")):
        return _size_by_http(asset)
    try:
        fs, path = objects.filesystem(asset.href)
        with objects.store_errors("ask for the size of", asset.href):
            return int(fs.size(path) or 0) or None
    except (CatalogError, TypeError, ValueError):
        return None


def _size_by_http(asset: Asset) -> int | None:
    try:
        with session(HEADERS_ALONE, inside=asset.access.inside) as asking:
            # Packed for the way, it would have another size.
            answer = asking.head(
                asset.href, allow_redirects=True, timeout=TIMEOUT_SECONDS,
                headers={"Accept-Encoding": "identity"},
            )  # fmt: skip
            return int(answer.headers.get("Content-Length", 0)) or None if answer.ok else None
    except (RequestException, RefusedAnswer, ValueError):
        return None
