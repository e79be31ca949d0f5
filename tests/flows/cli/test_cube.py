"""`tar-pipeline cube`, and what `prune` leaves of one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from catalog.cube.update import update_cube
from flows.cli.main import main
from tests.support.cubes import open_cube, publish_day, require_days, written_day
from tests.support.slots import FIRST, SECOND


def test_a_cube_is_made_again_and_how_to_open_it_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = publish_day(written_day(tmp_path, "2020-11-04", "a"))
    assert main(["cube", str(tmp_path), "--json", "-"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["region"], told["added"], told["left_out"]) == ("la", ["2020-11-04"], [])
    require_days(open_cube(day.region_url), [day])
    assert main(["cube", day.region_url]) == 0
    said = capsys.readouterr().out
    assert "la: up to date" in said
    assert all(line in said for line in told["open"])


def test_a_cube_that_is_behind_does_not_show_what_is_pruned(tmp_path: Path) -> None:
    publish_day(written_day(tmp_path, "2020-11-04", FIRST))
    update_cube(str(tmp_path), "la")
    day = publish_day(written_day(tmp_path, "2020-11-04", SECOND, seed=2))
    assert main(["prune", str(tmp_path), "--yes", "--older-than-hours", "0"]) == 0
    require_days(open_cube(day.region_url), [day])
    assert not list((tmp_path / "la/slots/2020-11-04").glob(f"{FIRST}.*"))
