"""What differs between archives: where they are, what they call things, what their numbers mean.

One frozen record per archive; adding an archive is adding a record.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from urllib.parse import urlsplit

from catalog.errors import ArgumentError

# The bands of Sentinel-2's instrument, by the common names of STAC's eo extension.
MSI_BANDS: Mapping[str, str] = {
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "rededge071": "B05",
    "rededge075": "B06",
    "rededge078": "B07",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "cirrus": "B10",
    "swir16": "B11",
    "swir22": "B12",
}
POLARISATIONS = ("vv", "vh", "hh", "hv")
ELEVATION = "elevation"
"""The band of a DEM, metres."""
ALIASES: Mapping[str, str] = {
    **{band.lower(): name for name, band in MSI_BANDS.items()},
    "rededge1": "rededge071",
    "rededge2": "rededge075",
    "rededge3": "rededge078",
}
"""Lower-case band names that mean a common name."""


@dataclass(frozen=True)
class Access:
    """What it takes to open the files of an archive, beside their address."""

    signed: bool = False
    """Addresses get a token of the Planetary Computer when they are opened."""
    requester_pays: bool = False
    """Whoever reads pays for the transfer, by their AWS account."""
    copernicus: bool = False
    """s3:// leads to the object store of the Copernicus Data Space, not to that of AWS."""
    inside: bool = False
    """They may lie on this machine or its network, as what named them does."""
    own_buckets: tuple[str, ...] = ()
    """Buckets in which the user's keys are for reading them, whoever names a file there."""
    unsigned: bool = False
    """s3:// is read without the user's keys: those are for files that the user may have meant."""


@dataclass(frozen=True)
class Collection:
    """One collection that serves as input."""

    id: str
    role: Literal["optical", "sar", "dem"]
    geometry: Literal["map", "gcps"] = "map"
    """Pixels lie on a map projection, or in the sensor's geometry with ground control points."""
    requester_pays: bool = False
    own_buckets: tuple[str, ...] = ()
    """Where its files lie that are read with the user's keys."""


@dataclass(frozen=True)
class Provider:
    """How to find and to read the items of an archive."""

    name: str
    title: str
    needs: str
    """What a person has to have or to give, in a few words."""
    api_url: str | None = None
    collections: tuple[Collection, ...] = ()
    """The first one of a role is its default."""
    bands: tuple[str, ...] = ("red", "green", "blue", "nir", *POLARISATIONS)
    """Common names of the bands to use where none are asked for, in output order; what an item
    lacks is left out."""
    asset_keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By common name, the keys an asset of that band can have, finest pixels first. Without any,
    items are asked what their assets hold."""
    composites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Asset keys that hold several bands at once, preferred where no bands are asked for."""
    scene_classes: tuple[str, ...] = ()
    """Keys an asset of Sentinel-2 scene classes (SCL) can have."""
    cloud_probability: tuple[str, ...] = ()
    """Keys an asset of cloud probabilities in percent can have; used where there are no classes."""
    reflectance: Literal["declared", "by baseline"] = "declared"
    """Scale and offset of optical bands: as the asset says, or by the processing baseline."""
    offset_applied: str | None = None
    """Property that is true where the archive subtracted the baseline's offset itself."""
    signed: bool = False
    copernicus: bool = False

    def collection(self, role: Literal["optical", "sar", "dem"]) -> str | None:
        """The default collection of a role."""
        return next((each.id for each in self.collections if each.role == role), None)

    def access(self, collection_id: str) -> Access:
        """What it takes to open the files of a collection."""
        known = next((each for each in self.collections if each.id == collection_id), None)
        return Access(
            signed=self.signed,
            requester_pays=known is not None and known.requester_pays,
            copernicus=self.copernicus,
            own_buckets=() if known is None else known.own_buckets,
        )


PLAIN_STAC = Provider(
    name="stac",
    title="a plain STAC API",
    needs="--catalog, --optical and --sar",
    composites={"visual": ("red", "green", "blue")},
    scene_classes=("scl", "SCL", "SCL_20m"),
)
"""Items that follow STAC alone: bands by `bands`, `eo:bands`, asset key or polarisation; numbers by
the scale and offset they declare."""

EARTH_SEARCH = Provider(
    name="earth-search",
    title="Earth Search v1, by Element 84 on AWS",
    needs="nothing for Sentinel-2; AWS credentials for Sentinel-1: whoever reads it pays",
    api_url="https://earth-search.aws.element84.com/v1",
    collections=(
        Collection("sentinel-2-c1-l2a", "optical"),
        Collection("sentinel-2-l2a", "optical"),
        Collection(
            "sentinel-1-grd",
            "sar",
            geometry="gcps",
            requester_pays=True,
            own_buckets=("sentinel-s1-l1c",),
        ),
        Collection("cop-dem-glo-30", "dem"),
    ),
    asset_keys={
        **{name: (name,) for name in (*MSI_BANDS, *POLARISATIONS)},
        "rededge071": ("rededge1",),
        "rededge075": ("rededge2",),
        "rededge078": ("rededge3",),
    },
    scene_classes=("scl",),
    cloud_probability=("cloud",),
    reflectance="by baseline",
    offset_applied="earthsearch:boa_offset_applied",
)

PLANETARY_COMPUTER = Provider(
    name="planetary-computer",
    title="Microsoft Planetary Computer",
    needs="the planetary-computer package: pip install 'tar-pipeline[planetary-computer]'",
    api_url="https://planetarycomputer.microsoft.com/api/stac/v1",
    collections=(
        Collection("sentinel-2-l2a", "optical"),
        Collection("sentinel-1-rtc", "sar"),
        Collection("sentinel-1-grd", "sar", geometry="gcps"),
        Collection("cop-dem-glo-30", "dem"),
    ),
    asset_keys={
        **{name: (band,) for name, band in MSI_BANDS.items()},
        **{name: (name,) for name in POLARISATIONS},
    },
    scene_classes=("SCL",),
    reflectance="by baseline",
    signed=True,
)

COPERNICUS = Provider(
    name="copernicus",
    title="Copernicus Data Space Ecosystem",
    needs="S3 keys of an account there, in CDSE_ACCESS_KEY_ID and CDSE_SECRET_ACCESS_KEY",
    api_url="https://stac.dataspace.copernicus.eu/v1",
    collections=(
        Collection("sentinel-2-l2a", "optical"),
        Collection("sentinel-1-grd", "sar", geometry="gcps"),
        Collection("cop-dem-glo-30-dged-cog", "dem"),
    ),
    asset_keys={
        # Every band comes in all resolutions from its own upwards; L1C has no suffix.
        **{
            name: (*(f"{band}_{metres}m" for metres in (10, 20, 60)), band)
            for name, band in MSI_BANDS.items()
        },
        **{name: (name, name.upper()) for name in POLARISATIONS},
    },
    scene_classes=("SCL_20m", "SCL_60m"),
    cloud_probability=("CLD_20m", "CLD_60m"),
    reflectance="by baseline",
    copernicus=True,
)

PROVIDERS: Mapping[str, Provider] = {
    each.name: each for each in (EARTH_SEARCH, PLANETARY_COMPUTER, COPERNICUS, PLAIN_STAC)
}


def elevations_of(provider: Provider) -> Provider:
    """The archive as one of DEMs: how to find the heights in the items of such a collection."""
    keys = {ELEVATION: ("data", "elevation", "dem", "DEM")}
    return replace(
        provider, bands=(ELEVATION,), asset_keys=keys, composites={}, reflectance="declared"
    )


def provider_named(name: str) -> Provider:
    """The record of an archive. Raises ArgumentError with the names there are."""
    if name not in PROVIDERS:
        raise ArgumentError(
            f"provider {name!r} is not known; there are: {', '.join(PROVIDERS)}",
            argument="provider",
        )
    return PROVIDERS[name]


def provider_at(catalog: str) -> Provider:
    """The archive whose API has this address; a plain STAC API where none has."""
    host = urlsplit(catalog).hostname
    for each in PROVIDERS.values():
        if each.api_url is not None and host == urlsplit(each.api_url).hostname:
            return each
    return PLAIN_STAC


def optical_bands(names: tuple[str, ...]) -> tuple[str, ...]:
    """Common names of optical bands given by common or instrument name, each once, in order.

    Raises ArgumentError for a name that is neither.
    """
    common = tuple(ALIASES.get(name.lower(), name.lower()) for name in names)
    unknown = [given for given, name in zip(names, common, strict=True) if name not in MSI_BANDS]
    if unknown or not names:
        raise ArgumentError(
            f"bands: {', '.join(unknown) or 'none given'}; there are: "
            f"{', '.join(f'{name} ({band})' for name, band in MSI_BANDS.items())}",
            argument="bands",
        )
    return tuple(dict.fromkeys(common))
