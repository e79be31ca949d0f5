"""A region remembers: nights of known truth, two of them under full cloud, through whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from distributed import Client

import catalog
from catalog.memory.store import MemoryStore, memory_names
from catalog.store.days import published_items
from catalog.store.schema import REGISTERED_RADAR_TO_RADAR
from flows.plan.plan import plan_request
from flows.register_region import register_region
from flows.run_region import RunResult
from tests.support.nights import MadeNights, write_nights
from tests.support.regions import files_under

SIDE_PX = 320
CLOUD_PERCENT = (0, 0, 100, 0, 100)
DARK = [night for night, percent in enumerate(CLOUD_PERCENT) if percent == 100]


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> MadeNights:
    folder = tmp_path_factory.mktemp("nights")
    return write_nights(folder, side_px=SIDE_PX, cloud_percent=CLOUD_PERCENT, optical_shift_px=0.4)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def options(client: Client) -> dict[str, Any]:
    return {"scheduler": client.scheduler.address}


@pytest.fixture(scope="module")
def result(nights: MadeNights, store: Path, options: dict[str, Any]) -> RunResult:
    return register_region(nights.request(store, **options))


@pytest.fixture(scope="module")
def mosaic(result: RunResult) -> xr.Dataset:
    return catalog.open_mosaic(result.plan.mosaic_url).load()


def error_px(nights: MadeNights, mosaic: xr.Dataset, night: int) -> np.ndarray:
    """(H, W) distance from the truth, to the optical image that is shown: the night's own, or the
    newest clear one. Infinite where nothing was registered."""
    day = mosaic.isel(time=night)
    shown = max(other for other in range(night + 1) if CLOUD_PERCENT[other] == 0)
    truth = nights.truth(night, day, shown)
    error = np.hypot(day["dx"].values - truth[0], day["dy"].values - truth[1])
    return np.where(np.isfinite(error), error, np.inf)


def test_every_pass_has_its_slot_and_clouds_do_not_matter(
    nights: MadeNights, result: RunResult, mosaic: xr.Dataset
) -> None:
    assert result.ending == "Completed"
    assert mosaic.sizes["time"] == len(CLOUD_PERCENT)
    for night in DARK:
        quality = mosaic["quality"].isel(time=night).values
        assert (quality == REGISTERED_RADAR_TO_RADAR).mean() > 0.95
        assert np.median(error_px(nights, mosaic, night)) < 0.3


def test_the_stated_error_holds_on_every_night(nights: MadeNights, mosaic: xr.Dataset) -> None:
    for night in range(len(CLOUD_PERCENT)):
        stated = mosaic["expected_error"].isel(time=night).values
        assert (error_px(nights, mosaic, night) < 2 * stated).mean() > 0.9
        assert np.nanmedian(stated) < 0.5


def test_days_name_the_memory_that_they_used(result: RunResult) -> None:
    items = list(published_items(result.plan.mosaic_url).values())
    used = [item["properties"].get("tar:memory", {}) for item in items]
    assert used[0] == {}
    (name,) = used[1]
    assert name.startswith("descending-") or name.startswith("ascending-")
    versions = [memory[name] for memory in used[1:]]
    # Nights under cloud tell the ground nothing new, so the next one has the same memory.
    assert len(set(versions)) == sum(percent == 0 for percent in CLOUD_PERCENT[:-1])


def test_memory_is_opened_by_analysts(result: RunResult) -> None:
    tree = catalog.open_memory(result.plan.mosaic_url)
    (memory,) = tree.children.values()
    clear = sum(percent == 0 for percent in CLOUD_PERCENT)
    assert memory["day"].size == clear
    assert (memory["count"].values == clear).mean() > 0.5
    assert len(memory.attrs["slots"]) == len(CLOUD_PERCENT)
    reference = memory["reference"]["sar"].load()
    assert reference.notnull().mean() > 0.9
    assert -40 < float(reference.median()) < 10


def test_asked_again_nothing_is_made_and_a_remake_is(
    nights: MadeNights, store: Path, result: RunResult, options: dict[str, Any]
) -> None:
    assert result.ending == "Completed"
    before = files_under(store)
    again = register_region(nights.request(store, **options))
    assert again.report.status == "nothing to do"
    assert files_under(store) == before
    # The first night was made without memory; asked to, it is made with what is known by now.
    plan = plan_request(nights.request(store, 0, 0, remake=True, **options))
    assert [slot.slot for slot in plan.unfinished] == [str(nights.nights[0])]


def test_two_regions_never_share(
    nights: MadeNights, store: Path, result: RunResult, options: dict[str, Any]
) -> None:
    assert result.ending == "Completed"
    other = register_region(nights.request(store, 3, 3, region="other", **options))
    (item,) = published_items(other.plan.mosaic_url).values()
    assert "tar:memory" not in item["properties"]
    (name,) = memory_names(str(store), "nights")
    heads = [MemoryStore(str(store), region, name).head() for region in ("nights", "other")]
    assert heads[0] is not None
    assert heads[1] is not None
    assert heads[0].version != heads[1].version
