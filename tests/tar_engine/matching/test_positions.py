"""Positions on a grid are those of its points, and warped features stand in for a warped image."""

from __future__ import annotations

import pytest
import torch

from tar_engine import Registrar
from tar_engine.coordinates import pixel_from_level, pixel_grid
from tar_engine.matching.heights import Relief
from tar_engine.matching.positions import ImagePair, SarPositions
from tar_engine.network.low_level import BLOCK_PX
from tar_engine.network.model import TarNetwork
from tar_engine.network.msfl import normalise_with_nan
from tar_engine.training.synthesis import synthetic_pair


@pytest.fixture(scope="module")
def network() -> TarNetwork:
    return Registrar.load(device="cpu").network


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_grid_is_taken_where_its_points_are(factor: int) -> None:
    affine = torch.tensor([[1.01, -0.02, 3.0], [0.03, 0.98, -5.0]]).repeat(2, 1, 1)
    beyond = torch.randn(2, 2, 6, 9)
    x, y = pixel_grid(96, 144).unbind(dim=-1)
    relief = Relief((x - 2 * y).expand(2, 1, -1, -1), torch.tensor([[0.1, 0.0], [0.0, -0.2]]))
    inner = slice(1, -1), slice(1, -1)  # at the border heights are held
    for positions in (
        SarPositions(affine),
        SarPositions(affine, beyond, 16),
        SarPositions(affine, beyond, 16, relief),
    ):
        height, width = 96 // factor, 144 // factor
        points = pixel_from_level(pixel_grid(height, width).reshape(-1, 2), factor)
        expected = positions.at(points).view(2, height, width, 2)
        found = positions.on_grid(height, width, factor)
        assert torch.allclose(found[:, *inner], expected[:, *inner], atol=1e-3)


def test_near_the_right_place_warped_features_are_almost_those_of_the_warped_image(
    network: TarNetwork,
) -> None:
    made = synthetic_pair(seed=3, side_px=192)
    optical, sar = (
        normalise_with_nan(torch.from_numpy(image)[None].float())
        for image in (made.optical, made.sar)
    )
    pair = ImagePair(optical, sar, network, is_near=True)
    with torch.inference_mode():
        for shift_px in (0.0, float(BLOCK_PX), 5.0, 5.5):
            affine = torch.tensor([[[1.0, 0.0, shift_px], [0.0, 1.0, 0.0]]])
            warped = pair.features_at(SarPositions(affine), 1)
            exact = pair.features_at(SarPositions(affine), 1, exactly=True)
            assert torch.equal(warped.valid, exact.valid)
            inner = (slice(None), slice(None), slice(40, -40), slice(40, -48))  # beyond reach
            alike = torch.cosine_similarity(warped.sar[inner], exact.sar[inner], dim=1)
            assert alike.mean() > (0.8 if shift_px % BLOCK_PX else 0.99)


def test_features_are_warped_on_from_where_they_were_made(network: TarNetwork) -> None:
    """Turned far from how the image was taken: made once there, then moved by whole blocks."""
    made = synthetic_pair(seed=3, side_px=192)
    optical, sar = (
        normalise_with_nan(torch.from_numpy(image)[None].float())
        for image in (made.optical, made.sar)
    )
    turned = torch.tensor([[[0.8, -0.6, 42.0], [0.6, 0.8, -30.0]]])
    there = turned @ torch.tensor([[1.0, 0.0, 4.0], [0.0, 1.0, -4.0], [0.0, 0.0, 1.0]])
    with torch.inference_mode():
        pair = ImagePair(optical, sar, network)
        first = pair.features_at(SarPositions(turned), 1)
        moved = pair.features_at(SarPositions(there), 1)
        exact = ImagePair(optical, sar, network).features_at(SarPositions(there), 1)
    inner = (slice(None), slice(None), slice(60, -60), slice(60, -60))
    there_too = (slice(None), slice(None), slice(56, -64), slice(64, -56))
    assert torch.allclose(moved.sar[inner], first.sar[there_too], atol=0.01)
    assert torch.cosine_similarity(moved.sar[inner], exact.sar[inner], dim=1).mean() > 0.99
