"""What relief displaces is learnt as two numbers, whatever else moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tar_engine.config import HeightConfig
from tar_engine.coordinates import cell_centres, pixel_grid
from tar_engine.deformation import draw_heights
from tar_engine.matching.heights import Relief, beyond_plane

SHAPE, CELL_PX, WINDOW_CELLS = (16, 16), 16, 5


def hills(metres: float = 50.0, side_px: int = 256) -> torch.Tensor:
    """(1, side_px, side_px) made heights."""
    generator = torch.Generator().manual_seed(5)
    return (metres * draw_heights(side_px, 160, 1.5, generator)).float()[None]


def learnt(relief: Relief, beyond_px: torch.Tensor) -> tuple[Relief, torch.Tensor]:
    weight = torch.ones(beyond_px.shape[:2])
    return relief.learn(beyond_px, weight, SHAPE, CELL_PX, WINDOW_CELLS, HeightConfig())


@settings(max_examples=20, deadline=None)
@given(slope=st.floats(-2, 2), height_m=st.floats(-500, 4000))
def test_a_plane_beneath_the_relief_changes_nothing(slope: float, height_m: float) -> None:
    """That part of its displacement is an affine, and stays the affine's."""
    heights = hills(side_px=64)
    x, y = pixel_grid(64, 64).unbind(dim=-1)
    tilted = beyond_plane(heights + height_m + slope * x - slope / 2 * y)
    assert torch.allclose(tilted, beyond_plane(heights), atol=0.01)


def test_unknown_heights_are_flat_ground() -> None:
    heights = hills()
    heights[:, 40:90, 60:200] = torch.nan
    beyond = beyond_plane(heights)
    assert not beyond[:, 40:90, 60:200].any()
    assert torch.isfinite(beyond).all()
    assert not beyond_plane(torch.full((1, 64, 64), torch.nan)).any()


def test_windows_tell_pixels_a_metre_despite_an_affine_and_outliers() -> None:
    relief = Relief.of(hills())
    centres = cell_centres(*SHAPE, CELL_PX)
    true = torch.tensor([[0.1, -0.02]])
    windows_m = relief.metres_of_windows(SHAPE, CELL_PX, WINDOW_CELLS)
    found = windows_m[..., None] * true[:, None] + 0.01 * (centres - 128) + 2
    found[:, ::5] += 6 * torch.randn(
        found[:, ::5].shape, generator=torch.Generator().manual_seed(1)
    )
    known, left_px = learnt(relief, found)
    assert known.px_per_m[0].tolist() == pytest.approx(true[0].tolist(), abs=0.005)
    assert torch.allclose(left_px, found - windows_m[..., None] * known.px_per_m[:, None])
    again, _ = learnt(known, left_px)
    assert torch.allclose(again.px_per_m, known.px_per_m, atol=0.005)  # nothing new, nothing added


@pytest.mark.parametrize("metres", [0.0, 0.01])
def test_flat_ground_tells_nothing(metres: float) -> None:
    noise = torch.randn(1, 256, 2, generator=torch.Generator().manual_seed(2))
    known, left_px = learnt(Relief.of(hills(metres)), noise)
    assert known.at(cell_centres(*SHAPE, CELL_PX)).abs().max() < 0.01
    assert torch.allclose(left_px, noise, atol=0.01)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_grid_is_displaced_as_its_points_are(factor: int) -> None:
    relief = Relief(beyond_plane(hills())[:, None], torch.tensor([[0.1, 0.05]]))
    side = 256 // factor
    grid = relief.on_grid(side, side)[0].permute(1, 2, 0).reshape(-1, 2)
    at = relief.at(cell_centres(side, side, factor))[0]
    assert np.abs((grid - at).numpy()).max() < 0.3 * (factor > 1) + 1e-4
