"""`tar-pipeline cube` and `announce`, and what `prune` and `retire` leave of both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.cube.update import update_cube
from flows.cli.main import main
from tests.support.cubes import open_cube, publish_day, require_days, written_day
from tests.support.slots import FIRST, SECOND
from tests.support.small_stac_api import SmallStacApi, small_stac_api


@pytest.fixture
def api() -> Iterator[SmallStacApi]:
    with small_stac_api() as running:
        yield running


def generations_shown(api: SmallStacApi) -> dict[str, str]:
    """By day."""
    properties = [each["properties"] for each in api.items.get("la", {}).values()]
    return {each["tar:slot"]: each["tar:generation"] for each in properties}


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


def test_a_region_without_days_is_told_no_lines_that_open_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written_day(tmp_path, "2020-11-04", "a")
    assert main(["cube", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "la: no day is published, so there is no cube\n"


def test_a_cube_that_is_behind_does_not_show_what_is_pruned(tmp_path: Path) -> None:
    publish_day(written_day(tmp_path, "2020-11-04", FIRST))
    update_cube(str(tmp_path), "la")
    day = publish_day(written_day(tmp_path, "2020-11-04", SECOND, seed=2))
    assert main(["prune", str(tmp_path), "--yes", "--older-than-hours", "0"]) == 0
    require_days(open_cube(day.region_url), [day])
    assert not list((tmp_path / "la/slots/2020-11-04").glob(f"{FIRST}.*"))


def test_a_region_is_announced_and_from_then_on_kept_up_to_date(
    api: SmallStacApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path)
    publish_day(written_day(tmp_path, "2020-11-04", FIRST))
    assert main(["announce", place]) == 0
    assert "No region here was announced before" in capsys.readouterr().out
    assert main(["announce", place, "--stac-api", f"{api.url}/", "--json", "-"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == [
        {"region": "la", "announced": {"url": api.url, "failures": []},
         "upserted": ["la-2020-11-04"], "deleted": []}
    ]  # fmt: skip
    assert f"la: the STAC API {api.url} shows what is published: 1 item sent" in told.err
    assert main(["announce", place, "--stac-api", "items.json"]) == 2

    publish_day(written_day(tmp_path, "2020-11-04", SECOND, seed=2))
    assert main(["prune", place, "--yes", "--older-than-hours", "0"]) == 0
    assert generations_shown(api) == {"2020-11-04": SECOND}
    assert main(["retire", place, "--keep-days", "1", "--yes"]) == 0
    assert (generations_shown(api), api.collections) == ({}, {})


def test_an_api_that_is_behind_is_warned_of_until_it_is_not(
    api: SmallStacApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path)
    publish_day(written_day(tmp_path, "2020-11-04", FIRST))
    api.faults = {"": 403}
    assert main(["announce", place, "--stac-api", api.url]) == 4
    behind = f"la: the STAC API {api.url} is behind: POST {api.url}/collections: answers 403"
    assert behind in capsys.readouterr().out
    assert main(["status", place]) == 0
    assert behind in capsys.readouterr().out
    assert main(["status", place, "--json", "-"]) == 0
    (*_, row) = json.loads(capsys.readouterr().out)
    assert row["stac_api"]["url"] == api.url
    assert len(row["stac_api"]["failures"]) == 1
    api.faults.clear()
    assert main(["announce", place]) == 0
    assert main(["status", place]) == 0
    assert f"la: the STAC API {api.url} shows what is published" in capsys.readouterr().out


def test_days_are_retired_though_the_api_is_not_told(
    api: SmallStacApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = publish_day(written_day(tmp_path, "2020-11-04", FIRST))
    assert main(["announce", str(tmp_path), "--stac-api", api.url]) == 0
    api.faults = {"": 403}
    assert main(["retire", str(tmp_path), "--keep-days", "1", "--yes"]) == 4
    assert "answers 403" in capsys.readouterr().out
    assert not Path(day.url).exists()
    assert generations_shown(api) == {"2020-11-04": FIRST}
