"""What a person asks for: one region, one span of days, two collections, one store.

This is the edge where people type (the command line, the Prefect UI, a schedule), so it is the one
place that uses pydantic, and every mistake ends in one sentence that names the argument.
"""

from __future__ import annotations

from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from catalog.archives.pairs import BEST_ORBIT, ORBIT_POLICY
from catalog.archives.providers import PLAIN_STAC, optical_bands, provider_at, provider_named
from catalog.errors import has_secret, shown
from catalog.grid import validated_bbox
from catalog.store.slot import validated_region


class RequestError(ValueError):
    """A request that cannot be carried out; the message is one sentence that names the argument."""


class InName(Enum):
    """How a field of a request gets into the names of generations (`flows.plan.generation`).

    What changes pixels has to change the name, so every field says which of these it is.
    """

    BY_VALUE = "it changes pixels in a way that only its value tells"
    BY_CONTENT = "what it leads to is in the name: the lattice, the pairs, the weights' hash"
    NOT = "it changes no pixel"


class RegionRequest(BaseModel):
    """Register the SAR scenes of a region to its optical scenes; leave one mosaic per day.

    Build it with `RegionRequest.of(...)` to get a `RequestError` instead of pydantic's report.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True
    )

    provider: Annotated[str, InName.BY_VALUE] = Field(
        PLAIN_STAC.name, description="The archive; `tar-pipeline providers`."
    )
    catalog: Annotated[str, InName.BY_CONTENT] = Field(
        min_length=1, description="STAC API URL, or path of an ItemCollection."
    )
    optical: Annotated[str, InName.BY_CONTENT] = Field(
        min_length=1, description="Collection of the optical scenes."
    )
    sar: Annotated[str, InName.BY_CONTENT] = Field(
        min_length=1, description="Collection of the SAR scenes."
    )
    bbox: Annotated[tuple[float, float, float, float], InName.BY_CONTENT] = Field(
        description="West, south, east, north in degrees."
    )
    start: Annotated[date, InName.BY_CONTENT] = Field(
        description="First day: of the optical scenes, by the sun."
    )
    end: Annotated[date, InName.BY_CONTENT] = Field(description="Last day, inclusive.")
    store: Annotated[str, InName.NOT] = Field(
        min_length=1, description="Where mosaics go: a folder or s3://bucket/prefix."
    )
    region: Annotated[str, InName.NOT] = Field(
        "region", description="Name of the region inside the store."
    )
    bands: Annotated[tuple[str, ...] | None, InName.BY_VALUE] = Field(
        None, description="Optical bands by common name; default: red, green, blue, nir."
    )
    max_gap_days: Annotated[float, InName.BY_CONTENT] = Field(
        6.0, ge=0, le=365, description="Between optical and SAR, days."
    )
    # Of the optical scene's part.
    min_overlap: Annotated[float, Field(gt=0, le=1), InName.BY_CONTENT] = 0.05
    # Percent; 100 = off.
    max_cloud_cover: Annotated[float, Field(ge=0, le=100), InName.BY_CONTENT] = 80.0
    orbit: Annotated[str, InName.BY_CONTENT] = Field(
        BEST_ORBIT,
        pattern=f"^({ORBIT_POLICY})$",
        description="Of the SAR scenes: best, ascending, descending, or a relative orbit's number.",
    )
    dem: Annotated[str | None, InName.BY_VALUE] = Field(
        None, description="Collection of a DEM, to correct SAR with ground control points by."
    )
    crs: Annotated[str | None, InName.BY_CONTENT] = Field(
        None, description="Of the mosaic; default: UTM zone of the centre."
    )
    resolution: Annotated[float | None, InName.BY_CONTENT] = Field(
        None, gt=0, description="Pixel size, in units of the CRS; default: 10 m."
    )
    max_offset_px: Annotated[float, InName.BY_VALUE] = Field(
        32.0, gt=0, le=256, description="Largest displacement looked for."
    )
    weights: Annotated[Path | None, InName.BY_CONTENT] = Field(
        None, description="Checkpoint; default: the shipped weights."
    )
    weights_sha256: Annotated[str | None, InName.BY_CONTENT] = Field(
        None, description="Refuse any other checkpoint."
    )
    scheduler: Annotated[str | None, InName.NOT] = Field(
        None, description="tcp://… of a Dask scheduler; default: local."
    )

    @classmethod
    def of(cls, **values: Any) -> Self:
        """A request from loose values. Raises `RequestError`: one sentence, naming the argument."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise RequestError(_first_complaint(error)) from error

    @model_validator(mode="before")
    @classmethod
    def _archive(cls, values: Any) -> Any:
        """What an archive is known to have stands in for what was not given."""
        if not isinstance(values, dict):
            return values
        catalog = values.get("catalog")
        name = values.get("provider") or provider_at(str(catalog or "")).name
        provider = provider_named(str(name))
        known = {
            "catalog": provider.api_url,
            "optical": provider.collection("optical"),
            "sar": provider.collection("sar"),
        }
        filled = {field: default for field, default in known.items() if default is not None}
        given = {field: value for field, value in values.items() if value is not None}
        return {**filled, **given, "provider": provider.name}

    @field_validator("orbit", mode="before")
    @classmethod
    def _orbit_may_be_a_number(cls, orbit: Any) -> Any:
        return str(orbit) if isinstance(orbit, int) else orbit

    @field_validator("bands")
    @classmethod
    def _bands_are_known(cls, bands: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if bands is None else optical_bands(bands)

    @field_validator("catalog")
    @classmethod
    def _catalog_exists(cls, catalog: str) -> str:
        if "://" in catalog:
            if not catalog.startswith(("http://", "https://")):
                raise ValueError(f"{shown(catalog)!r} is neither an http(s) URL nor a path")
            return _without_secret(catalog)
        path = Path(catalog).expanduser()
        if not path.is_file():
            raise ValueError(f"there is no file {str(path)!r} (give a STAC API URL or a JSON file)")
        return str(path.resolve())

    @field_validator("bbox")
    @classmethod
    def _bbox_on_earth(
        cls, bbox: tuple[float, float, float, float]
    ) -> tuple[float, float, float, float]:
        return validated_bbox(bbox)

    @field_validator("store")
    @classmethod
    def _store_address(cls, store: str) -> str:
        path = store.removeprefix("file://")
        if "://" not in path:
            return str(Path(path).expanduser().resolve())
        _without_secret(store)
        if not store.startswith("s3://") or not urlsplit(store).netloc:
            raise ValueError(
                f"{store!r} is neither a folder nor s3://bucket/prefix; change --store"
            )
        return store.rstrip("/")

    @field_validator("region")
    @classmethod
    def _region_is_a_plain_name(cls, region: str) -> str:
        return validated_region(region)

    @field_validator("weights")
    @classmethod
    def _weights_exist(cls, weights: Path | None) -> Path | None:
        if weights is None:
            return None
        path = weights.expanduser()
        if not path.is_file():
            raise ValueError(f"there is no file {str(path)!r}")
        return path.resolve()

    @field_validator("scheduler")
    @classmethod
    def _scheduler_address(cls, scheduler: str | None) -> str | None:
        if scheduler is not None and not scheduler.startswith(("tcp://", "tls://")):
            raise ValueError(f"{scheduler!r} should look like tcp://host:8786")
        return scheduler

    @model_validator(mode="after")
    def _days_in_order(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"end: {self.end} is before start {self.start}")
        return self


def _without_secret(address: str) -> str:
    """The address itself, unless it could carry a secret: a request is stored and shown."""
    if has_secret(address):
        raise ValueError(
            f"{shown(address)} was given with a user, password or query, and a request is stored "
            "and shown as it is; give the plain address (credentials of a store come from the AWS "
            "environment)"
        )
    return address


def _first_complaint(error: ValidationError) -> str:
    """The first problem of a validation, as "argument: what is wrong"."""
    problem = error.errors(include_url=False)[0]
    cause = problem.get("ctx", {}).get("error")
    message = str(cause) if isinstance(cause, ValueError) else problem["msg"]
    names = [str(part) for part in problem["loc"] if isinstance(part, str)]
    if problem["type"] == "missing" and names in (["catalog"], ["optical"], ["sar"]):
        return f"{names[0]}: is missing; give it, or the provider that has it"
    if not names or message.startswith(names[0]):
        return message
    given = "" if isinstance(cause, ValueError) else f" (got {problem['input']!r})"
    return f"{names[0].replace('_', '-')}: {message}{given}"
