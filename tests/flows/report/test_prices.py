"""What a store costs a month: prices that can be set, and sums that add up."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.store.upkeep import generations
from flows.cli.main import main
from flows.plan.request import RequestError
from flows.report.prices import (
    GETS_PER_OBJECT,
    PUTS_PER_OBJECT,
    Prices,
    days_per_month,
    load_prices,
    price_region,
)
from tests.support.slots import FIRST, ONE_SHARD, published


def test_a_region_costs_what_lies_there_and_the_requests_that_fill_it(tmp_path: Path) -> None:
    for day in ("2020-11-04", "2020-11-13"):  # two in ten days: six a month
        published(tmp_path, ONE_SHARD, slot=day, generation=FIRST)
    found = generations(str(tmp_path), "la")
    prices = Prices(storage_gb_month=2e9, put_thousand=10, get_thousand=1)
    cost = price_region(str(tmp_path), "la", found, prices)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (cost.objects, cost.bytes) == (len(files), sum(p.stat().st_size for p in files))
    assert cost.storage == pytest.approx(2 * cost.bytes)
    a_month = 6 * (found[0].objects + 2)
    assert cost.puts_per_month == pytest.approx(a_month * PUTS_PER_OBJECT)
    assert cost.requests == pytest.approx(a_month * (10 * PUTS_PER_OBJECT + GETS_PER_OBJECT) / 1000)
    assert cost.growth == pytest.approx(6 * 2 * sum(each.bytes for each in found) / 2)
    assert cost.month == cost.storage + cost.requests


@given(step=st.integers(1, 40), count=st.integers(2, 60))
def test_days_a_month_follow_their_spacing(step: int, count: int) -> None:
    days = [(date(2024, 1, 1) + timedelta(days=step * n)).isoformat() for n in range(count)]
    assert days_per_month(days) == pytest.approx(30 / step, rel=1 / (count - 1) + 1e-9)
    assert days_per_month([]) == 0
    assert days_per_month(days[:1]) == 30


def test_prices_can_be_set_and_a_mistake_in_them_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("currency: $\nstorage_gb_month: 0.01")
    assert load_prices(None) == Prices()
    assert load_prices(file) == Prices(currency="$", storage_gb_month=0.01)
    published(tmp_path, ONE_SHARD)
    assert main(["status", str(tmp_path)]) == 0
    assert "default prices" in capsys.readouterr().out
    assert main(["status", str(tmp_path), "--prices", str(file)]) == 0
    told = capsys.readouterr().out
    assert "la costs 0.00 $ a month" in told
    assert "(prices: 0.01 $ a GB and month" in told
    for content, field in (
        ("storage_gb_month: -1", "storage_gb_month"), ("gold: 1", "gold"), ("a: [", "YAML"),
    ):  # fmt: skip
        file.write_text(content)
        with pytest.raises(RequestError, match=f"prices: .*{field}"):
            load_prices(file)
    with pytest.raises(RequestError, match="No such file"):
        load_prices(tmp_path / "none.yaml")
