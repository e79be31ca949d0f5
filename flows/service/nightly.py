"""Every night: the regions of a file, yesterday and the few days before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import Field

from catalog.retention import old_days, oldest_kept, retire
from flows.cluster.lease import region_lease
from flows.register_region import register_region
from flows.report import artifacts
from flows.service.regions import Region, load_regions

DAYS_BACK = 4  # archives deliver most scenes within three days


@flow(name="nightly", flow_run_name="nightly to {until}")
def nightly(
    regions_file: Path,
    days_back: Annotated[int, Field(ge=0, le=60)] = DAYS_BACK,
    until: date | None = None,
    only: Sequence[str] = (),
) -> State[Any]:
    """Register yesterday and the days before it in every region of a file.

    Days that are published and have no new scene are left alone, so each night may look back over
    the same days. A region that fails does not keep the next one from its turn. At the end, days
    that a region no longer keeps (`keep_days`) are deleted; they are not planned either.

    Args:
        regions_file: The regions file, YAML; see infra/regions.yaml for what goes into it.
        days_back: How many days before the last one are looked at again, for scenes that came late.
        until: Last day; left empty, the day before the run was due (UTC).
        only: Names of regions; left empty, all of the file.
    """
    regions = load_regions(regions_file, only)
    start, end = window(until, days_back)
    steps: list[dict[str, Any]] = []
    rows = [_run_region(region, start, end, steps) for region in regions]
    failed = [f"{row['region']}: {row['message']}" for row in rows if row["state"] != "Completed"]
    kept = [_retire_days(region, end) for region in regions if region.keep_days is not None]
    artifacts.show_table("nightly", f"{start} to {end}", rows)
    if steps:
        artifacts.show_table("nightly-drift", f"{start} to {end}", steps)
    if kept:
        artifacts.show_table("nightly-retention", f"{start} to {end}", kept)
    not_retired = [f"{row['region']}: {row['failure']}" for row in kept if row["failure"]]
    if not failed and not not_retired:
        return Completed(message=f"regions: {len(rows)}, {start} to {end}")
    told = []
    if failed:
        told.append(f"{len(failed)} of {len(rows)} regions did not finish: {'; '.join(failed)}")
    if not_retired:
        told.append(f"old days were not deleted: {'; '.join(not_retired)}")
    name = "Failed" if len(failed) == len(rows) else "Partial"
    return Failed(name=name, message="; ".join(told))


def window(until: date | None, days_back: int) -> tuple[date, date]:
    """First and last day of a nightly run; without `until`, by when the run was due."""
    if until is None:
        due = runtime.flow_run.scheduled_start_time or datetime.now(UTC)
        until = due.astimezone(UTC).date() - timedelta(days=1)
    return until - timedelta(days=days_back), until


def _run_region(
    region: Region, start: date, end: date, steps: list[dict[str, Any]]
) -> dict[str, str]:
    """Run one region to its end; whatever that is, the next one has its turn.

    Steps in the drift of its passes are added to `steps`.
    """
    try:
        if region.keep_days is not None:
            start = max(start, _first_kept(region.keep_days, end))
        result = register_region(region.request(start, end))
    except Exception as error:
        message = " ".join(f"{type(error).__name__}: {error}".split())
        return {"region": region.name, "state": "Failed", "message": message}
    steps += [{"region": region.name, **step.model_dump()} for step in result.report.drift_steps]
    return {"region": region.name, "state": result.ending, "message": result.summary}


def _retire_days(region: Region, end: date) -> dict[str, Any]:
    """Delete what a region no longer keeps after a night that ended with `end`.

    A failure is told; the next night goes on.
    """
    assert region.keep_days is not None
    request = region.request(end, end)
    row = {"region": region.name, "days": 0, "bytes": 0, "objects": 0, "failure": ""}
    try:
        with region_lease(request.store, request.region):
            oldest = _first_kept(region.keep_days, end)
            days = old_days(request.store, request.region, oldest)
            retire(request.store, request.region, days)
    except Exception as error:
        return {**row, "failure": " ".join(f"{type(error).__name__}: {error}".split())}
    return {
        **row,
        "days": len(days),
        "bytes": sum(day.bytes for day in days),
        "objects": sum(day.objects for day in days),
    }


def _first_kept(keep_days: int, end: date) -> date:
    """Counted from a night's last day, but never from one to come: that would delete everything."""
    return oldest_kept(keep_days, min(end, datetime.now(UTC).date()))
