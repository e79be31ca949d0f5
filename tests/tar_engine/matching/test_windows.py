"""Windows find shifts that are known, to a fraction of a pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate, shift

from tar_engine.config import RefineConfig
from tar_engine.coordinates import apply_affine, level_from_pixel, pixel_from_level
from tar_engine.deformation import AffineRange, random_affines
from tar_engine.fields.consensus import hypothesise, polish, support
from tar_engine.matching.search import rescaled
from tar_engine.matching.windows import (
    add_windows,
    centred,
    correlation_surfaces,
    match_windows,
    parabola,
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
        centred(torch.from_numpy(optical).float()[None]),
        centred(torch.from_numpy(sar).float()[None]),
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
    spread = add_windows(cells, 3)[0, :, :, 0, 0]
    assert spread[2, 2] == 1
    assert spread[2, 3] == pytest.approx(float(np.cos(np.pi / 4)), abs=1e-6)
    assert spread[2, 4] == 0


@given(peak=st.floats(-0.5, 0.5), curvature=st.floats(0.1, 10))
def test_the_parabola_is_exact_on_parabolas(peak: float, curvature: float) -> None:
    at = [torch.tensor(-curvature * (x - peak) ** 2, dtype=torch.float64) for x in (-1, 0, 1)]
    assert float(parabola(*at)) == pytest.approx(peak, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_consensus_finds_the_affine_among_two_thirds_outliers(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth = random_affines(AffineRange((0.7, 1.3), 35, 20), 1, 256, generator).float()
    optical = torch.rand(1, 300, 2, generator=generator) * 255
    sar = apply_affine(truth, optical) + 0.3 * torch.randn(1, 300, 2, generator=generator)
    sar[:, 100:] = torch.rand(1, 200, 2, generator=generator) * 255
    weight = torch.ones(1, 300)
    hypotheses = hypothesise(optical, sar, weight, 512)
    best = hypotheses[:, support(hypotheses, optical, sar, weight, 3.0).argmax()]
    answer = polish(best, optical, sar, weight, 3.0)
    error = (apply_affine(answer, optical) - apply_affine(truth, optical)).norm(dim=-1)
    assert error.max() < 0.5


def test_an_answer_does_not_depend_on_the_rest_of_the_batch() -> None:
    optical, sar, weight = torch.rand(3, 50, 2), torch.rand(3, 50, 2), torch.rand(3, 50)
    together = hypothesise(optical, sar, weight, 64)
    alone = hypothesise(optical[1:2], sar[1:2], weight[1:2], 64)
    assert torch.equal(together[1:2], alone)


@settings(max_examples=10, deadline=None)
@given(optical=st.sampled_from([1.0, 2.0, 5.5]), sar=st.sampled_from([1.0, 2.0, 3.25]))
def test_an_affine_of_shrunk_images_is_rescaled_to_the_full_ones(
    optical: float, sar: float
) -> None:
    affine = random_affines(AffineRange((0.7, 1.3), 35, 20), 1, 128, torch.Generator())
    xy = torch.rand(1, 20, 2, dtype=torch.float64) * 128
    through = pixel_from_level(apply_affine(affine, level_from_pixel(xy, optical)), sar)
    assert torch.allclose(apply_affine(rescaled(affine, optical, sar), xy), through, atol=1e-9)
