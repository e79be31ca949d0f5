"""Every night: the regions of a file, yesterday and the few days before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed
from prefect.utilities.urls import url_for
from pydantic import Field

from catalog import objects
from catalog.retention import old_days, oldest_kept, retire
from catalog.stac_api.reconcile import reconcile
from flows.cluster.lease import region_lease
from flows.register_region import register_region
from flows.report import artifacts
from flows.report.figures.freshness import look_at_newest_day
from flows.service.alarms import NotTold, RegionNight, message_of, send
from flows.service.history import Nights, due, look_back
from flows.service.regions import Notify, Region, load_notify, load_regions

DAYS_BACK = 4  # archives deliver most scenes within three days
MOST_DAYS_BACK = 60
A_DAY = timedelta(days=1)


@flow(name="nightly", flow_run_name="nightly to {until}")
def nightly(
    regions_file: Path,
    days_back: Annotated[int, Field(ge=0, le=MOST_DAYS_BACK)] = DAYS_BACK,
    until: date | None = None,
    only: Sequence[str] = (),
) -> State[Any]:
    """Register yesterday and the days before it in every region of a file.

    Days that are published and have no new scene are left alone, so each night may look back over
    the same days. A region that fails does not keep the next one from its turn. At the end, days
    that a region no longer keeps (`keep_days`) are deleted; they are not planned either. Scheduled
    nights that nobody carried out are made up for by the next one, once, up to 60 days back. The
    file says who is told when something goes wrong (`notify`).

    Args:
        regions_file: The regions file, YAML; see infra/regions.yaml for what goes into it.
        days_back: How many days before the last one are looked at again, for scenes that came late.
        until: Last day; left empty, the day before the run was due (UTC).
        only: Names of regions; left empty, all of the file.
    """
    regions, notify = load_regions(regions_file, only), load_notify(regions_file)
    nights = look_back()
    if (successor := nights.successor) is not None:
        return Cancelled(
            message=f"the night of {due(successor):%Y-%m-%d %H:%M} UTC makes up for it"
        )
    start, end = days_of(nights, days_back) if until is None else window(until, days_back)
    steps: list[dict[str, Any]] = []
    quiet_days = notify.quiet_days if notify else None
    told = [_run_region(region, start, end, steps, quiet_days) for region in regions]
    kept = [_retire_days(region, end) for region in regions if region.keep_days is not None]
    failures = {row["region"]: row["failure"] for row in kept}
    told = [replace(each, not_retired=failures.get(each.region, "")) for each in told]
    rows = [{"region": e.region, "state": e.state, "message": e.message} for e in told]
    artifacts.show_table("nightly", f"{start} to {end}", rows)
    if steps:
        artifacts.show_table("nightly-drift", f"{start} to {end}", steps)
    if kept:
        artifacts.show_table("nightly-retention", f"{start} to {end}", kept)
    state = _final_state(told, start, end)
    return state if notify is None else _tell(notify, nights, state, (start, end), told)


def window(until: date, days_back: int) -> tuple[date, date]:
    """First and last day of a night that is asked for by its last day."""
    return until - timedelta(days=days_back), until


def days_of(nights: Nights, days_back: int) -> tuple[date, date]:
    """First and last day of a night, by when it was due.

    One that starts a day late or more was missed, and goes on to the day before it starts. The
    first scheduled night after some that were missed, or that made nothing, looks back as far as
    they would have.
    """
    start_at, now = due(nights.this), datetime.now(UTC)
    if nights.this.auto_scheduled and now - start_at >= A_DAY:
        start_at = now
    start, end = window(_day_before(start_at), days_back)
    if nights.this.auto_scheduled and nights.last_kept is not None:
        first_missed = _day_before(nights.last_kept) + A_DAY
        earliest = end - timedelta(days=MOST_DAYS_BACK)
        start = min(start, max(earliest, window(first_missed, days_back)[0]))
    return start, end


def _day_before(moment: datetime) -> date:
    return moment.astimezone(UTC).date() - A_DAY


def _run_region(
    region: Region,
    start: date,
    end: date,
    steps: list[dict[str, Any]],
    quiet_days: int | None,
) -> RegionNight:
    """Run one region to its end; whatever that is, the next one has its turn.

    Steps in the drift of its passes are added to `steps`.
    """
    try:
        if region.keep_days is not None:
            start = max(start, _first_kept(region.keep_days, end))
        request = region.request(start, end)
        result = register_region(request)
        steps += [{"region": region.name, **s.model_dump()} for s in result.report.drift_steps]
        quiet = "" if quiet_days is None else _quiet(request.store, region.name, end, quiet_days)
    except Exception as error:
        message = " ".join(f"{type(error).__name__}: {error}".split())
        return RegionNight(region.name, "Failed", message)
    account = result.report.accountability
    return RegionNight(region.name, result.ending, result.summary, account, quiet)


def _quiet(store: str, region: str, end: date, quiet_days: int) -> str:
    """Since when a region has no new day, where that is so many days before the night's last."""
    newest = look_at_newest_day(objects.join(store, region), region, end)
    if not newest.is_stale(quiet_days - 1):
        return ""
    if newest.newest_day is None:
        return "no day is published"
    return f"no new day for {newest.age_days} days: the newest is {newest.newest_day}"


def _final_state(told: Sequence[RegionNight], start: date, end: date) -> State[Any]:
    """Completed, called Quiet where a region finds nothing for too long; else Partial or Failed."""
    failed = [f"{e.region}: {e.message}" for e in told if e.state != "Completed"]
    not_retired = [f"{e.region}: {e.not_retired}" for e in told if e.not_retired]
    quiet = [f"{e.region}: {e.quiet}" for e in told if e.quiet]
    if not failed and not not_retired:
        message = f"regions: {len(told)}, {start} to {end}"
        return Completed(name="Quiet" if quiet else None, message="; ".join([message, *quiet]))
    sentences = []
    if failed:
        sentences.append(
            f"{len(failed)} of {len(told)} regions did not finish: {'; '.join(failed)}"
        )
    if not_retired:
        sentences.append(f"old days were not deleted: {'; '.join(not_retired)}")
    if quiet:
        sentences.append(f"quiet: {'; '.join(quiet)}")
    name = "Failed" if all(e.state == "Failed" for e in told) else "Partial"
    return Failed(name=name, message="; ".join(sentences))


def _tell(
    notify: Notify,
    nights: Nights,
    state: State[Any],
    days: tuple[date, date],
    told: Sequence[RegionNight],
) -> State[Any]:
    """Tell people what is worth it; the state of the night says so where they could not be told."""
    link = url_for("flow-run", obj_id=nights.this.id)
    message = message_of(state.name or "", days, told, nights.before, link)
    try:
        if message is not None:
            send(notify, message)
    except NotTold as error:
        get_run_logger().error("notify: nobody was told of this night: %s", error)
        state.message = f"{state.message}; nobody was told: {error}"
    return state


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
            if days and request.stac_api is not None:
                announced = reconcile(request.stac_api, request.store, request.region).announced
                if announced.failures:  # the next night makes up for it
                    get_run_logger().warning("%s: %s", region.name, announced.told)
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
