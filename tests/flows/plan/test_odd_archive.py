"""An archive in which nearly every item is odd: what is sound is planned, all else has a reason."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.cli.commands.run import plan_values
from flows.cli.demo_region import DemoRegion
from tests.support.odd_items import odd_items
from tests.support.regions import plan_of

DAYS = ("2024-06-02", "2024-06-04", "2024-06-06", "2024-06-08", "2024-06-10")


def test_ten_good_items_among_three_hundred_odd_ones_are_planned(
    small_region: DemoRegion, tmp_path: Path
) -> None:
    items = json.loads(small_region.catalog.read_text())["features"]
    drawn = {item["id"]: absolute(item, small_region.catalog.parent) for item in items}
    optical, sar = drawn["S2-DEMO-WEST"], drawn["S1-DEMO-NORTH"]
    good = [on_day(day, item) for day in DAYS for item in (optical, sar)]
    odd = [*odd_items(optical, 150), *odd_items(sar, 150)]
    assert (len(good), len(odd)) == (10, 300)
    mixed = tmp_path / "items.json"
    everything = [*odd[:100], *good[:5], *odd[100:250], *good[5:], *odd[250:]]
    mixed.write_text(json.dumps({"type": "FeatureCollection", "features": everything}))

    plan = plan_of(replace(small_region, catalog=mixed), tmp_path / "store")
    assert [slot.slot for slot in plan.slots] == list(DAYS)
    assert {s.id for slot in plan.slots for s in slot.scenes} == {item["id"] for item in good}
    told = plan_values(plan)["unpaired"]
    assert len(told) == 300
    named = {item["id"] for item in odd if isinstance(item.get("id"), str) and item["id"].strip()}
    assert named <= {left["scene"] for left in told}
    assert all("is no valid STAC item: " in left["reason"] for left in told)


def absolute(item: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The item with the address of its file, wherever it lies."""
    assets = {
        key: {**asset, "href": str(folder / asset["href"])} for key, asset in item["assets"].items()
    }
    return {**item, "assets": assets}


def on_day(day: str, item: dict[str, Any]) -> dict[str, Any]:
    """The item as one of another day."""
    when = day + item["properties"]["datetime"][10:]
    properties = {**item["properties"], "datetime": when}
    return {**item, "id": f"{item['id']} {day}", "properties": properties}
