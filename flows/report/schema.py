"""What `report.json` holds, for programs that read it; `report.schema.json` says the same in JSON
Schema.

After a change of these classes: `python -m flows.report.schema > flows/report/report.schema.json`.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"

Status = Literal[
    "registered", "partial", "failed", "nothing to do", "no overlapping pair", "no readable pair"
]


class Part(BaseModel):
    """Any object in a report: values that do not change; a text below a field describes it."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Counts(Part):
    """What was owed, and what became of it; the last four add up to the first."""

    expected: int
    done: int
    refused: int
    """Pairs that the engine answered with no: an answer, no failure."""
    skipped: int
    """Pairs and days whose scenes could not be read."""
    failed: int


class Failure(Part):
    """Something that was given up."""

    day: str
    what: str
    """A tile, a shard, or the day itself."""
    reason: str


class Accountability(Part):
    """Days, pairs and shards are those of the plan, tiles those that this run tried."""

    days: Counts
    pairs: Counts
    tiles: Counts
    shards: Counts
    failures: tuple[Failure, ...]


class ScenesFound(Part):
    """How many scenes the search found."""

    optical: int
    sar: int


class PairReport(Part):
    """What became of one pair, or of a SAR scene without an optical one.

    Distances in pixels of the mosaic; null where nothing was measured.

    An accepted pair is in the mosaic; of a refused one, `reason` says why it is not.
    """

    slot: str
    """The day, as YYYY-MM-DD."""
    optical: str
    """Id of the optical scene; empty where there is none."""
    sar: str
    """Id of the SAR scene."""
    accepted: bool
    reason: str
    expected_error_px: float | None
    median_displacement_px: float | None
    matches: int
    """On the ground that the mosaic shows of this pair."""


class LeftOut(Part):
    """A scene that is in no pair, or an item of the archive of which there is no scene."""

    scene: str
    """Its id."""
    reason: str


class SceneWarning(Part):
    """What is odd about a scene that is used, or about what the archive has."""

    scene: str
    """Its id; empty where it is about none."""
    warning: str


class SlotReport(Part):
    """One published day."""

    slot: str
    """The day, as YYYY-MM-DD."""
    generation: str
    """Named after all that determines the pixels."""
    url: str
    """Its Zarr group."""
    accepted: int
    """Pairs."""
    refused: int
    """Pairs."""
    shards_written: int
    shards_kept: int
    """That an earlier, stopped run had written."""


class DriftStep(Part):
    """A lasting change in what the passes of one satellite have beyond the field of their orbit."""

    satellite: str | None
    relative_orbit: int | None
    orbit_state: str | None
    before: str
    """The last day before the change, as YYYY-MM-DD."""
    day: str
    """The first day after it."""
    size_px: float
    """Length of (dx_px, dy_px), pixels of the mosaic."""
    dx_px: float
    dy_px: float


class Measured(Part):
    """What the last run that made days of this region took; what later ones are estimated by."""

    workers: int
    """Threads that worked at once."""
    tiles: int
    """Tried."""
    estimate_seconds: float
    estimate_cpu_seconds: float | None
    """As `cpu_seconds` of the report."""
    pixels: int
    """Of the mosaics, composed by that run; all its variables are one pixel."""
    compose_seconds: float
    compose_cpu_seconds: float | None
    days: int
    """Published by that run."""
    day_seconds: float
    """Publishing, remembering and reporting these days."""
    day_cpu_seconds: float | None
    rest_seconds: float
    """Whatever else the run took, however many days it made."""
    rest_cpu_seconds: float | None
    stored_pixels: int
    """Of the mosaics of these days, those too that a stopped run had composed."""
    bytes_written: int
    """All that lies in the store of these days, without what the region remembers."""
    objects_written: int


class Truth(Part):
    """Of the demo, whose true misregistration is known. Medians of lengths in pixels."""

    before_px: float
    after_px: float
    after_p90_px: float
    """The 90th percentile."""
    registered_share: float


class Report(Part):
    """What became of a run that registered a region; the content of its report.json."""

    status: Status
    accountability: Accountability
    store: str
    region: str
    mosaic: str
    """What `catalog.open_mosaic` opens."""
    scenes: ScenesFound
    pairs: tuple[PairReport, ...]
    """Also those of days that an earlier run published."""
    unpaired: tuple[LeftOut, ...]
    warnings: tuple[SceneWarning, ...]
    slots: tuple[SlotReport, ...]
    drift_steps: tuple[DriftStep, ...]
    """In the region's newest days, at most 20 of three months; none where this run made no day."""
    tiles: int
    """Tried in this run."""
    engine_wait_share: float | None
    """Of the time between an engine's first and last tile; null when nothing was matched."""
    shards: int
    shards_written: int
    shards_kept: int
    seconds: dict[str, float]
    """By stage, and `total`."""
    cpu_seconds: dict[str, float] | None
    """The same, of this process and its workers; null where these are elsewhere."""
    measured: Measured | None
    """A run that made no day keeps what an earlier one measured."""
    request: dict[str, Any]
    """The fields of the request."""
    software: str
    weights_sha256: str
    truth: Truth | None = None
    """Only in the report of a demo."""


def encode_report(report: Report) -> bytes:
    """The bytes of report.json: plain JSON, nothing in it that is not a finite number."""
    content = report.model_dump(mode="json", exclude_unset=True)
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def encode_schema() -> bytes:
    """The bytes of report.schema.json."""
    schema = {"$schema": SCHEMA_DIALECT, **Report.model_json_schema()}
    return (json.dumps(schema, indent=2) + "\n").encode()


if __name__ == "__main__":
    sys.stdout.buffer.write(encode_schema())
