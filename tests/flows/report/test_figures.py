"""Figures of regions: OpenMetrics text that Prometheus and its older textfile collector read."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_older_text

from catalog.errors import StoreError
from flows.report.figures.freshness import look_at_newest_day
from flows.report.figures.metrics import (
    Figures,
    RegionFigures,
    encode_metrics,
    load_figures,
)
from flows.report.schema import Accountability, Counts, Measured, Report
from tests.support.slots import ONE_SHARD, published

NUMBERS = st.integers(0, 10**12)
COUNTS = st.builds(
    Counts, expected=NUMBERS, done=NUMBERS, refused=NUMBERS, skipped=NUMBERS, failed=NUMBERS
)
MEASURED = st.builds(
    Measured.model_construct,
    tiles=NUMBERS, bytes_written=NUMBERS, estimate_seconds=st.floats(0, 1e6),
)  # fmt: skip
REPORTS = st.builds(
    Report.model_construct,
    accountability=st.builds(
        Accountability,
        days=COUNTS, pairs=COUNTS, tiles=COUNTS, shards=COUNTS, failures=st.just(()),
    ),
    measured=st.none() | MEASURED,
    seconds=st.fixed_dictionaries({"total": st.floats(0, 1e9)}),
)  # fmt: skip
FIGURES = st.builds(
    Figures,
    region=st.from_regex("[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True),
    days=NUMBERS,
    newest_day=st.none() | st.dates(date(1970, 1, 1)),
    report=st.none() | REPORTS,
)


@given(st.lists(FIGURES, max_size=4, unique_by=lambda each: each.region))
def test_both_formats_read_the_same_figures(figures: list[Figures]) -> None:
    text = encode_metrics(figures).decode()
    assert text.endswith("# EOF\n")
    read, older = (
        {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in parse(text)
            for sample in family.samples
        }
        for parse in (read_open_metrics, read_older_text)
    )
    assert read == older
    for each in figures:
        label = ("region", each.region)
        assert read["tar_region_days", label] == each.days
        newest = read.get(("tar_region_newest_day_timestamp_seconds", label))
        if each.newest_day is None:
            assert newest is None
        else:
            assert newest is not None
            assert datetime.fromtimestamp(newest, UTC).date() == each.newest_day
        if each.report is not None:
            pairs = each.report.accountability.pairs
            assert read["tar_region_pairs", label, ("verdict", "refused")] == pairs.refused


def test_a_region_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    published(tmp_path, ONE_SHARD)
    (tmp_path / "broken" / "items").mkdir(parents=True)
    (tmp_path / "broken" / "items" / "yesterday.json").touch()
    with pytest.raises(StoreError, match="named by no day"):
        load_figures(str(tmp_path / "broken"), "broken")
    figures = RegionFigures([(str(tmp_path), "broken"), (str(tmp_path), "la")])
    told = {
        (sample.name, sample.labels["region"]): sample.value
        for family in figures.collect()
        for sample in family.samples
    }
    assert told["tar_region_readable", "broken"] == 0
    assert told["tar_region_readable", "la"] == told["tar_region_days", "la"] == 1
    assert ("tar_region_days", "broken") not in told


def test_the_age_of_a_region_is_that_of_its_newest_day(tmp_path: Path) -> None:
    published(tmp_path, ONE_SHARD)
    published(tmp_path, ONE_SHARD, slot="2020-10-30")
    seen = look_at_newest_day(str(tmp_path / "la"), "la", date(2020, 11, 7))
    assert (seen.newest_day, seen.age_days) == (date(2020, 11, 4), 3)
    assert (seen.is_stale(2), seen.is_stale(3)) == (True, False)
    nothing = look_at_newest_day(str(tmp_path / "none"), "none", date(2020, 11, 7))
    assert nothing.age_days is None
    assert nothing.is_stale(10**6)
