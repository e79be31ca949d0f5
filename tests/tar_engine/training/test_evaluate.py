"""Failures are infinite errors, stated errors are tested, the shipped weights hold their bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tar_engine import Registrar
from tar_engine.errors import InputError
from tar_engine.training.evaluate import (
    dense_shares,
    evaluate,
    grid_error,
    reliability_table,
    summarise,
    table,
)
from tar_engine.training.patches import PatchPairs, load_pairs
from tar_engine.training.protocols import PROTOCOLS, Case
from tests.support.pairs import drawn_pairs

REAL_PAIRS = Path(__file__).resolve().parents[4] / "shared" / "data" / "patches" / "val"


@pytest.fixture(scope="module")
def data() -> PatchPairs:
    return drawn_pairs({"three": 3, "four": 4})


def blank_case(displacement: np.ndarray) -> Case:
    blank = np.zeros((1, 256, 256), np.uint8)
    return Case("a", blank, blank, displacement.astype(np.float32))


def test_the_error_of_the_truth_is_zero_and_of_a_shift_is_the_shift() -> None:
    truth = np.stack([np.full((256, 256), 5.0), np.full((256, 256), -3.0)]).astype(np.float32)
    case = blank_case(truth)
    assert grid_error(truth, case) == 0
    assert grid_error(truth + np.float32(1), case) == pytest.approx(2**0.5, abs=1e-5)


def test_only_what_the_sar_image_holds_is_judged() -> None:
    truth = np.zeros((2, 256, 256), np.float32)
    truth[:, :, 128:] = np.nan
    answer = np.zeros((2, 256, 256), np.float32)
    answer[:, :, 128:] = 99
    assert grid_error(answer, blank_case(truth)) == 0
    assert dense_shares(answer, blank_case(truth)) == {"px<1": 1, "px<2": 1, "px<3": 1}
    assert grid_error(answer, blank_case(truth + np.nan)) == float("inf")


def test_an_answer_of_nan_is_a_failure() -> None:
    case = blank_case(np.zeros((2, 256, 256)))
    answer = np.zeros((2, 256, 256), np.float32)
    answer[:, :64] = np.nan
    assert grid_error(answer, case) == float("inf")
    assert dense_shares(answer, case) == {"px<1": 0.75, "px<2": 0.75, "px<3": 0.75}


def test_dense_shares_count_pixels_below_each_threshold() -> None:
    answer = np.zeros((2, 256, 256), np.float32)
    answer[0, :128], answer[1, :64] = 1.5, 2.0
    shares = dense_shares(answer, blank_case(np.zeros((2, 256, 256))))
    assert shares == {"px<1": 0.5, "px<2": 0.75, "px<3": 1.0}


def test_a_refusal_counts_as_an_infinite_error() -> None:
    good = {"foreign": False, "accepted": True, "error_px": 0.5, "expected_error_px": 1.0}
    bad = good | {"accepted": False, "error_px": float("inf"), "expected_error_px": float("inf")}
    told = summarise(PROTOCOLS["small"], [good, bad, bad])
    assert told["cmr@1"] == pytest.approx(1 / 3)
    assert told["median_px"] == float("inf")
    assert told["accepted"] == pytest.approx(1 / 3)
    wrong, refused = ({**case, "foreign": True} for case in (good, bad))
    told = summarise(PROTOCOLS["foreign"], [wrong, refused])
    assert told == {"pairs": 2, "false_accepts": 0.5}
    told = summarise(PROTOCOLS["repeated"], [good, wrong, good, refused])
    assert (told["pairs"], told["accepted"], told["false_accepts"]) == (2, 1, 0.5)
    rows = table({"protocols": {"repeated": told}}).splitlines()
    assert rows[1].split()[:5] == ["repeated", "2", "50.0%", "100.0%", "0.0%"]


def test_an_answer_that_is_far_off_counts_as_wrong_and_a_refusal_does_not() -> None:
    cases = [
        {"foreign": False, "accepted": accepted, "error_px": error_px, "expected_error_px": 1.0}
        for accepted, error_px in ((True, 2.9), (True, 3.1), (False, float("inf")), (True, 0.5))
    ]
    assert summarise(PROTOCOLS["small"], cases)["wrong"] == 0.25


def test_stated_errors_are_compared_with_the_true_ones() -> None:
    """Of two stated below 1 px one is wrong; refused and foreign cases do not count."""
    stated = [(0.9, 0.5, True), (0.9, 1.9, True), (1.2, 1.3, True), (np.inf, np.inf, False)]
    cases = [
        {"foreign": False, "expected_error_px": expected, "error_px": true, "accepted": accepted}
        for expected, true, accepted in stated
    ]
    foreign = {"false_accepts": 1.0, "cases": [case | {"foreign": True} for case in cases]}
    told = reliability_table({"protocols": {"small": {"cases": cases}, "foreign": foreign}})
    rows = [line.split("  ") for line in told.splitlines()]
    found = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert found[0][0] == "stated px"
    assert found[1] == ["0.8 to 1", "2", "1.20", "1.76", "50.0%", "50.0%"]
    assert found[2] == ["1 to 1.25", "1", "1.30", "1.30", "0.0%", "100.0%"]
    assert found[3] == ["all", "3", "1.30", "1.78", "33.3%", "66.7%"]


def test_drawn_pairs_are_registered_and_foreign_ones_refused(data: PatchPairs) -> None:
    told: list[tuple[str, int, int]] = []
    results = evaluate(
        data,
        Registrar.load(device="cpu"),
        ["small", "elastic", "foreign"],
        lambda *step: told.append(step),
    )
    assert told[:2] == [("small", 1, 2), ("small", 2, 2)]
    assert len(told) == 6
    assert results["protocols"]["foreign"]["false_accepts"] == 0
    small, elastic = results["protocols"]["small"], results["protocols"]["elastic"]
    assert small["cmr@2"] == elastic["cmr@3"] == 1
    assert small["within_twice_stated"] == 1
    assert "px<2" not in small
    assert elastic["px<3"] > 0.7
    assert elastic["px<1"] <= elastic["px<2"] <= elastic["px<3"] <= 1
    assert "CMR@2" in table(results)
    with pytest.raises(InputError, match=r"protocol: \['huge'\] unknown"):
        evaluate(data, Registrar.load(device="cpu"), ["small", "huge"])


def test_pairs_that_deceive_are_asked_with_their_own_sar_and_with_another_place_s(
    data: PatchPairs,
) -> None:
    results = evaluate(data, Registrar.load(device="cpu"), ["repeated", "burnt"])["protocols"]
    for name, told in results.items():
        assert [case["foreign"] for case in told["cases"]] == [False, True] * 2
        assert {case["deceit"] for case in told["cases"]} <= set(PROTOCOLS[name].deceits)
        assert told["pairs"] == 2
        assert told["false_accepts"] == 0


def test_a_folder_without_pairs_and_one_with_a_missing_partner(tmp_path: Path) -> None:
    from PIL import Image

    with pytest.raises(InputError, match="no files named"):
        load_pairs(tmp_path)
    Image.new("RGB", (64, 64)).save(tmp_path / "0001_optical.png")
    with pytest.raises(InputError, match="0001_optical has no partner"):
        load_pairs(tmp_path)
    (tmp_path / "0001_sar.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"0001_sar\.png: cannot be read"):
        load_pairs(tmp_path)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_PAIRS.exists(), reason=f"REAL DATA MISSING: {REAL_PAIRS}")
def test_real_pairs_are_registered_and_foreign_ones_refused() -> None:
    """A tenth of the validation set; the whole table is `tar-pipeline evaluate`'s."""
    pairs = load_pairs(REAL_PAIRS)
    chosen = list(range(0, len(pairs), 10))
    some = PatchPairs(
        tuple(pairs.names[i] for i in chosen), pairs.optical[chosen], pairs.sar[chosen]
    )
    torch.set_num_threads(1)
    told = evaluate(some, Registrar.load(device="cpu"), ["small", "large", "foreign"])["protocols"]
    assert told["small"]["cmr@2"] >= 0.85
    assert told["large"]["cmr@3"] >= 0.85
    assert told["foreign"]["false_accepts"] <= 0.15
