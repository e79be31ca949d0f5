"""What each SAR pass has beyond the field of its geometry, against remainders that are known."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.store.publish import publish
from catalog.store.schema import REGISTERED
from catalog.store.shards import write_shard
from flows.cli.main import main
from flows.report.drift import (
    Geometry,
    PassDisplacement,
    Remainder,
    find_recent_steps,
    find_steps,
    polish_medians,
    read_passes,
    split_passes,
)
from tests.support.slots import ONE_SHARD, created, pair_of_day, shard_pixels, write_overviews

FIRST_DAY, REPEAT = date(2024, 1, 3), timedelta(days=12)
DESCENDING, ASCENDING = Geometry(71, "descending"), Geometry(64, "ascending")
TERRAIN = np.random.default_rng(5).normal(0, 3, (2, 6, 8))


def passes_of(
    shifts: list[tuple[float, float]], geometry: Geometry = DESCENDING, platform: str = "s1a"
) -> list[PassDisplacement]:
    """One pass every twelve days over the same terrain, each shifted by its own."""
    return [
        PassDisplacement(
            FIRST_DAY + timedelta(days=12 * number), platform, geometry,
            TERRAIN + np.reshape(shift, (2, 1, 1)),
        )
        for number, shift in enumerate(shifts)
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    shifts=st.lists(
        st.tuples(st.floats(-2, 2), st.floats(-2, 2)), min_size=2, max_size=9
    ),
    seed=st.integers(0, 2**16),
)  # fmt: skip
def test_shifts_are_found_against_their_median_whatever_the_order(
    shifts: list[tuple[float, float]], seed: int
) -> None:
    given = np.array(shifts)
    displacements = TERRAIN + given[:, :, None, None]
    found, scatter = polish_medians(displacements)
    assert np.allclose(found, given - np.median(given, axis=0), atol=1e-9)
    assert np.allclose(scatter, 0, atol=1e-9)
    order = np.random.default_rng(seed).permutation(len(given))
    assert np.allclose(polish_medians(displacements[order])[0], found[order], atol=1e-9)


def test_passes_that_show_different_ground_are_held_to_what_they_share() -> None:
    displacements = np.stack([TERRAIN + 0.0, TERRAIN + 1.0, TERRAIN - 0.5])
    displacements[0, :, :, :3] = np.nan
    displacements[2, :, :, 5:] = np.nan
    found, _ = polish_medians(displacements)
    assert np.allclose(found, np.array([[0.0, 0.0], [1.0, 1.0], [-0.5, -0.5]]), atol=1e-6)


def test_a_poisoned_pass_moves_the_others_by_less_than_a_tenth_of_its_shift() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, (7, *TERRAIN.shape))
    clean = TERRAIN + noise
    poisoned = clean.copy()
    poisoned[3] += 5.0
    before, _ = polish_medians(clean)
    after, _ = polish_medians(poisoned)
    others = [0, 1, 2, 4, 5, 6]
    assert np.abs(after[others] - before[others]).max() < 0.5
    assert np.allclose(after[3] - before[3], 5.0, atol=0.5)


def test_geometries_do_not_share_a_field() -> None:
    other = [
        PassDisplacement(each.day, each.platform, ASCENDING, -each.displacement)
        for each in passes_of([(0.2, 0.0), (-0.2, 0.0), (0.0, 0.0)])
    ]
    remainders = split_passes([*passes_of([(0.0, 0.5), (0.0, -0.5), (0.0, 0.0)]), *other])
    assert [round(each.dy_px, 6) for each in remainders if each.geometry == DESCENDING] == [
        0.5, -0.5, 0.0,
    ]  # fmt: skip
    assert [round(each.dx_px, 6) for each in remainders if each.geometry == ASCENDING] == [
        -0.2, 0.2, 0.0,
    ]  # fmt: skip
    assert all(each.scatter_px < 1e-9 for each in remainders)


def test_of_a_single_pass_nobody_can_say_what_is_its_own() -> None:
    (remainder,) = split_passes(passes_of([(0.7, 0.0)]))
    assert np.isnan([remainder.dx_px, remainder.dy_px, remainder.scatter_px]).all()
    assert find_steps([remainder]) == []


def series_of(dx: list[float], platform: str = "s1a") -> list[Remainder]:
    """Remainders every twelve days."""
    return [
        Remainder(FIRST_DAY + timedelta(days=12 * n), platform, DESCENDING, value, 0.0, 0.1)
        for n, value in enumerate(dx)
    ]


def test_a_step_is_named_with_the_days_on_both_sides_of_it() -> None:
    noise = np.random.default_rng(2).normal(0, 0.1, 20)
    values = [*(noise[:12]), *(noise[12:] + 1.2)]
    (step,) = find_steps([*series_of(values), *series_of([*noise], "s1b")])
    assert (step.platform, step.geometry) == ("s1a", DESCENDING)
    assert step.before == FIRST_DAY + timedelta(days=12 * 11)
    assert step.after == FIRST_DAY + timedelta(days=12 * 12)
    assert step.dx_px == pytest.approx(1.2, abs=0.15)
    assert "s1a, descending 071: a step of (+1" in str(step)


def test_two_steps_are_both_found_in_the_order_of_their_days() -> None:
    noise = np.random.default_rng(3).normal(0, 0.05, 24)
    steps = find_steps(series_of([*noise[:8], *(noise[8:16] + 1), *(noise[16:] - 1)]))
    assert [round(step.dx_px) for step in steps] == [1, -2]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), passes=st.integers(1, 30))
def test_noise_alone_is_hardly_ever_called_a_step(seed: int, passes: int) -> None:
    values = np.random.default_rng(seed).normal(0, 0.1, passes)
    assert not find_steps(series_of([*values]))


def published_days(
    folder: Path, shifts: list[tuple[float, float]], repeat: timedelta = REPEAT
) -> str:
    """A region whose every day was registered by the same terrain and a shift of its own."""
    width = ONE_SHARD.shape[1]
    ramp = np.linspace(-2, 2, width, dtype=np.float32)
    for number, (dx, dy) in enumerate(shifts):
        day = (FIRST_DAY + number * repeat).isoformat()
        store = created(folder, ONE_SHARD, slot=day, generation="a" * 16)
        (shard,) = ONE_SHARD.shards()
        pixels = shard_pixels(shard)
        pixels["dx"].values[...] = ramp + np.float32(dx)
        pixels["dy"].values[...] = np.float32(dy)
        pixels["quality"].values[...] = REGISTERED
        pixels["sar_scene"].values[...] = 1
        write_shard(store, shard, pixels)
        write_overviews(store, ONE_SHARD)
        orbit = {"platform": "sentinel-1a", "relative_orbit": 71, "orbit_state": "descending"}
        publish(
            store, ONE_SHARD, [pair_of_day()],
            {"sar_scenes": ["s", "s-2"], "sar_orbits": [orbit], "sar_scene_orbits": [0, 0]},
        )  # fmt: skip
    return f"{folder}/la"


def test_the_command_tells_remainders_and_steps_of_a_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shifts = [(0.125 * (-1) ** n + (1.5 if n >= 4 else 0.0), 0.0) for n in range(8)]
    region = published_days(tmp_path / "store", shifts)
    passes, without = read_passes(region)
    assert not without
    assert [str(each.geometry) for each in passes] == ["descending 071"] * 8
    picture, told = tmp_path / "drift.png", tmp_path / "drift.json"
    assert main(["drift", region, "--out", str(picture), "--json", str(told)]) == 0
    assert "a step of (+1." in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    (result,) = json.loads(told.read_text())
    given = np.array([dx for dx, _ in shifts])
    found = np.array([each["dx_px"] for each in result["passes"]])
    assert np.allclose(found, given - np.median(given), atol=1e-5)
    (step,) = result["steps"]
    assert (step["before"], step["after"]) == ("2024-02-08", "2024-02-20")


STEP = [(1.5 if number >= 4 else 0.1 * (-1) ** number, 0.0) for number in range(7)]


def test_a_run_looks_back_over_three_months(tmp_path: Path) -> None:
    (step,) = find_recent_steps(published_days(tmp_path / "near", STEP))
    assert (step.after, round(step.dx_px, 1)) == (date(2024, 2, 20), 1.5)
    # The same change, but its days are too far apart for all of them to be recent.
    far = published_days(tmp_path / "far", STEP, repeat=timedelta(days=24))
    assert find_recent_steps(far) == []
    assert find_steps(split_passes(read_passes(far)[0]))


def test_few_days_can_show_no_step_and_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = published_days(tmp_path, STEP[2:])
    monkeypatch.setattr("flows.report.drift.read_passes", pytest.fail)
    assert find_recent_steps(region) == []


def test_of_many_recent_days_the_newest_twenty_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def read(_: str, time: object) -> tuple[list[PassDisplacement], list[date]]:
        asked.append(time)
        return [], []

    days = [str(FIRST_DAY + timedelta(days=number)) for number in range(40)]
    monkeypatch.setattr("flows.report.drift.published_slots", lambda _: days)
    monkeypatch.setattr("flows.report.drift.read_passes", read)
    assert find_recent_steps(str(tmp_path)) == []
    assert asked == [(days[20], days[39])]


def test_a_day_of_several_orbits_counts_where_its_scenes_tell_theirs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    region = published_days(tmp_path, [(0.0, 0.0)])
    item = tmp_path / "la" / "items" / f"{FIRST_DAY}.json"
    content = json.loads(item.read_text())
    other = {"platform": "sentinel-1b", "relative_orbit": 64, "orbit_state": "ascending"}
    content["properties"]["tar:sar_orbits"].append(other)
    content["properties"]["tar:sar_scene_orbits"] = [1, 0]
    item.write_text(json.dumps(content))
    passes, _ = read_passes(region)
    assert [str(each.geometry) for each in passes] == ["ascending 064"]
    del content["properties"]["tar:sar_scene_orbits"]
    item.write_text(json.dumps(content))
    assert read_passes(region) == ([], [FIRST_DAY])
    assert main(["drift", region]) == 0
    assert f"Without a pass of a known orbit: {FIRST_DAY}" in capsys.readouterr().out
