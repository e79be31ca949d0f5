"""One STAC item becomes one scene: which of its assets are read, and what their numbers mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import shapely
from shapely.geometry.base import BaseGeometry

from catalog.archives.fields.bands import bands_to_use, choose_assets, is_raster
from catalog.archives.fields.numbers import has_mixed_bands, lacks_baseline, meaning_of
from catalog.archives.fields.oddities import LONGEST_NAME, SHOWN_CHARACTERS, find_oddity
from catalog.archives.fields.versions import (
    as_utc,
    processing_time,
    strip_of,
    version_of,
)
from catalog.archives.providers import PLAIN_STAC, POLARISATIONS, Access, Provider
from catalog.errors import SearchError, shown
from catalog.longitudes import in_one_piece

Moment = datetime  # by another name, for scenes have a field of that one
READABLE_SCHEMES = ("", "file", "http", "https", "s3")
TERRAIN_CORRECTED = {"rtc", "gtc", "nrb"}  # the types of SAR products that are
LARGEST_LATITUDE = 90.001
MOST_POSITIONS = 10_000  # of an outline; archives trace the data of a scene with some hundreds
# Edges that cross each other may do so as often as there are pairs of them, and each crossing
# becomes a position when such an outline is made a sound one.
MOST_POSITIONS_OF_A_TANGLE = 500
SIDECARS = {
    "product": re.compile(r"/annotation/[^/]+\.xml$"),
    "calibration": re.compile(r"/annotation/calibration/calibration-[^/]+\.xml$"),
    "noise": re.compile(r"/annotation/calibration/noise-[^/]+\.xml$"),
}
# Annotations of interference stand in items in place of those of products, which lie beside them.
INTERFERENCE = re.compile(r"(^|/)(?:rfi/)?rfi-(?=[^/]+\.xml(?:$|\?))")


@dataclass(frozen=True)
class Numbers:
    """The numbers of a raster file and how they lie, as the file tells it."""

    dtype: str
    nodata: float | None
    in_radar_geometry: bool = False
    """Whether only control points tell where they lie."""


@dataclass(frozen=True)
class Asset:
    """One raster file of a scene, and what its bands mean."""

    key: str
    href: str
    bands: tuple[str, ...]
    """Common names, one per band of the file, in file order."""
    nodata: float | None = None
    """Declared nodata value; None leaves it to the file."""
    scale: float = 1.0
    offset: float = 0.0
    """Physical value = stored value * scale + offset."""
    size_bytes: int | None = None
    """Of the file, where the item says it."""
    annotation: str | None = None
    """Where the XML of a Sentinel-1 product lies that tells its geometry."""
    calibration: str | None = None
    """Where the XML of a Sentinel-1 product lies that leads from its numbers to sigma nought."""
    noise: str | None = None
    """Where the XML of a Sentinel-1 product lies that tells its thermal noise."""
    access: Access = field(default_factory=Access)
    transform: tuple[float, ...] | None = None
    """Where the item says the pixels lie, as rasterio's transform; the file decides."""
    found: Numbers | None = None
    """What the file holds, once it was probed."""


MaskKind = Literal["scene classes", "cloud probability"]


@dataclass(frozen=True)
class Mask:
    """The raster that tells clouds and shadows of an optical scene."""

    asset: Asset
    kind: MaskKind


@dataclass(frozen=True)
class Scene:
    """One acquisition of one sensor, as its STAC item describes it."""

    id: str
    collection: str
    datetime: datetime
    """Sensing time, aware, UTC."""
    footprint: BaseGeometry
    """Outline in longitude and latitude, degrees; in one piece across the antimeridian."""
    assets: tuple[Asset, ...]
    """The rasters to read; empty when `unusable` says why there are none."""
    platform: str | None = None
    orbit_state: str | None = None
    relative_orbit: int | None = None
    cloud_cover: float | None = None
    """Percent, 0 to 100; None where the item does not say."""
    version: tuple[int, ...] = ()
    """The numbers of its processing's version, as (5, 9) of 05.09; none where nothing tells."""
    processed: Moment | None = None
    """When it was made of what the sensor took."""
    strip: str | None = None
    """When the strip of a Sentinel-2 scene began; one tile may have parts of two of a pass."""
    unusable: str | None = None
    mask: Mask | None = None
    chosen_bands: tuple[str, ...] | None = None
    """Those asked for, where assets hold others beside them."""
    terrain: tuple[Scene, ...] = ()
    """The tiles of a DEM under it, to correct radar geometry with."""
    orbit_file: str | None = None
    """Path of the file that tells where the satellite was, better than the annotation."""
    geoid: str | None = None
    """What the heights of `terrain` are above, as EPSG:3855, where PROJ knows how far that is from
    the ellipsoid; found out when the scene is probed. None where nobody knows."""
    terrain_corrected: bool = False
    """Whether its maker took the relief out of it, as of radiometrically corrected (RTC) products;
    where nothing says so, it counts as not."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names of the bands to use: those asked for, or all in asset order."""
        every = tuple(band for asset in self.assets for band in asset.bands)
        return every if self.chosen_bands is None else self.chosen_bands

    @property
    def solar_day(self) -> date:
        """The local day of the acquisition: UTC moved by four minutes a degree of longitude.

        A pass that crosses midnight UTC stays one day.
        """
        longitude = self.footprint.centroid.x
        return (self.datetime + timedelta(hours=longitude / 15)).date()

    @property
    def pass_key(self) -> str:
        """Equal for the scenes one satellite took on one pass, different otherwise."""
        parts = (self.platform, self.relative_orbit, self.orbit_state, self.solar_day.isoformat())
        return "/".join("-" if part is None else str(part) for part in parts)


@dataclass(frozen=True)
class Dropped:
    """An item that gives no scene of its own, and why, in plain words."""

    id: str
    reason: str
    solar_day: date | None = None
    """None where the item does not tell it."""


def read_items(
    items: Iterable[Any],
    api_url: str,
    provider: Provider = PLAIN_STAC,
    bands: Sequence[str] | None = None,
) -> tuple[tuple[Scene, ...], tuple[Dropped, ...]]:
    """The scenes of an archive's answer, and the items that are none. `bands` as below."""
    scenes: list[Scene] = []
    dropped: list[Dropped] = []
    for number, item in enumerate(items, start=1):
        try:
            scenes.append(_read_item(item, api_url, provider, bands))
        except _ItemFault as fault:
            dropped.append(Dropped(name_item(item, number), f"is no valid STAC item: {fault}"))
    return tuple(scenes), tuple(dropped)


def scene_from_item(
    item: Mapping[str, Any],
    api_url: str,
    provider: Provider = PLAIN_STAC,
    bands: Sequence[str] | None = None,
) -> Scene:
    """One STAC item, as a plain dict, made a scene.

    `bands` are the common names to read, all of which the item must have; None takes those of the
    provider that it has. Raises SearchError naming the item.
    """
    try:
        return _read_item(item, api_url, provider, bands)
    except _ItemFault as fault:
        raise SearchError(
            f"item {name_item(item)!r} of {api_url} is not a valid STAC item: {fault}", url=api_url
        ) from fault


def name_item(item: Any, number: int | None = None) -> str:
    """The id of an item of which nothing is known, or what can be said in its place."""
    id_ = item.get("id") if isinstance(item, Mapping) else None
    if isinstance(id_, str) and id_.isprintable() and id_.strip():
        return id_ if len(id_) <= LONGEST_NAME else f"{id_[:SHOWN_CHARACTERS]}…"
    return "without a name" if number is None else f"item {number} of the answer, without a name"


class _ItemFault(ValueError):
    """What keeps an item from being a scene, in words."""


def _read_item(item: Any, api_url: str, provider: Provider, bands: Sequence[str] | None) -> Scene:
    try:
        if oddity := find_oddity(item):
            raise _ItemFault(oddity)
        return _scene(item, api_url, provider, bands)
    except _ItemFault:
        raise
    except Exception as error:
        # Whatever a library makes of JSON from outside: one item must not end a search.
        text = f"{type(error).__name__}: {error}".encode("ascii", "backslashreplace").decode()
        raise _ItemFault(f"it cannot be read ({text})") from error


def _scene(
    item: Mapping[str, Any], api_url: str, provider: Provider, bands: Sequence[str] | None
) -> Scene:
    properties = item["properties"]
    footprint = _footprint(item)
    if fault := _find_footprint_fault(footprint):
        raise _ItemFault(fault)
    assets, unusable = _assets(item, api_url, provider, bands)
    orbit = properties.get("sat:relative_orbit")
    return Scene(
        id=item["id"],
        collection=item.get("collection") or "",
        datetime=_sensing_time(properties),
        footprint=footprint,
        assets=assets,
        platform=properties.get("platform"),
        orbit_state=(properties.get("sat:orbit_state") or "").strip().lower() or None,
        relative_orbit=None if orbit is None else int(orbit),
        cloud_cover=properties.get("eo:cloud_cover"),
        version=version_of(item),
        processed=processing_time(item),
        strip=strip_of(item),
        unusable=unusable,
        mask=_mask(item, api_url, provider) if assets else None,
        chosen_bands=bands_to_use({each.key: each.bands for each in assets}, provider, bands),
        terrain_corrected=_is_terrain_corrected(item),
    )


def _assets(
    item: Mapping[str, Any], api_url: str, provider: Provider, wanted: Sequence[str] | None
) -> tuple[tuple[Asset, ...], str | None]:
    """The item's data assets in the order of their bands, or why there are none."""
    bands_of, fault = choose_assets(item, provider, wanted)
    if fault is not None:
        return (), fault
    first = next(iter(bands_of.values()))
    if lacks_baseline(item, first, provider):
        return (), (
            "its processing baseline is not told, so nobody knows whether its numbers carry an "
            "offset"
        )
    mixed = next((key for key in bands_of if has_mixed_bands(item["assets"][key])), None)
    if mixed is not None:
        return (), f"the bands of its asset {mixed} differ in scale or offset"
    assets = tuple(_asset(key, bands, item, api_url, provider) for key, bands in bands_of.items())
    refused = next((asset.href for asset in assets if not _is_readable(asset.href)), None)
    if refused is not None:
        return (), f"its asset {shown(refused)} is neither a local file, http(s):// nor s3://"
    return assets, None


def _asset(
    key: str, bands: tuple[str, ...], item: Mapping[str, Any], api_url: str, provider: Provider
) -> Asset:
    asset = item["assets"][key]
    meaning = meaning_of(asset, item, bands, provider)
    transform = asset.get("proj:transform") or item["properties"].get("proj:transform")
    return Asset(
        key=key,
        href=_absolute_href(asset["href"], item, api_url),
        bands=bands,
        nodata=meaning.nodata,
        scale=meaning.scale,
        offset=meaning.offset,
        size_bytes=asset.get("file:size"),
        annotation=_sidecar("product", bands, item, api_url),
        calibration=_sidecar("calibration", bands, item, api_url),
        noise=_sidecar("noise", bands, item, api_url),
        access=provider.access(str(item.get("collection", ""))),
        transform=tuple(float(number) for number in transform[:6]) if transform else None,
    )


def _sidecar(
    kind: Literal["product", "calibration", "noise"],
    bands: Sequence[str],
    item: Mapping[str, Any],
    api_url: str,
) -> str | None:
    """Where an XML file of a Sentinel-1 product lies: by its usual key, or by its place in SAFE."""
    polarisation = bands[0]
    if polarisation not in POLARISATIONS:
        return None
    named = SIDECARS[kind]
    for key, asset in item["assets"].items():
        path = urlsplit(asset["href"]).path.lower()
        by_place = named.search(path) and polarisation in re.split(r"[-.]", path.split("/")[-1])
        if key.lower() == f"schema-{kind}-{polarisation}" or by_place:
            href = INTERFERENCE.sub(r"\1", asset["href"])
            return _absolute_href(href, item, api_url) if _is_readable(href) else None
    return None


def _mask(item: Mapping[str, Any], api_url: str, provider: Provider) -> Mask | None:
    """Scene classes where the item has them, else the probability of cloud, else nothing."""
    keys_by_kind: dict[MaskKind, tuple[str, ...]] = {
        "scene classes": provider.scene_classes,
        "cloud probability": provider.cloud_probability,
    }
    for kind, keys in keys_by_kind.items():
        for key in keys:
            if key in item["assets"] and is_raster(item["assets"][key]):
                asset = _asset(key, (key.lower(),), item, api_url, provider)
                if _is_readable(asset.href):
                    return Mask(asset, kind)
    return None


def _is_terrain_corrected(item: Mapping[str, Any]) -> bool:
    """By the type of the product, or by the name of its collection, word by word."""
    properties = item["properties"]
    told = (
        properties.get("sar:product_type"),
        properties.get("product:type"),
        item.get("collection"),
    )
    words = re.findall(r"[a-z0-9]+", " ".join(str(each) for each in told if each).lower())
    return not TERRAIN_CORRECTED.isdisjoint(words)


def _is_readable(href: str) -> bool:
    # GDAL's own prefixes (/vsizip/...) and connection strings would reach past the file named.
    return urlsplit(href).scheme in READABLE_SCHEMES and not href.startswith("/vsi")


def _absolute_href(href: str, item: Mapping[str, Any], api_url: str) -> str:
    parts = urlsplit(href)
    if parts.scheme and not href.startswith(f"{parts.scheme}:"):
        return parts.geturl()  # S3:// and the like, of which libraries make different things
    if parts.scheme or href.startswith("/"):
        return href
    links = {link.get("rel"): link.get("href") for link in item.get("links", ())}
    return urljoin(links.get("self") or api_url, href)


def _sensing_time(properties: Mapping[str, Any]) -> datetime:
    return as_utc(properties.get("datetime") or properties["start_datetime"])


def _footprint(item: Mapping[str, Any]) -> BaseGeometry:
    if item.get("geometry") is None:
        corners = item["bbox"]
        half = len(corners) // 2  # two corners of two numbers, or of three with heights
        outline = shapely.box(*corners[:2], *corners[half : half + 2])
    else:
        outline = shapely.geometry.shape(item["geometry"])
    positions = shapely.get_num_coordinates(outline)
    if positions > MOST_POSITIONS:
        raise _ItemFault(f"its geometry has {positions} positions, more than {MOST_POSITIONS}")
    if positions > MOST_POSITIONS_OF_A_TANGLE and not outline.is_valid:
        raise _ItemFault(f"its geometry crosses itself, with {positions} positions")
    outline = in_one_piece(outline)
    sound: BaseGeometry = outline if outline.is_valid else shapely.make_valid(outline)
    return sound


def _find_footprint_fault(footprint: BaseGeometry) -> str | None:
    if not footprint.area > 0:
        return "its footprint has no area"
    _, south, _, north = footprint.bounds
    if not -LARGEST_LATITUDE <= south <= north <= LARGEST_LATITUDE:
        return f"its footprint lies at latitudes from {south:g} to {north:g}"
    return None
