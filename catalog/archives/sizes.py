"""How large the files of scenes are, without reading them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from catalog import objects
from catalog.archives.items import Asset, Scene
from catalog.errors import CatalogError

ASKED = 32  # files whose size is asked for where items do not say it
AT_ONCE = 16


@dataclass(frozen=True)
class FileSizes:
    """The bytes of a set of files, and how they are known."""

    files: int
    bytes: int | None
    basis: str


def file_sizes(scenes: Sequence[Scene]) -> FileSizes:
    """Bytes of all files of scenes: by their items, else by asking, else from those that answered.

    A size that nobody tells is no error: `bytes` is None when not one is known.
    """
    assets = {asset.href: asset for scene in scenes for asset in scene.assets}
    said = {href: asset.size_bytes for href, asset in assets.items() if asset.size_bytes}
    silent = [asset for href, asset in assets.items() if href not in said]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = threads.map(_ask_for_size, silent[:ASKED])
        told = {a.href: size for a, size in zip(silent[:ASKED], answers, strict=True) if size}
    known = {**said, **told}
    if not known:
        return FileSizes(len(assets), None, "no file's size is known")
    total = sum(known.values())
    if len(known) == len(assets):
        return FileSizes(len(assets), total, "measured" if told else "by the items")
    estimate = round(total / len(known) * len(assets))
    return FileSizes(len(assets), estimate, f"estimated from {len(known)} of {len(assets)} files")


def _ask_for_size(asset: Asset) -> int | None:
    """The size of one file by a question to its server (a HEAD), None when it does not say."""
    try:
        fs, path = objects.filesystem(asset.href)
        with objects.store_errors("ask for the size of", asset.href):
            return int(fs.size(path) or 0) or None
    except (CatalogError, TypeError, ValueError):
        return None
