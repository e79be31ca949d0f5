"""Which assets of a STAC item hold which bands, and which of them to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from catalog.archives.providers import ALIASES, Provider

RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt")


def choose_assets(
    item: Mapping[str, Any], provider: Provider, wanted: Sequence[str] | None
) -> tuple[Mapping[str, tuple[str, ...]], str | None]:
    """The keys of the assets to read, in the order of their bands, each with its common names.

    `wanted` are the common names to read, all of which the item must have; None takes those of the
    provider that it has. Where there is nothing to read, why.
    """
    bands_of = _bands_by_key(item, provider, wanted or provider.bands)
    chosen = [] if wanted else [key for key in provider.composites if key in bands_of]
    chosen = [key for key in chosen if bands_of[key] == provider.composites[key]]
    if not chosen:
        keys = {bands[0]: key for key, bands in reversed(bands_of.items()) if len(bands) == 1}
        if wanted:  # an asset of several bands is better than none
            shared = [(band, key) for key, bands in bands_of.items() for band in bands]
            keys = dict(reversed(shared)) | keys
        missing = [band for band in wanted or () if band not in keys]
        if missing:
            return {}, f"it has no band {', '.join(missing)}, which was asked for"
        chosen = list(dict.fromkeys(keys[b] for b in wanted or provider.bands if b in keys))
    if not chosen:
        return {}, (
            f"none of its assets ({', '.join(item['assets']) or 'it has none'}) is a raster of "
            f"{', '.join(provider.bands)}"
        )
    return {key: bands_of[key] for key in chosen}, None


def _bands_by_key(
    item: Mapping[str, Any], provider: Provider, names: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The item's rasters that hold bands of these names: common names by asset key."""
    rasters = {key: asset for key, asset in item["assets"].items() if is_raster(asset)}
    if provider.asset_keys:
        found = {
            name: next((key for key in provider.asset_keys.get(name, ()) if key in rasters), None)
            for name in names
        }
        return {key: (name,) for name, key in found.items() if key is not None}
    return {
        key: _bands(key, asset, item["properties"], provider, names)
        for key, asset in rasters.items()
    }


def _bands(
    key: str,
    asset: Mapping[str, Any],
    properties: Mapping[str, Any],
    provider: Provider,
    names: Sequence[str],
) -> tuple[str, ...]:
    """Common names of an asset's bands as far as they can be told, () when they cannot."""
    known = {*names, *provider.bands}

    def common_name(*given: str) -> str:
        common = (ALIASES.get(name.lower(), name.lower()) for name in given)
        return next((name for name in common if name in known), "")

    for field_name in ("bands", "eo:bands"):
        declared = tuple(
            common_name(*(band.get(word, "") for word in ("eo:common_name", "common_name", "name")))
            for band in asset.get(field_name, ())
        )
        if declared and all(declared):
            return declared
    if key in provider.composites:
        return provider.composites[key]
    if name := common_name(key):
        return (name,)
    polarisations = asset.get("sar:polarizations") or properties.get("sar:polarizations", ())
    if len(polarisations) == 1 and "data" in asset.get("roles", ()):
        return (common_name(polarisations[0]),)
    return ()


def is_raster(asset: Mapping[str, Any]) -> bool:
    """Whether an asset is a file of pixels, and of data, by its roles, media type or name."""
    if {"thumbnail", "overview", "metadata"} & set(asset.get("roles") or ()):
        return False
    media_type = asset.get("type") or ""
    path = urlsplit(asset["href"]).path.lower()
    return media_type.startswith(("image/tiff", "image/jp2")) or path.endswith(RASTER_SUFFIXES)
