"""What repeats has a rival one period off; what one place alone shows has none."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tar_engine.config import FitConfig, RivalConfig
from tar_engine.matching.rivals import fit_whole

SIDE = 256
CONFIG = RivalConfig()
OUTSTANDING = FitConfig().outstanding


def one_place(seed: int, height: int = SIDE, width: int = SIDE) -> Tensor:
    """(1, 4, H, W) features that nothing else shares, as coarse as the cells."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randn(1, 4, height // 8, width // 8, generator=generator)
    return cells.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)


def lattice(period_px: int, seed: int = 9) -> Tensor:
    """(1, 4, SIDE, SIDE) features that come again every `period_px`, down and across."""
    motif = one_place(seed, period_px, period_px)
    times = math.ceil(SIDE / period_px)
    return motif.repeat(1, 1, times, times)[..., :SIDE, :SIDE]


@settings(max_examples=8, deadline=None)
@given(period_px=st.sampled_from([40, 64, 80, 96]), seed=st.integers(0, 50))
def test_two_places_under_one_lattice_have_a_rival_one_period_off(
    period_px: int, seed: int
) -> None:
    optical = lattice(period_px) + 0.8 * one_place(seed)
    sar = lattice(period_px) + 0.8 * one_place(seed + 100)
    assert fit_whole(optical, sar, CONFIG).rival_px.item() == pytest.approx(
        period_px, abs=CONFIG.cell_px
    )


@settings(max_examples=8, deadline=None)
@given(period_px=st.sampled_from([40, 64, 80, 96]), seed=st.integers(0, 50))
def test_one_place_under_a_lattice_has_none(period_px: int, seed: int) -> None:
    ground = one_place(seed)
    optical = lattice(period_px) + ground + 0.5 * one_place(seed + 100)
    sar = lattice(period_px) + ground + 0.5 * one_place(seed + 200)
    assert fit_whole(optical, sar, CONFIG).rival_px.isnan().all()


def test_a_place_without_a_lattice_has_none_wherever_there_is_no_data() -> None:
    optical, sar = one_place(1), one_place(1) + one_place(2)
    optical[..., :100], sar[..., 200:, :] = 0, 0
    assert fit_whole(optical, sar, CONFIG).rival_px.isnan().all()
    nothing = fit_whole(optical * 0, sar * 0, CONFIG)
    assert nothing.rival_px.isnan().all()
    assert (nothing.sharpness == 0).all()
    assert (nothing.prominence == 0).all()


def test_a_pair_of_a_batch_is_judged_as_alone() -> None:
    optical = torch.cat([lattice(64) + one_place(1), one_place(2)])
    sar = torch.cat([lattice(64) + one_place(3), one_place(2)])
    together = fit_whole(optical, sar, CONFIG)
    assert torch.equal(together.rival_px.isnan(), torch.tensor([False, True]))
    for pair in range(2):
        alone = fit_whole(optical[pair : pair + 1], sar[pair : pair + 1], CONFIG)
        for of_both, of_one in zip(together, alone, strict=True):
            assert torch.allclose(of_both[pair : pair + 1], of_one, equal_nan=True)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 50), side=st.sampled_from([96, 160, 256]))
def test_one_place_is_sharper_than_chance_and_two_are_not(seed: int, side: int) -> None:
    """However little of it is seen."""
    ground = one_place(seed)
    optical, sar = (ground + 0.7 * one_place(seed + many) for many in (100, 200))
    optical[..., side:], optical[..., side:, :] = 0, 0
    here = fit_whole(optical, sar, CONFIG)
    elsewhere = fit_whole(optical, one_place(seed + 300), CONFIG)
    assert here.sharpness.item() > 1.2 * CONFIG.chance_sharpness
    assert elsewhere.sharpness.item() < CONFIG.chance_sharpness
    assert here.prominence.item() > OUTSTANDING > elsewhere.prominence.item()
