"""What a person asks for: one region, one span of days, two collections, one store.

This is the edge where people type, so it is the one place that uses pydantic, and every mistake
ends in one sentence that names the argument. Each field is declared here and nowhere else: its
type, limits, default and help are those of the command line (`flows.cli.options`), of the form in
the Prefect UI (`flows.service.on_demand`) and of the regions file (`flows.service.regions`).
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from catalog.archives.faults import BEST_ORBIT, ORBIT_POLICY
from catalog.archives.providers import (
    PLAIN_STAC,
    PROVIDERS,
    optical_bands,
    provider_at,
    provider_named,
)
from catalog.errors import has_secret, shown
from catalog.grid import validated_bbox
from catalog.stac_api.connection import validated_api_url
from catalog.store.slot import REGION_NAME, validated_region
from flows.plan.fields import HOW, WHAT, WHERE, InName, Prompt

Slots = Literal["optical", "sar", "both"]
"""Which days get a mosaic."""

MAX_OFFSET_PX = 32.0
LARGEST_OFFSET_PX = 256.0  # further off is no misregistration, and the search would not fit memory
DEFAULT = "(default: "  # in a field's help: what stands in for it, where no value says that
EDGES = ("west", "south", "east", "north")
BBOX_FORM = {  # four fields with names; a list of four numbers is no help to who fills in a form
    "type": "object",
    "properties": {
        edge: {"type": "number", "title": edge, "position": i, "minimum": -limit, "maximum": limit}
        for i, (edge, limit) in enumerate(zip(EDGES, (180, 90, 180, 90), strict=True))
    },
    "required": list(EDGES),
    "additionalProperties": False,
}
# Matches addresses in which `has_secret` sees none. A form's values are stored, and where one is no
# value of its field Prefect logs them all; its server refuses what does not match before that.
NO_SECRET = "^(?![^:]*://([^/]*@|[^?#]*[?#]))"
# Complaints after which the input is not shown: it is the whole request, or may be anything.
INPUT_UNSHOWN = ("missing", "extra_forbidden", "string_type")


class RequestError(ValueError):
    """A request that cannot be carried out; the message is one sentence that names the argument."""


class RegionRequest(BaseModel):
    """Register the SAR scenes of a region to its optical scenes; leave one mosaic per day.

    Build it with `RegionRequest.of(...)` to get a `RequestError` instead of pydantic's report.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True
    )

    provider: Annotated[str, InName.BY_VALUE, Prompt(WHAT, "NAME")] = Field(
        PLAIN_STAC.name,
        json_schema_extra={"enum": list(PROVIDERS)},
        description="archive that brings the next three, see tar-pipeline providers "
        "(default: the one at the catalog's address, or else stac)",
    )
    catalog: Annotated[str, InName.BY_CONTENT, Prompt(WHAT, "URL|FILE", is_path=True)] = Field(
        "",
        validate_default=True,
        json_schema_extra={"pattern": NO_SECRET},
        description="STAC API, or path of an ItemCollection JSON, which is served for the run "
        "(default: the provider's)",
    )
    optical: Annotated[str, InName.BY_CONTENT, Prompt(WHAT, "COLLECTION")] = Field(
        "",
        validate_default=True,
        description="collection of the optical scenes (default: the provider's)",
    )
    sar: Annotated[str, InName.BY_CONTENT, Prompt(WHAT, "COLLECTION")] = Field(
        "",
        validate_default=True,
        description="collection of the SAR scenes (default: the provider's)",
    )
    bbox: Annotated[
        tuple[float, float, float, float],
        InName.BY_CONTENT,
        Prompt(WHAT, "W S E N"),
        WithJsonSchema(BBOX_FORM, mode="validation"),
    ] = Field(
        description="west, south, east, north in degrees; across the antimeridian west is greater "
        "than east"
    )
    start: Annotated[date, InName.BY_CONTENT, Prompt(WHAT, "YYYY-MM-DD")] = Field(
        description="first day of the mosaics, by the sun where their scenes are"
    )
    end: Annotated[date, InName.BY_CONTENT, Prompt(WHAT, "YYYY-MM-DD")] = Field(
        description="last day, inclusive"
    )
    store: Annotated[str, InName.NOT, Prompt(WHERE, "PATH|s3://…", is_path=True)] = Field(
        min_length=1,
        json_schema_extra={"pattern": NO_SECRET},
        description="where mosaics go: a folder or s3://bucket/prefix; credentials come from the "
        "AWS environment, never from here",
    )
    region: Annotated[str, InName.NOT, Prompt(WHERE, "NAME")] = Field(
        "region",
        json_schema_extra={"pattern": f"^{REGION_NAME.pattern}$"},
        description="name of the region in the store: lower-case letters, digits, - and _",
    )
    stac_api: Annotated[str | None, InName.NOT, Prompt(WHERE, "URL")] = Field(
        None,
        json_schema_extra={"pattern": f"{NO_SECRET}https?://"},
        description="STAC API with transactions that shows what is published; credentials come "
        "from TAR_STAC_API_HOST and TAR_STAC_API_TOKEN, or TAR_STAC_API_USER and "
        "TAR_STAC_API_PASSWORD, never from here (default: none)",
    )
    bands: Annotated[tuple[str, ...] | None, InName.BY_VALUE, Prompt(WHAT, "BAND")] = Field(
        None,
        description="optical bands by common name, in this order (default: red green blue nir)",
    )
    max_gap_days: Annotated[float, InName.BY_CONTENT, Prompt(HOW, "DAYS")] = Field(
        6.0,
        ge=0,
        le=365,
        description="longest time between an optical scene and its SAR partner, days",
    )
    min_overlap: Annotated[float, InName.BY_CONTENT, Prompt(HOW, "SHARE")] = Field(
        0.05,
        gt=0,
        le=1,
        description="smallest share of an optical scene's part of the region that a SAR partner "
        "may add",
    )
    max_cloud_cover: Annotated[float, InName.BY_CONTENT, Prompt(HOW, "PERCENT")] = Field(
        80.0,
        ge=0,
        le=100,
        description="optical scenes with more cloud are left out, percent; 100 keeps all",
    )
    orbit: Annotated[str, InName.BY_CONTENT, Prompt(HOW, "ORBIT")] = Field(
        BEST_ORBIT,
        pattern=f"^({ORBIT_POLICY})$",
        description="of the SAR scenes: best, ascending, descending, or the number of a relative "
        "orbit",
    )
    dem: Annotated[str | None, InName.BY_VALUE, Prompt(HOW, "COLLECTION")] = Field(
        None,
        description="collection of a DEM, as cop-dem-glo-30, to correct terrain in GRD scenes by "
        "(default: none)",
    )
    orbit_files: Annotated[Path | None, InName.BY_CONTENT, Prompt(HOW, "FOLDER", is_path=True)] = (
        Field(
            None,
            description="folder of Sentinel-1 orbit files (POEORB, RESORB) to place GRD scenes by "
            "(default: the orbits of their annotations)",
        )
    )
    slots: Annotated[Slots, InName.BY_CONTENT, Prompt(HOW, "KIND")] = Field(
        "optical",
        description="which days get a mosaic: those of an optical pass (optical), those of a SAR "
        "pass (sar), or those of either (both)",
    )
    max_optical_age_days: Annotated[int, InName.BY_CONTENT, Prompt(HOW, "DAYS")] = Field(
        30,
        ge=0,
        le=365,
        description="how many days before the day of a SAR pass its optical bands may be from",
    )
    crs: Annotated[str | None, InName.BY_CONTENT, Prompt(WHERE, "EPSG:…")] = Field(
        None, description="CRS of the mosaic (default: UTM zone of the region's centre)"
    )
    resolution: Annotated[float | None, InName.BY_CONTENT, Prompt(WHERE, "UNITS")] = Field(
        None, gt=0, description="pixel size, in units of the CRS (default: 10 m)"
    )
    max_offset_px: Annotated[float, InName.BY_VALUE, Prompt(HOW, "PX")] = Field(
        MAX_OFFSET_PX,
        gt=0,
        le=LARGEST_OFFSET_PX,
        description="largest misregistration looked for, pixels",
    )
    weights: Annotated[Path | None, InName.BY_CONTENT, Prompt(HOW, "FILE", is_path=True)] = Field(
        None, description="a checkpoint of your own (default: the shipped one)"
    )
    weights_sha256: Annotated[str | None, InName.BY_CONTENT, Prompt(HOW, "HEX")] = Field(
        None, description="refuse any checkpoint but the one with this checksum (default: any)"
    )
    allow_local: Annotated[bool, InName.NOT, Prompt(WHAT, "")] = Field(
        False,
        description="read files of this machine, and what only it or its network reaches, where "
        "the items of an API name them; those of a catalog file always may, and those of an API "
        "there its addresses",
    )
    own_buckets: Annotated[tuple[str, ...] | None, InName.NOT, Prompt(WHAT, "BUCKET")] = Field(
        None,
        description="s3:// buckets that are read with the keys of the AWS environment although an "
        "API names them (default: none; those of a catalog file always are)",
    )
    remake: Annotated[bool, InName.NOT, Prompt(HOW, "")] = Field(
        False,
        description="make days that are published again, with what memory knows by now; where that "
        "is nothing new, mend what does not read as it was written",
    )
    scheduler: Annotated[str | None, InName.NOT, Prompt(HOW, "tcp://…")] = Field(
        None,
        json_schema_extra={"pattern": "^(tcp|tls)://"},
        description="address of a Dask scheduler (default: processes on this machine)",
    )

    @classmethod
    def of(cls, **values: Any) -> Self:
        """A request from loose values. Raises `RequestError`: one sentence, naming the argument."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise RequestError(_first_complaint(error)) from error

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """As a form shows it: fields by their names, in order; empty where the default is words."""
        schema = handler(core_schema)
        if handler.mode == "validation":
            fields = handler.resolve_ref_schema(schema)["properties"]
            for position, (name, field) in enumerate(fields.items()):
                field |= {"title": name, "position": position}  # a database may keep no order
                if DEFAULT in field["description"]:
                    field.pop("default", None)
                if "anyOf" in field:  # of a type or null, which forms show as a choice of types
                    field |= field.pop("anyOf")[0]
        return schema

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

    @field_validator("bbox", mode="before")
    @classmethod
    def _bbox_may_name_its_edges(cls, bbox: Any) -> Any:
        if isinstance(bbox, dict) and bbox.keys() == set(EDGES):
            return tuple(bbox[edge] for edge in EDGES)
        return bbox

    @field_validator("optical", "sar")
    @classmethod
    def _collection_is_given(cls, collection: str) -> str:
        return _require_given(collection)

    @field_validator("bands")
    @classmethod
    def _bands_are_known(cls, bands: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if bands is None else optical_bands(bands)

    @field_validator("catalog")
    @classmethod
    def _catalog_exists(cls, catalog: str) -> str:
        if "://" in _require_given(catalog):
            if not catalog.startswith(("http://", "https://")):
                raise ValueError(f"{shown(catalog)!r} is neither an http(s) URL nor a path")
            return _require_no_secret(catalog)
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
        _require_no_secret(store)
        if not store.startswith("s3://") or not urlsplit(store).netloc:
            raise ValueError(
                f"{store!r} is neither a folder nor s3://bucket/prefix; change --store"
            )
        return store.rstrip("/")

    @field_validator("region")
    @classmethod
    def _region_is_a_plain_name(cls, region: str) -> str:
        return validated_region(region)

    @field_validator("stac_api")
    @classmethod
    def _stac_api_address(cls, url: str | None) -> str | None:
        return None if url is None else validated_api_url(url)

    @field_validator("weights", "orbit_files")
    @classmethod
    def _path_exists(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is None:
            return None
        path, kind = path.expanduser(), "folder" if info.field_name == "orbit_files" else "file"
        if not (path.is_dir() if kind == "folder" else path.is_file()):
            raise ValueError(f"there is no {kind} {str(path)!r}")
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


def prompt_of(name: str) -> Prompt:
    """How people are asked for a field of a request."""
    (found,) = (each for each in RegionRequest.model_fields[name].metadata if type(each) is Prompt)
    return found


def _require_given(name: str) -> str:
    """The name itself, unless neither the person nor the provider has given one."""
    if not name:
        raise ValueError("is missing; give it, or the provider that has it")
    return name


def _require_no_secret(address: str) -> str:
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
    if not names or message.startswith(names[0]):
        return message
    explained = isinstance(cause, ValueError) or problem["type"] in INPUT_UNSHOWN
    given = "" if explained else f" (got {problem['input']!r})"
    return f"{names[0].replace('_', '-')}: {message}{given}"
