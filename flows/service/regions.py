"""The regions file: what is registered every night, one entry per region; and who is told of it.

Each entry, on top of the file's defaults, has to make a valid `RegionRequest`; so a mistake is
found when the file is read, and one sentence names the file, the region and the field.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Self

import shapely
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from shapely.errors import ShapelyError

from catalog.longitudes import as_geojson_has_it, facing, in_one_piece
from flows.plan.request import RegionRequest, RequestError, prompt_of

GIVEN_BY_THE_RUN = ("start", "end", "region")  # days; and the name is called `name` here
ANY_DAY = date(2000, 1, 1)
SLOTS = "both"  # where the file does not say: a night shows what there is, through clouds too


class Notify(BaseModel):
    """Who is told of a night that went wrong, and when silence of an archive is wrong too.

    Addresses hold secrets, so the file only says where they are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    urls_from: str | None = Field(
        None, pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        description="Name of the environment variable that holds apprise URLs.",
    )  # fmt: skip
    block: str | None = Field(
        None, pattern="^[a-z0-9-]+/[a-z0-9-]+$",
        description="A notification block of Prefect, as BLOCK-TYPE/NAME.",
    )  # fmt: skip
    quiet_days: int | None = Field(
        None, ge=1, strict=True,
        description="A region without a new day for so many days is told of.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _leads_to_someone(self) -> Self:
        if (self.urls_from is None) == (self.block is None):
            raise ValueError("give one of urls_from and block")
        return self


class RegionsFile(BaseModel):
    """The outline of the file; what stands inside is checked as a `RegionRequest`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    defaults: dict[str, Any] = Field({}, description="Fields that regions share.")
    regions: list[dict[str, Any]] = Field(min_length=1, description="One entry per region.")
    notify: Notify | None = Field(None, description="Who is told of a night that went wrong.")


@dataclass(frozen=True)
class Region:
    """One region: everything of a request but the days."""

    name: str
    fields: Mapping[str, Any]
    keep_days: int | None = None
    """How many days stay published, the last one of a night included; None keeps all."""

    def request(self, start: date | str, end: date | str) -> RegionRequest:
        """The request of these days, both included. Raises `RequestError`."""
        return RegionRequest.of(**self.fields, region=self.name, start=start, end=end)


def load_regions(path: Path, only: Sequence[str] = ()) -> tuple[Region, ...]:
    """The regions of a file, in its order; those named `only`, if any are.

    Raises `RequestError`: one sentence that names the file, the region and the field.
    """
    outline = _read_outline(path)
    regions = tuple(
        _region(path, outline.defaults, entry, number)
        for number, entry in enumerate(outline.regions, start=1)
    )
    names = [region.name for region in regions]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise RequestError(f"regions file {path}: name: {', '.join(twice)} stands there twice")
    if unknown := sorted(set(only) - set(names)):
        raise RequestError(
            f"regions file {path} has no region {', '.join(unknown)}; it has {', '.join(names)}"
        )
    return tuple(region for region in regions if not only or region.name in only)


def load_notify(path: Path) -> Notify | None:
    """Who is told of a night, None where the file does not say. Raises `RequestError`."""
    return _read_outline(path).notify


def _read_outline(path: Path) -> RegionsFile:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return RegionsFile.model_validate(content)
    except OSError as error:
        raise RequestError(f"regions file {path}: {error.strerror or error}") from error
    except yaml.MarkedYAMLError as error:
        # Its own words quote the line, and that may hold what must not be shown.
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise RequestError(f"regions file {path} is not YAML: {error.problem}{line}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"regions file {path} is not YAML: {error}") from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or "its top"
        raise RequestError(f"regions file {path}: {field}: {problem['msg']}") from error


def _region(
    path: Path, defaults: Mapping[str, Any], entry: Mapping[str, Any], number: int
) -> Region:
    fields = {"slots": SLOTS, **defaults, **entry}
    name = str(fields.pop("name", "")).strip()
    where = (
        f"regions file {path}: region {name!r}" if name else f"regions file {path}: entry {number}"
    )
    if not name:
        raise RequestError(f"{where}: name: is missing")
    for field in GIVEN_BY_THE_RUN:
        if field in fields:
            raise RequestError(f"{where}: {field}: does not belong into a regions file")
    for field in RegionRequest.model_fields:
        path_given = prompt_of(field).is_path and isinstance(fields.get(field), str)
        if path_given and "://" not in fields[field]:  # a relative one starts at the file's folder
            fields[field] = str(path.resolve().parent / Path(fields[field]).expanduser())
    try:
        if "geometry" in fields:
            fields["bbox"] = _bbox_of(fields.pop("geometry"), path.parent, "bbox" in fields)
        elif "bbox" not in fields:
            raise RequestError("bbox: is missing (or give geometry, as GeoJSON)")
        keep_days = _validated_keep_days(fields.pop("keep_days", None))
        region = Region(name, fields, keep_days)
        region.request(ANY_DAY, ANY_DAY)
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from error
    return region


def _validated_keep_days(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise RequestError(f"keep_days: {value!r} is not a number of days from 1 on")


def _bbox_of(geometry: Any, folder: Path, has_bbox: bool) -> tuple[float, ...]:
    """West, south, east, north of GeoJSON: a file's path, or the object itself."""
    if has_bbox:
        raise RequestError("geometry: stands beside bbox; give one of them")
    try:
        if isinstance(geometry, str):
            geometry = json.loads((folder / geometry).read_text(encoding="utf-8"))
        parts = geometry.get("features", [geometry])
        shapes = [shapely.geometry.shape(part.get("geometry", part)) for part in parts]
        whole = [in_one_piece(part) for part in shapes]
        beside = [facing(part, whole[0].centroid.x) for part in whole]
        _, bounds = as_geojson_has_it(shapely.GeometryCollection(beside))
    except OSError as error:
        raise RequestError(f"geometry: {error.strerror or error}: {geometry}") from error
    except (ValueError, TypeError, LookupError, AttributeError, ShapelyError) as error:
        raise RequestError(f"geometry: is no GeoJSON ({error})") from error
    return tuple(float(edge) for edge in bounds)
