"""`evaluate` and `train` from the command line: what they print, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from flows.cli.commands.engine import PROTOCOL_NAMES
from flows.cli.main import main
from tar_engine.network.weights import load_checkpoint
from tar_engine.training.patches import load_pairs
from tar_engine.training.protocols import PROTOCOLS
from tar_engine.training.synthesis import synthetic_pair


@pytest.fixture(scope="module")
def pairs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    for seed in (1, 2):
        pair = synthetic_pair(seed, 128)
        Image.fromarray(pair.optical.transpose(1, 2, 0)).save(folder / f"{seed:04}_optical.png")
        Image.fromarray(pair.sar[0]).save(folder / f"{seed:04}_sar.png")
    return folder


def test_evaluate_prints_a_table_and_writes_every_case(
    pairs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table.json"
    words = ["evaluate", str(pairs_dir), "--protocol", "small", "foreign", "--json", str(out)]
    assert main([*words, "--calibration"]) == 0
    told = capsys.readouterr().out
    assert "CMR@2" in told
    assert "Is expected_error_px true?" in told
    protocols = json.loads(out.read_text())["protocols"]
    assert list(protocols) == ["small", "foreign"]
    assert [case["pair"] for case in protocols["small"]["cases"]] == ["0001", "0002"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["evaluate", "{pairs}/none"], "no files named"),
        (["evaluate", "{pairs}", "--json", "{pairs}/none/x.json"], "json: "),
        (["evaluate", "{pairs}", "--device", "banana"], "device: 'banana'"),
        (["evaluate", "{pairs}", "--weights", "{pairs}/0001_sar.png"], "no checkpoint"),
        (["train", "{pairs}", "--out", "{pairs}/none/x.safetensors"], "out: "),
        (["train", "{pairs}", "--out", "{pairs}/x.safetensors", "--pairs", "0"], "at least 1"),
        (["train", "{pairs}", "--drawn", "1", "--pack", "{pairs}/x.npz"], "different sizes"),
        (["train", "{pairs}", "--scenes", "{pairs}", "--pack", "{pairs}/x.npz"], "no scenes with"),
    ],
)
def test_mistakes_are_one_clear_line(
    pairs_dir: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert main([word.format(pairs=pairs_dir) for word in words]) != 0
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("tar-pipeline: error: ")
    assert says in line
    assert "a bug" not in line


@pytest.mark.parametrize("option", [["--protocol", "huge"], ["--text", "poetry"]])
def test_a_word_that_is_none_of_the_choices_is_named(
    pairs_dir: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", str(pairs_dir), *option])
    assert stopped.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"argument {option[0]}: invalid choice: '{option[1]}'" in line


def test_every_protocol_can_be_asked_for() -> None:
    assert list(PROTOCOLS) == PROTOCOL_NAMES


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_train_packs_trains_and_validates(
    pairs_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    packed, out = tmp_path / "pairs.npz", tmp_path / "tar.safetensors"
    assert main(["train", str(pairs_dir), "--pack", str(packed)]) == 0
    assert "2 pairs packed" in capsys.readouterr().out
    assert load_pairs(packed).names == ("0001", "0002")
    monkeypatch.setattr("flows.cli.commands.engine.OF_ONE_DATE", ["small"])  # all take too long
    words = ["train", str(packed), "--out", str(out), "--pairs", "4", "--batch", "2"]
    assert main([*words, "--device", "cpu", "--validate", str(pairs_dir)]) == 0
    checkpoint = load_checkpoint(out)
    assert checkpoint.history["high"]["pairs_seen"] == 4
    assert checkpoint.history["high"]["data"]["kinds"] == {"patches": 2}
    assert checkpoint.history["validation"][1].startswith("small")
    assert "\n".join(checkpoint.history["validation"]) in capsys.readouterr().out
    assert "all-MiniLM-L6-v2" in checkpoint.text_provenance
