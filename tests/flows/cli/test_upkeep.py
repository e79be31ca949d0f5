"""`tar-pipeline status`, `verify` and `prune`: what they tell people and programs."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from catalog.store.upkeep import generations
from flows.cli.main import main
from tests.support.slots import (
    FEW_CHUNKS,
    FIRST,
    HALF,
    ONE_SHARD,
    SECOND,
    created,
    make_old,
    published,
    with_history,
)


def test_the_commands_tell_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, half = with_history(tmp_path)
    make_old(tmp_path)
    place = str(tmp_path)

    assert main(["status", place]) == 0
    assert "published" in capsys.readouterr().out
    assert main(["status", place, "--json", "-"]) == 0
    rows = json.loads(capsys.readouterr().out)
    *rows, cost = rows
    assert (cost["region"], cost["currency"]) == ("la", "€")
    assert [row["generation"] for row in rows] == [FIRST, SECOND, HALF]
    assert [row["published"] for row in rows] == [False, True, False]
    assert sum(rows[1]["pixels"].values()) == pytest.approx(1)
    assert (rows[1]["shards"], rows[2]["shards"]) == (1, 1)
    assert (cost["newest_day"], cost["stale"]) == ("2020-11-04", None)

    assert main(["prune", place]) == 0
    told = capsys.readouterr().out
    assert "2 generations" in told
    assert "Dry run: nothing was removed" in told
    assert len(generations(place, "la")) == 3
    assert main(["prune", place, "--yes", "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["generation"] for each in told["removed"]] == [FIRST, HALF]
    assert [each.store for each in generations(place, "la")] == [new]

    assert main(["verify", place]) == 0
    assert "2 shards as written" in capsys.readouterr().out
    Path(new.url, "vh", "0", "0").unlink()
    assert main(["verify", f"{place}/la"]) == 1
    assert f"la 2020-11-04 {SECOND}: shard 0.0 of vh is missing" in capsys.readouterr().out
    assert main(["verify", place, "--json", "-"]) == 1
    (result,) = json.loads(capsys.readouterr().out)
    assert result["faults"] == [{"shard": "0.0", "variable": "vh", "what": "is missing"}]
    assert not Path(old.url).exists()
    assert not Path(half.url).exists()


def test_status_fails_for_a_region_whose_newest_day_is_too_old_and_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    today = datetime.now(UTC).date()
    yesterday, days = today - timedelta(days=1), (today - date(2020, 11, 4)).days
    published(tmp_path / "old", ONE_SHARD)
    published(tmp_path / "new", ONE_SHARD, slot=str(yesterday))
    created(tmp_path / "none", ONE_SHARD)
    for source, name in (("old", "stale"), ("new", "fresh"), ("none", "empty")):
        (tmp_path / source / "la").rename(tmp_path / name)
        (tmp_path / source).rmdir()
    place = str(tmp_path)

    assert main(["status", place]) == 0
    assert f"stale: newest day 2020-11-04, {days} days old\n" in capsys.readouterr().out
    assert main(["status", place, "--max-age-days", str(days)]) == 1
    told = capsys.readouterr().out
    assert "empty: nothing is published: STALE" in told
    assert told.count("STALE") == 1
    assert main(["status", place, "--max-age-days", "2", "--json", "-"]) == 1
    regions = [row for row in json.loads(capsys.readouterr().out) if "stale" in row]
    assert {row["region"]: row["stale"] for row in regions} == {
        "empty": True, "fresh": False, "stale": True
    }  # fmt: skip
    assert {row["region"]: row["newest_day"] for row in regions}["fresh"] == str(yesterday)
    assert main(["status", f"{place}/fresh", "--max-age-days", "2"]) == 0
    with pytest.raises(SystemExit):
        main(["status", place, "--max-age-days", "-1"])


def test_young_generations_are_kept_and_pruning_them_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = created(tmp_path, FEW_CHUNKS, generation=HALF)
    assert main(["prune", str(tmp_path), "--yes"]) == 0
    assert "kept, a run may be writing it" in capsys.readouterr().out
    assert Path(half.url).exists()
    file = tmp_path.with_name("pruned.json")
    assert main(["prune", str(tmp_path), "--older-than-hours", "0", "--json", str(file)]) == 0
    assert [each["generation"] for each in json.loads(file.read_text())["left_over"]] == [HALF]
    assert "make sure that no run is writing" in " ".join(capsys.readouterr().out.split())
    assert main(["status", "/no/such/store"]) == 1
    assert "there is no region in /no/such/store" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["prune", str(tmp_path), "--older-than-hours", "-1"])


def test_days_that_are_no_longer_kept_are_listed_and_deleted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_history(tmp_path)
    place = [str(tmp_path), "--keep-days", "30"]
    assert main(["retire", *place]) == 0
    told = capsys.readouterr().out
    assert "la 2020-11-04: " in told
    assert "Dry run: nothing was deleted" in told
    assert main(["status", str(tmp_path)]) == 0
    assert main(["retire", *place, "--yes", "--json", str(tmp_path / "told.json")]) == 0
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["deleted"]
    assert [(day["slot"], day["published"]) for day in told["days"]] == [("2020-11-04", True)]
    # A run may still be writing the third generation, which was never published.
    assert [each.store.generation for each in generations(str(tmp_path), "la")] == [HALF]
    assert main(["retire", str(tmp_path), "--keep-days", "0"]) == 2
