"""A STAC query becomes scenes.

What an API may get wrong or cannot do is done here: retries, paging, repeated and reprocessed
items, and the exact region and dates.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import shapely
from pystac_client import Client, ConformanceClasses
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from pystac_client.warnings import PystacClientWarning
from requests import RequestException
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry
from urllib3 import Retry

from catalog import embedded
from catalog.errors import ArgumentError, SearchError, shown, without_secrets
from catalog.grid import BBox, validated_bbox
from catalog.providers import PLAIN_STAC, Provider

logger = logging.getLogger(__name__)

PAGE_SIZE = 100
TIMEOUT_SECONDS = (10.0, 60.0)  # to connect, to answer
RETRIES = 4  # with 0.5, 1, 2 and 4 seconds before them
MAX_REPEATED_PAGES = 3  # with nothing new on them, one after the other
RETRIED_STATUSES = (429, 500, 502, 503, 504)
READABLE_SCHEMES = ("", "file", "http", "https", "s3")
RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt")
# Two items of one pass whose footprints agree to this share are one scene, processed twice.
SAME_FOOTPRINT_SHARE = 0.95
SAME_SENSING_TIME = timedelta(seconds=10)


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


@dataclass(frozen=True)
class Scene:
    """One acquisition of one sensor, as its STAC item describes it."""

    id: str
    collection: str
    datetime: datetime
    """Sensing time, aware, UTC."""
    footprint: BaseGeometry
    """Outline in longitude and latitude, degrees."""
    assets: tuple[Asset, ...]
    """The rasters to read; empty when `unusable` says why there are none."""
    platform: str | None = None
    orbit_state: str | None = None
    relative_orbit: int | None = None
    cloud_cover: float | None = None
    """Percent, 0 to 100; None where the item does not say."""
    source_product: str | None = None
    unusable: str | None = None
    terrain: tuple[Scene, ...] = ()
    """The tiles of a DEM under it, to correct radar geometry with."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names of all bands, in asset order."""
        return tuple(band for asset in self.assets for band in asset.bands)

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


@contextmanager
def catalog_api(catalog: str) -> Iterator[str]:
    """The STAC API behind `catalog`: a URL as it is, an ItemCollection file served on loopback.

    Raises SearchError when the file is missing or is no ItemCollection. The embedded server is
    stopped on leaving, and by the kernel should this process die.
    """
    if urlsplit(catalog).scheme in ("http", "https"):
        try:
            yield catalog
        except SearchError as error:
            message = without_secrets(str(error), catalog)
            raise SearchError(message, url=shown(catalog)) from error
        return
    path = Path(catalog.removeprefix("file://"))
    with embedded.stac_api(path) as url:
        try:
            yield url
        except SearchError as error:
            # People gave a file; the address it is served at for a moment tells them nothing.
            raise SearchError(str(error).replace(url, str(path)), url=str(path)) from error


def search(
    api_url: str,
    collection: str,
    bbox: BBox,
    start: date,
    end: date,
    provider: Provider = PLAIN_STAC,
) -> tuple[Scene, ...]:
    """The scenes of a collection that touch `bbox` from `start` to `end`, both days included.

    Sorted by time, then id; every scene once, in its newest processing.

    Raises ArgumentError for a bad box or dates, SearchError when the API cannot be reached, is no
    item search, does not know the collection or answers nonsense.
    """
    west, south, east, north = validated_bbox(bbox)
    if end < start:
        raise ArgumentError(f"end {end} lies before start {start}", argument="end")
    first = datetime.combine(start, time.min, tzinfo=UTC)
    last = datetime.combine(end, time.max, tzinfo=UTC)
    region = shapely.box(west, south, east, north)

    items = _items(api_url, collection, bbox, first, last)
    scenes = [scene_from_item(item, api_url, provider) for item in items]
    wanted = [
        scene
        for scene in scenes
        if first <= scene.datetime <= last and scene.footprint.intersects(region)
    ]
    return newest_processing(wanted)


def scene_from_item(
    item: Mapping[str, Any], api_url: str, provider: Provider = PLAIN_STAC
) -> Scene:
    """One STAC item, as a plain dict, made a scene. Raises SearchError naming the item."""
    try:
        assets, unusable = _assets(item, api_url, provider)
        properties = item["properties"]
        return Scene(
            id=str(item["id"]),
            collection=str(item.get("collection", "")),
            datetime=_sensing_time(properties),
            footprint=_footprint(item),
            assets=assets,
            platform=properties.get("platform"),
            orbit_state=properties.get("sat:orbit_state"),
            relative_orbit=properties.get("sat:relative_orbit"),
            cloud_cover=properties.get("eo:cloud_cover"),
            source_product=properties.get("source_product") or properties.get("s2:product_uri"),
            unusable=unusable,
        )
    except (KeyError, TypeError, ValueError, AttributeError, ShapelyError) as error:
        raise SearchError(
            f"item {item.get('id')!r} of {api_url} is not a valid STAC item: "
            f"{type(error).__name__}: {error}",
            url=api_url,
        ) from error


def newest_processing(scenes: Iterable[Scene]) -> tuple[Scene, ...]:
    """Scenes by time then id, without repeated ids and superseded processings of one scene."""
    kept: list[Scene] = []
    by_version = sorted({scene.id: scene for scene in scenes}.values(), key=_processing_version)
    for scene in reversed(by_version):
        newer = next((other for other in kept if _same_acquisition(scene, other)), None)
        if newer is None:
            kept.append(scene)
        else:
            logger.info("scene %s is superseded by %s", scene.id, newer.id)
    return tuple(sorted(kept, key=lambda scene: (scene.datetime, scene.id)))


def _items(
    api_url: str, collection: str, bbox: BBox, first: datetime, last: datetime
) -> list[dict[str, Any]]:
    try:
        with warnings.catch_warnings():
            # Conformance is checked below, and there it is an error rather than a warning.
            warnings.simplefilter("ignore", PystacClientWarning)
            client = _client(api_url)
            if not client.conforms_to(ConformanceClasses.ITEM_SEARCH):
                raise SearchError(
                    f"{api_url} is no STAC API with item search (it does not declare that "
                    "conformance class); give the address of an API's landing page",
                    url=api_url,
                )
            known = sorted(found.id for found in client.get_collections())
            if collection not in known:
                raise SearchError(
                    f"{api_url} has no collection {collection!r}; it has: "
                    f"{', '.join(known) or 'none'}",
                    url=api_url,
                )
            answer = client.search(
                collections=[collection], bbox=bbox, datetime=(first, last), limit=PAGE_SIZE
            )
            return _once_each(answer.pages_as_dicts(), api_url)
    except (APIError, RequestException) as error:
        raise SearchError(
            f"the catalog {api_url} cannot be reached or failed to answer: {error}", url=api_url
        ) from error
    except SearchError:
        raise
    except Exception as error:
        # pystac raises whatever its parsing runs into when an address answers something else.
        raise SearchError(
            f"{api_url} does not answer like a STAC API ({type(error).__name__}: {error})",
            url=api_url,
        ) from error


def _once_each(pages: Iterable[Mapping[str, Any]], api_url: str) -> list[dict[str, Any]]:
    """The items of all pages, each once; a page may come again, but not for ever."""
    found: dict[str, dict[str, Any]] = {}
    repeated = 0
    for page in pages:
        known = len(found)
        for item in page["features"]:
            found.setdefault(item["id"], item)
        repeated = repeated + 1 if page["features"] and len(found) == known else 0
        if repeated == MAX_REPEATED_PAGES:
            raise SearchError(f"{api_url} answers with the same page again and again", url=api_url)
    return list(found.values())


def _client(api_url: str) -> Client:
    retry = Retry(
        total=RETRIES,
        backoff_factor=0.5,
        status_forcelist=RETRIED_STATUSES,
        allowed_methods=None,  # a search is a POST, and repeating it is harmless
    )
    return Client.open(api_url, stac_io=StacApiIO(max_retries=retry), timeout=TIMEOUT_SECONDS)


def _assets(
    item: Mapping[str, Any], api_url: str, provider: Provider
) -> tuple[tuple[Asset, ...], str | None]:
    """The item's data assets in the provider's band order, or why there are none."""
    named = {
        key: _bands(key, asset, item["properties"], provider)
        for key, asset in item["assets"].items()
        if _is_raster(asset)
    }
    chosen: list[tuple[str, tuple[str, ...]]] = [
        (key, bands) for key, bands in provider.composites.items() if named.get(key) == bands
    ]
    if not chosen:
        keys = {bands[0]: key for key, bands in reversed(named.items()) if len(bands) == 1}
        chosen = [(keys[band], (band,)) for band in provider.bands if band in keys]
    if not chosen:
        return (), (
            f"none of its assets ({', '.join(item['assets']) or 'it has none'}) is a raster of "
            f"{', '.join(provider.bands)}"
        )
    assets = tuple(_asset(key, bands, item, api_url) for key, bands in chosen)
    refused = next((asset.href for asset in assets if not _is_readable(asset.href)), None)
    if refused is not None:
        return (), f"its asset {shown(refused)} is neither a local file, http(s):// nor s3://"
    return assets, None


def _asset(key: str, bands: tuple[str, ...], item: Mapping[str, Any], api_url: str) -> Asset:
    asset = item["assets"][key]
    declared = {**asset, **_first(asset, "raster:bands"), **_first(asset, "bands")}
    nodata = declared.get("nodata")
    scale = declared.get("raster:scale", declared.get("scale"))
    offset = declared.get("raster:offset", declared.get("offset"))
    return Asset(
        key=key,
        href=_absolute(asset["href"], item, api_url),
        bands=bands,
        nodata=None if nodata is None else float(nodata),  # "nan" and "inf" are STAC's words
        scale=1.0 if scale is None else float(scale),
        offset=0.0 if offset is None else float(offset),
        size_bytes=asset.get("file:size"),
        annotation=_sidecar(f"schema-product-{key}", item, api_url),
        calibration=_sidecar(f"schema-calibration-{key}", item, api_url),
    )


def _sidecar(key: str, item: Mapping[str, Any], api_url: str) -> str | None:
    """Where an XML file beside a raster lies, under the keys that Sentinel-1 archives use."""
    asset = item["assets"].get(key)
    if asset is None or not _is_readable(asset["href"]):
        return None
    return _absolute(asset["href"], item, api_url)


def _bands(
    key: str, asset: Mapping[str, Any], properties: Mapping[str, Any], provider: Provider
) -> tuple[str, ...]:
    """Common names of an asset's bands as far as they can be told, () when they cannot."""
    for field in ("bands", "eo:bands"):
        declared = tuple(
            _common_name(
                band.get("eo:common_name") or band.get("common_name") or band.get("name", ""),
                provider,
            )
            for band in asset.get(field, ())
        )
        if declared and all(declared):
            return declared
    if key in provider.composites:
        return provider.composites[key]
    name = _common_name(key, provider)
    if name:
        return (name,)
    polarisations = asset.get("sar:polarizations") or properties.get("sar:polarizations", ())
    if len(polarisations) == 1 and "data" in asset.get("roles", ()):
        return (_common_name(polarisations[0], provider),)
    return ()


def _common_name(name: str, provider: Provider) -> str:
    name = name.lower()
    name = provider.aliases.get(name, name)
    return name if name in provider.bands else ""


def _is_raster(asset: Mapping[str, Any]) -> bool:
    if {"thumbnail", "overview", "metadata"} & set(asset.get("roles") or ()):
        return False
    media_type = asset.get("type") or ""
    path = urlsplit(asset["href"]).path.lower()
    return media_type.startswith(("image/tiff", "image/jp2")) or path.endswith(RASTER_SUFFIXES)


def _is_readable(href: str) -> bool:
    # GDAL's own prefixes (/vsizip/...) and connection strings would reach past the file named.
    return urlsplit(href).scheme in READABLE_SCHEMES and not href.startswith("/vsi")


def _absolute(href: str, item: Mapping[str, Any], api_url: str) -> str:
    if urlsplit(href).scheme or href.startswith("/"):
        return href
    links = {link.get("rel"): link.get("href") for link in item.get("links", ())}
    return urljoin(links.get("self") or api_url, href)


def _first(asset: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    values: Sequence[Any] = asset.get(key) or ({},)
    return values[0] if isinstance(values[0], Mapping) else {}


def _sensing_time(properties: Mapping[str, Any]) -> datetime:
    text = properties.get("datetime") or properties["start_datetime"]
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _footprint(item: Mapping[str, Any]) -> BaseGeometry:
    if item.get("geometry") is None:
        corners = item["bbox"]
        half = len(corners) // 2  # two corners of two numbers, or of three with heights
        outline = shapely.box(*corners[:2], *corners[half : half + 2])
    else:
        outline = shapely.geometry.shape(item["geometry"])
    sound: BaseGeometry = outline if outline.is_valid else shapely.make_valid(outline)
    return sound


def _same_acquisition(scene: Scene, other: Scene) -> bool:
    if scene.platform != other.platform or scene.collection != other.collection:
        return False
    if abs(scene.datetime - other.datetime) > SAME_SENSING_TIME:
        return False
    union = scene.footprint.union(other.footprint).area
    shared = scene.footprint.intersection(other.footprint).area
    return bool(union > 0 and shared / union >= SAME_FOOTPRINT_SHARE)


def _processing_version(scene: Scene) -> tuple[str, str]:
    # Sentinel-2 product names carry the baseline as N0500; ids of archives without it end in a
    # running number, so they order by themselves.
    baseline = re.search(r"_N(\d{4})_", scene.source_product or scene.id)
    return (baseline.group(1) if baseline else "", scene.id)
