"""Which assets of a STAC item hold which bands, and which of them to read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from catalog.archives.providers import ALIASES, MSI_BANDS, POLARISATIONS, Provider

RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt")
RESOLUTION = re.compile(r"([0-9]+)m")
# What else the key of a band's asset may say. An angle, a noise or a mask of the band is none.
LINEAR = {"lin", "linear", "gamma0", "sigma0", "beta0", "gamma", "sigma", "g", "s", "amplitude",
          "intensity", "backscatter", "measurement", "grd", "rtc", "nrb", "iw", "ew"}  # fmt: skip
LOGARITHMIC = {"log", "db"}


def choose_assets(
    item: Mapping[str, Any], provider: Provider, wanted: Sequence[str] | None
) -> tuple[Mapping[str, tuple[str, ...]], str | None]:
    """The keys of the assets to read, in the order of their bands, each with its common names.

    `wanted` are the common names to read, all of which the item must have; None takes those of the
    provider that it has. Of assets of one band the finest is taken, and one of several bands where
    no other has them; "" stands for bands of it that nobody knows. Where there is nothing to read,
    why.
    """
    names = wanted or provider.bands
    bands_of = _bands_by_key(item, provider, names)
    chosen = [] if wanted else [key for key in provider.composites if key in bands_of]
    chosen = [key for key in chosen if bands_of[key] == provider.composites[key]]
    if not chosen:
        shared = [(band, key) for key, bands in bands_of.items() for band in bands if band]
        alone = [(band, key) for band, key in shared if len(bands_of[key]) == 1]
        key_of = dict(reversed(shared)) | dict(reversed(alone))
        missing = [band for band in wanted or () if band not in key_of]
        if missing:
            return {}, f"it has no band {', '.join(missing)}, which was asked for"
        chosen = list(dict.fromkeys(key_of[band] for band in names if band in key_of))
        several = {b for key in chosen for b in bands_of[key] if len(bands_of[key]) > 1}
        chosen = [k for k in chosen if len(bands_of[k]) > 1 or bands_of[k][0] not in several]
    if not chosen:
        return {}, (
            f"none of its assets ({', '.join(item['assets']) or 'it has none'}) is a raster of "
            f"{', '.join(provider.bands)}"
        )
    return {key: bands_of[key] for key in chosen}, None


def bands_to_use(
    bands_of: Mapping[str, tuple[str, ...]], provider: Provider, wanted: Sequence[str] | None
) -> tuple[str, ...] | None:
    """The bands to use of the assets that were chosen, or None: all that they hold, in order."""
    held = [band for bands in bands_of.values() for band in bands]
    used = tuple(wanted or [band for band in provider.bands if band in held])
    return used if held and (wanted or len(used) != len(held)) else None


def is_raster(asset: Mapping[str, Any]) -> bool:
    """Whether an asset is a file of pixels, and of data, by its roles, media type or name."""
    if {"thumbnail", "overview", "metadata"} & set(asset.get("roles") or ()):
        return False
    media_type = asset.get("type") or ""
    path = urlsplit(asset["href"]).path.lower()
    return media_type.startswith(("image/tiff", "image/jp2")) or path.endswith(RASTER_SUFFIXES)


def _bands_by_key(
    item: Mapping[str, Any], provider: Provider, names: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The item's rasters that hold bands of these names: common names by asset key, finest first.

    In the order of the provider where it has one, and of equals in that of the item.
    """
    rasters = {key: asset for key, asset in item["assets"].items() if is_raster(asset)}
    if provider.asset_keys:
        found = {
            name: next((key for key in provider.asset_keys.get(name, ()) if key in rasters), None)
            for name in names
        }
        return {key: (name,) for name, key in found.items() if key is not None}
    properties = item["properties"]
    bands_of = {
        key: _bands(key, asset, properties, provider, names) for key, asset in rasters.items()
    }
    if not any(map(any, bands_of.values())):
        bands_of = _polarisations_of_only(rasters, properties)

    def rank(key: str) -> tuple[float, bool]:
        words = set(_words(key))
        return _metres(key, rasters[key]), not LOGARITHMIC.isdisjoint(words)

    return {key: bands_of[key] for key in sorted(bands_of, key=rank)}


def _bands(
    key: str,
    asset: Mapping[str, Any],
    properties: Mapping[str, Any],
    provider: Provider,
    names: Sequence[str],
) -> tuple[str, ...]:
    """Common names of an asset's bands as far as they can be told, () when they cannot."""
    known = {*names, *provider.bands, *MSI_BANDS, *POLARISATIONS}

    def common_name(*given: str | None) -> str:
        common = (ALIASES.get(name.lower(), name.lower()) for name in given if name)
        return next((name for name in common if name in known), "")

    told = [
        tuple(
            common_name(band.get("eo:common_name"), band.get("common_name"), band.get("name"))
            for band in asset.get(field_name) or ()
        )
        for field_name in ("bands", "eo:bands")
    ]
    for declared in told:
        if declared and all(declared):
            return declared
    if key in provider.composites:
        return provider.composites[key]
    if name := common_name(key):
        return (name,)
    spoken = [common_name(word) or word for word in _words(key)]
    if any(word in known for word in spoken) and all(
        word in known or word in LINEAR | LOGARITHMIC or RESOLUTION.fullmatch(word)
        for word in spoken
    ):
        return tuple(word for word in spoken if word in known)
    polarisations = asset.get("sar:polarizations") or properties.get("sar:polarizations") or []
    if len(polarisations) == 1 and "data" in (asset.get("roles") or ()):
        return (common_name(polarisations[0]),)
    return next((declared for declared in told if len(declared) > 1 and any(declared)), ())


def _polarisations_of_only(
    rasters: Mapping[str, Mapping[str, Any]], properties: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Of an item with one raster of which nothing else is told: the polarisations of the item."""
    if len(rasters) != 1:
        return {}
    ((key, asset),) = rasters.items()
    told = asset.get("sar:polarizations") or properties.get("sar:polarizations") or []
    bands = tuple(name.lower() for name in told)
    return {key: bands} if set(bands) <= set(POLARISATIONS) else {}


def _words(key: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", key.lower())


def _metres(key: str, asset: Mapping[str, Any]) -> float:
    """The side of a pixel as the asset has it; infinite where it has nothing of it."""
    named = (RESOLUTION.fullmatch(word) for word in _words(key))
    first = [(asset.get(name) or [{}])[0] for name in ("raster:bands", "bands")]
    told: list[Any] = [
        *(float(match[1]) for match in named if match),
        *(
            each.get(name)
            for each in (asset, *first)
            for name in ("raster:spatial_resolution", "spatial_resolution", "gsd")
        ),
        *(abs(number) for number in (asset.get("proj:transform") or [])[:1]),
    ]
    numbers = (float(metres) for metres in told if isinstance(metres, int | float))
    return next((metres for metres in numbers if metres > 0), math.inf)
