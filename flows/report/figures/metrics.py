"""Regions in figures, as OpenMetrics text: beside each report, and on a port of the service.

All of them are gauges, so the text is what Prometheus's older format allows too, which is all that
the textfile collector of its node exporter reads. The age of a region's newest day is left to who
reads it, `time()` less its timestamp: an age in a file would stand still once nights fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from pydantic import ValidationError

from catalog import objects
from catalog.errors import CatalogError
from flows.report.figures.freshness import newest_of
from flows.report.schema import Report

FILE = "metrics.prom"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True)
class Figures:
    """A region's published days, and its last report, None where there is none."""

    region: str
    days: int
    newest_day: date | None
    report: Report | None


class RegionFigures(Collector):
    """The figures of regions, given as (store, region), looked up anew whenever they are asked for.

    A region that cannot be read is `tar_region_readable` 0, and hides no other.
    """

    def __init__(self, regions: Sequence[tuple[str, str]]) -> None:
        self._regions = regions

    def collect(self) -> Iterator[Metric]:
        found: list[Figures] = []
        registry = CollectorRegistry()
        readable = _gauge(registry, "readable", "Whether the store answered: 1 or 0.")
        for store, region in self._regions:
            try:
                found.append(load_figures(objects.join(store, region), region))
            except CatalogError:
                readable.labels(region).set(0)
            else:
                readable.labels(region).set(1)
        yield from registry.collect()
        yield from gauges_of(found).collect()


def load_figures(region_url: str, region: str) -> Figures:
    """A region's figures, of its store. Raises `StoreError`."""
    saved = objects.get(objects.join(region_url, "report.json"))
    try:
        report = None if saved is None else Report.model_validate_json(saved)
    except ValidationError:  # of another version
        report = None
    return figures_with(region_url, region, report)


def figures_with(region_url: str, region: str, report: Report | None) -> Figures:
    """A region's figures where its report is known already. Raises `StoreError`."""
    days, newest = newest_of(region_url)
    return Figures(region, days, newest, report)


def encode_metrics(figures: Sequence[Figures]) -> bytes:
    """OpenMetrics text."""
    encode, _ = choose_encoder(OPEN_METRICS)
    return encode(gauges_of(figures))


def gauges_of(figures: Sequence[Figures]) -> CollectorRegistry:
    """One gauge per figure, with a value for each region that has it."""
    registry = CollectorRegistry()
    days = _gauge(registry, "days", "Days that are published.")
    newest = _gauge(registry, "newest_day_timestamp_seconds", "Start of the newest day, in UTC.")
    pairs = _gauge(registry, "pairs", "Of the days that the last report tells of.", "verdict")
    failures = _gauge(registry, "failures", "What the last report says was given up.", "what")
    speed = _gauge(registry, "tiles_per_second", "Matching, in the last run that made days.")
    size = _gauge(registry, "written_bytes", "Stored by the last run that made days.")
    seconds = _gauge(registry, "run_seconds", "From start to report, of the run that told last.")
    for each in figures:
        days.labels(each.region).set(each.days)
        if each.newest_day is not None:
            midnight = datetime.combine(each.newest_day, time(), UTC)
            newest.labels(each.region).set(midnight.timestamp())
        if each.report is None:
            continue
        account = each.report.accountability
        pairs.labels(each.region, "accepted").set(account.pairs.done)
        pairs.labels(each.region, "refused").set(account.pairs.refused)
        for what in ("days", "pairs", "tiles", "shards"):
            failures.labels(each.region, what).set(getattr(account, what).failed)
        took = each.report.measured
        if took is not None and took.estimate_seconds:
            speed.labels(each.region).set(took.tiles / took.estimate_seconds)
        if took is not None:
            size.labels(each.region).set(took.bytes_written)
        seconds.labels(each.region).set(each.report.seconds["total"])
    return registry


def _gauge(registry: CollectorRegistry, name: str, told: str, *labels: str) -> Gauge:
    return Gauge(f"tar_region_{name}", told, ("region", *labels), registry=registry)
