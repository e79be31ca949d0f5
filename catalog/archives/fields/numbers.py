"""What the numbers of an asset's pixels mean: nodata, scale and offset, declared or by baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catalog.archives.fields.versions import baseline_of
from catalog.archives.providers import MSI_BANDS, Provider

# Sentinel-2's numbers are ten thousand times the reflectance; from processing baseline 04.00 on
# they are a thousand more, whatever the sensing date: the past is processed anew.
REFLECTANCE_SCALE = 0.0001
BASELINE_OFFSET, FIRST_WITH_OFFSET = -1000.0, 4


@dataclass(frozen=True)
class Meaning:
    """Physical value = stored value * scale + offset, but for nodata."""

    nodata: float | None
    """None leaves it to the file."""
    scale: float
    offset: float


def meaning_of(
    asset: Mapping[str, Any], item: Mapping[str, Any], bands: Sequence[str], provider: Provider
) -> Meaning:
    """What an asset of these bands declares, and of reflectance what its archive implies."""
    firsts = ((asset.get(key) or [{}])[0] for key in ("raster:bands", "bands"))
    declared = {k: v for each in (asset, *firsts) for k, v in each.items() if v is not None}
    nodata = declared.get("nodata")
    scale = declared.get("raster:scale", declared.get("scale"))
    offset = declared.get("raster:offset", declared.get("offset"))
    if _is_scaled_by_baseline(provider, bands):
        scale = REFLECTANCE_SCALE if scale is None else scale
        offset = float(scale) * (_baseline_offset(item, provider) or 0.0)
        nodata = 0 if nodata is None else nodata
    return Meaning(
        nodata=None if nodata is None else float(nodata),  # "nan" and "inf" are STAC's words
        scale=1.0 if scale is None else float(scale),
        offset=0.0 if offset is None else float(offset),
    )


def has_mixed_bands(asset: Mapping[str, Any]) -> bool:
    """Whether the bands of one file differ in scale or offset, which are read as those of all."""
    told = {
        (
            key,
            tuple(band.get(name) for name in ("raster:scale", "scale", "raster:offset", "offset")),
        )
        for key in ("raster:bands", "bands")
        for band in asset.get(key) or ()
    }
    return len(told) > len({key for key, _ in told})


def lacks_baseline(item: Mapping[str, Any], bands: Sequence[str], provider: Provider) -> bool:
    """Whether nothing tells if the numbers of these bands carry an offset."""
    return _is_scaled_by_baseline(provider, bands) and _baseline_offset(item, provider) is None


def _is_scaled_by_baseline(provider: Provider, bands: Sequence[str]) -> bool:
    return provider.reflectance == "by baseline" and bands[0] in MSI_BANDS


def _baseline_offset(item: Mapping[str, Any], provider: Provider) -> float | None:
    """What has to be added to an item's stored numbers first; None where nothing tells."""
    if provider.offset_applied and item["properties"].get(provider.offset_applied) is True:
        return 0.0
    baseline = baseline_of(item)
    if baseline is None:
        return None
    return BASELINE_OFFSET if baseline[0] >= FIRST_WITH_OFFSET else 0.0
