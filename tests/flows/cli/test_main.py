"""The command line: what it explains, and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.demo_region import OPTICAL_COLLECTION, SAR_COLLECTION, DemoRegion
from flows.cli.main import COMMANDS, main
from tar_engine.errors import InputError, TextError, WeightsError
from tests.support.regions import files_under

SOUND = {
    "optical": [OPTICAL_COLLECTION],
    "sar": [SAR_COLLECTION],
    "start": ["2024-06-01"],
    "end": ["2024-06-15"],
}


def run(region: DemoRegion, store: Path, /, *more: str, **changes: list[str]) -> int:
    """`tar-pipeline run` of the small region with some options changed."""
    options = {
        "catalog": [str(region.catalog)],
        "bbox": [str(edge) for edge in region.bbox],
        "store": [str(store)],
        **SOUND,
        **changes,
    }
    given = [word for name, value in options.items() for word in (f"--{name}", *value)]
    return main(["run", *given, *more])


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    small_region: DemoRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(small_region, tmp_path / "store", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "3 optical and 2 SAR scenes, 4 pairs, 1 day" in shown
    assert "S2-DEMO-EAST" in shown
    assert "11.8 days away" in shown
    assert "nothing was written" in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"bbox": ["9.1", "46.9", "8.9", "47.0"]}, "bbox west 9.1 must be less than east 8.9"),
        ({"bbox": ["8.9", "46.9", "200", "47.0"]}, "bbox"),
        ({"start": ["2024-06-20"]}, "end: 2024-06-15 is before start 2024-06-20"),
        ({"start": ["yesterday"]}, "start: "),
        ({"optical": ["landsat"]}, "no collection 'landsat'; it has: demo-optical, demo-sar"),
        ({"catalog": ["http://127.0.0.1:9/"]}, "http://127.0.0.1:9"),
        ({"catalog": ["/no/such/items.json"]}, "catalog: there is no file '/no/such/items.json'"),
        ({"region": ["a/b"]}, "region 'a/b'"),
        ({"region": [".."]}, "region '..'"),
        ({"store": ["/dev/null/store"]}, "/dev/null"),
        ({"weights-sha256": ["00"]}, "sha256"),
        ({"store": ["memory://x"]}, "change --store"),
        ({"scheduler": ["tcp://127.0.0.1:9"]}, "no Dask scheduler answers at tcp://127.0.0.1:9"),
        ({"crs": ["EPSG:0"]}, "EPSG:0"),
        ({"provider": ["nasa"]}, "provider 'nasa' is not known; there are: earth-search, "),
        ({"bands": ["B04", "vv"]}, "bands: vv; there are: coastal (B01)"),
        ({"crs": ["EPSG:4326"]}, "resolution has to be given"),
    ],
)
def test_bad_input_is_one_line_before_any_work(
    small_region: DemoRegion,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, list[str]],
    says: str,
) -> None:
    monkeypatch.setattr("catalog.archives.api.RETRIES", 0)
    monkeypatch.setattr("flows.cluster.workers.ANSWER_SECONDS", 1)
    store = tmp_path / "store"
    assert run(small_region, store, **changes) == 2
    told = capsys.readouterr()
    assert told.err.startswith("tar-pipeline: error: ")
    assert says in told.err
    assert told.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_one_line(
    small_region: DemoRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a checkpoint")
    assert run(small_region, tmp_path / "store", weights=[str(broken)]) == 2
    assert str(broken) in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("error", [InputError("x"), WeightsError("x"), TextError("x")])
def test_what_the_engine_cannot_take_is_a_wrong_request(
    error: Exception, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("flows.cli.pair.register_files", refuse)
    assert main(["pair", "a.tif", "b.tif", "--out", "c.tif"]) == 2
    assert capsys.readouterr().err == "tar-pipeline: error: x\n"


def test_debug_shows_where_an_error_came_from(small_region: DemoRegion, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="west"):
        run(small_region, tmp_path, "--debug", bbox=["9.1", "46.9", "8.9", "47.0"])


def test_a_region_without_a_pair_ends_well_and_says_so(
    small_region: DemoRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    words = ["--json", str(file)]
    assert run(small_region, tmp_path / "store", *words, **{"max-gap-days": ["1"]}) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "nothing to register" in told
    assert "1.8 days away, more than the 1 days allowed" in told
    assert files_under(tmp_path / "store").keys() == {"region/metrics.prom", "region/report.json"}
    report = json.loads((tmp_path / "store" / "region" / "report.json").read_text())
    assert json.loads(file.read_text()) | {"seconds": 0} == report | {"seconds": 0}


def test_a_missing_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--catalog", "x"])
    assert stopped.value.code == 2
    assert "--bbox" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [[], *([name] for name in COMMANDS)], ids=lambda words: " ".join(words) or "all"
)
def test_every_command_has_a_help_that_fits_a_terminal(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: tar-pipeline" in shown
    assert all(len(line) <= 110 for line in shown.splitlines())


def test_providers_are_listed_with_what_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers"]) == 0
    shown = capsys.readouterr().out
    for name in ("earth-search", "planetary-computer", "copernicus", "stac"):
        assert f"{name}  " in shown
    assert "pip install 'tar-pipeline[planetary-computer]'" in shown
    assert "CDSE_ACCESS_KEY_ID" in shown
    assert "sentinel-1-grd (ground control points, requester pays)" in shown


def test_json_on_standard_output_is_alone_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["providers", "--json", "-"]) == 0
    told = capsys.readouterr()
    names = [each["name"] for each in json.loads(told.out)]
    assert names == ["earth-search", "planetary-computer", "copernicus", "stac"]
    assert all(name in told.err for name in names)


def test_a_dry_run_tells_programs_its_plan(
    small_region: DemoRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "plan.json"
    assert run(small_region, tmp_path / "store", "--dry-run", "--json", str(file)) == 0
    assert "nothing was written" in capsys.readouterr().out
    plan = json.loads(file.read_text())
    assert (plan["region"], plan["scenes"]) == ("region", {"optical": 3, "sar": 2})
    (day,) = plan["slots"]
    assert (day["slot"], day["published"], len(day["pairs"])) == ("2024-06-12", False, 4)
    assert all(0 < pair["overlap_share"] <= 1 for pair in day["pairs"])
    assert [each["scene"] for each in plan["unpaired"]] == ["S2-DEMO-EARLY"]
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("command", [["providers"], ["status", "x"], ["pair", "a", "b", "--out=c"]])
def test_a_json_file_without_a_folder_is_told_before_any_work(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--json", str(tmp_path / "no" / "x.json")]) == 2
    assert "json: " in capsys.readouterr().err


def test_help_does_not_wait_for_heavy_packages() -> None:
    loaded = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, flows.cli.main\n"
            "print([m for m in ('torch', 'prefect', 'distributed', 'xarray') if m in sys.modules])",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert loaded.stdout.strip() == "[]"


def test_pair_registers_two_rasters_and_tells_what_came_of_it(
    small_region: DemoRegion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = small_region.catalog.parent
    out = tmp_path / "out.tif"
    assert main(["pair", str(folder / "S2-DEMO-WEST.tif"), "/nope.tif", "--out", str(out)]) == 2
    assert "sar: /nope.tif cannot be opened" in capsys.readouterr().err
    code = main(
        ["pair", *(str(folder / f"{n}.tif") for n in ("S2-DEMO-EAST", "S1-DEMO-SOUTH")),
         "--out", str(out), "--json", "-"]
    )  # fmt: skip
    assert code == 0
    told = capsys.readouterr()
    assert "Registered" in told.err
    result = json.loads(told.out)
    assert (result["accepted"], result["out"]) == (True, str(out))
    assert result["expected_error_px"] < 1.5
    assert out.exists()
