"""Windows find shifts that are known, to a fraction of a pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate, shift

from tar_engine.config import RefineConfig
from tar_engine.matching.windows import (
    correlate_by_fft,
    correlate_directly,
    correlation_surfaces,
    match_windows,
    parabola_vertex,
    subtract_mean,
    sum_along,
    sum_windows,
)


def texture(seed: int, channels: int = 4, side: int = 96) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((channels, side, side))
    return correlate(noise, np.ones((1, 5, 5)) / 25, mode="wrap")


@settings(max_examples=15, deadline=None)
@given(dx=st.floats(-5, 5), dy=st.floats(-5, 5), seed=st.integers(0, 50))
def test_a_known_shift_is_found_to_a_fifth_of_a_pixel(dx: float, dy: float, seed: int) -> None:
    optical = texture(seed)
    sar = shift(optical, (0, dy, dx), order=3, mode="grid-wrap")
    found = match_windows(
        subtract_mean(torch.from_numpy(optical).float()[None]),
        subtract_mean(torch.from_numpy(sar).float()[None]),
        torch.ones(1, 1, 96, 96),
        RefineConfig(cell_px=16, window_cells=3, search_px=6),
    )
    inner = found.offset_xy[0].view(6, 6, 2)[1:-1, 1:-1]
    assert (inner - torch.tensor([dx, dy])).norm(dim=-1).max() < 0.2
    assert found.score.max() <= 1.001


def test_surfaces_are_normalised_correlations() -> None:
    """Parity with a plain sum over one window without taper."""
    optical, sar = torch.rand(1, 2, 48, 48) - 0.5, torch.rand(1, 2, 48, 48) - 0.5
    surface = correlation_surfaces(optical, sar, RefineConfig(16, 1, 3))
    window = optical[:, :, 16:32, 16:32]
    there = sar[:, :, 17:33, 14:30]  # offset dx = -2, dy = +1
    expected = (window * there).sum() / (window.square().sum() * there.square().sum()).sqrt()
    assert surface[0, 1, 1, 3 + 1, 3 - 2] == pytest.approx(float(expected), abs=1e-4)


def test_windows_are_tapered_sums_of_cells() -> None:
    cells = torch.zeros(1, 5, 5, 1, 1)
    cells[0, 2, 2] = 1
    spread = sum_windows(cells, 3)[0, :, :, 0, 0]
    assert spread[2, 2] == 1
    assert spread[2, 3] == pytest.approx(float(np.cos(np.pi / 4)), abs=1e-6)
    assert spread[2, 4] == 0


@given(peak=st.floats(-0.5, 0.5), curvature=st.floats(0.1, 10))
def test_the_parabola_is_exact_on_parabolas(peak: float, curvature: float) -> None:
    at = [torch.tensor(-curvature * (x - peak) ** 2, dtype=torch.float64) for x in (-1, 0, 1)]
    assert float(parabola_vertex(*at)) == pytest.approx(peak, abs=1e-6)


def test_only_cells_that_both_images_cover_have_confidence() -> None:
    features = subtract_mean(torch.from_numpy(texture(1)).float()[None])
    valid = torch.ones(1, 1, 96, 96)
    valid[..., :47] = 0  # of the third cell a sixteenth is covered
    found = match_windows(features, features, valid, RefineConfig(16, 3, 6))
    assert not found.covered[0, :, :3].any()
    assert found.covered[0, :, 3:].all()
    confidence = found.confidence.view(6, 6)
    assert not confidence[:, :3].any()
    assert (confidence[:, 3:] > 0).all()


def test_windows_of_shrunk_images_point_at_full_size_pixels() -> None:
    features = subtract_mean(torch.from_numpy(texture(2)).float()[None])
    found = match_windows(features, features, torch.ones(1, 1, 96, 96), RefineConfig(16, 3, 6))
    full = found.at_full_size(4)
    assert full.centre_xy[0].tolist() == [31.5, 31.5]  # the middle of 64 full-size pixels
    assert torch.equal(full.offset_xy, 4 * found.offset_xy)
    assert torch.equal(full.confidence, found.confidence)


@pytest.mark.parametrize(("cell_px", "reach_px"), [(8, 4), (8, 2), (3, 1), (5, 4)])
def test_cells_correlate_directly_as_by_fft(cell_px: int, reach_px: int) -> None:
    side = cell_px + 2 * reach_px
    kernels = torch.rand(2, 3, 10, 4, cell_px, cell_px) - 0.5
    searched = torch.rand(2, 3, 10, 4, side, side) - 0.5
    direct = correlate_directly(kernels, searched)
    assert torch.allclose(correlate_by_fft(kernels, searched), direct, atol=1e-5)


@given(length=st.integers(1, 17), seed=st.integers(0, 5))
def test_sums_by_halves_are_sums(length: int, seed: int) -> None:
    values = torch.rand(2, 20, 3, generator=torch.Generator().manual_seed(seed))
    expected = values.unfold(1, length, 1).sum(dim=-1)
    assert torch.allclose(sum_along(values, length, 1), expected, atol=1e-5)
