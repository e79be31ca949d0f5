"""Do the classical baselines recover a known warp? Else a comparison with them says nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tar_engine.training.evaluate import grid_error
from tar_engine.training.patches import PatchPairs
from tar_engine.training.protocols import Case, Protocol, make_case
from tests.benchmarks.baselines import BASELINES
from tests.support.pairs import drawn_pairs

SMALL = Protocol("small", "", seed=1, scale=(0.99, 1.01), rotation_deg=1, translation_px=5)
LARGE = Protocol("large", "", seed=2, scale=(0.8, 1.2), rotation_deg=25, translation_px=12)


@pytest.fixture(scope="module")
def data() -> PatchPairs:
    return drawn_pairs({"drawn": 5})


@pytest.mark.parametrize(
    ("name", "protocol"),
    [("gradients", SMALL), ("gradients-smooth", SMALL), ("exhaustive", LARGE)],
)
def test_a_known_warp_is_recovered(name: str, protocol: Protocol, data: PatchPairs) -> None:
    case = make_case(data, 0, protocol)
    assert unregistered_error(case) > 3
    answer = BASELINES[name](case.optical, case.sar)
    assert answer is not None
    assert answer.dtype == np.float32
    assert grid_error(answer, case) < 1


def test_sift_answers_or_says_nothing(data: PatchPairs) -> None:
    same = data.optical[0].numpy()
    answer = BASELINES["sift"](same, same[:1])
    assert answer is not None
    assert np.abs(answer).max() < 1
    case = make_case(data, 0, SMALL)
    across = BASELINES["sift"](case.optical, case.sar)
    assert across is None or across.shape == case.displacement.shape


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_nothing_to_match_is_no_answer(name: str) -> None:
    optical, sar = np.full((3, 128, 128), 90, np.uint8), np.full((1, 128, 128), 60, np.uint8)
    assert BASELINES[name](optical, sar) is None


def unregistered_error(case: Case) -> float:
    nothing: npt.NDArray[np.float32] = np.zeros_like(case.displacement)
    return grid_error(nothing, case)
