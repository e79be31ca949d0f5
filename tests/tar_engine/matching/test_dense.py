"""Small windows together follow a smooth field, and invent none."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tar_engine.config import RefineConfig
from tar_engine.coordinates import pixel_grid
from tar_engine.deformation import sample
from tar_engine.matching.dense import estimate_smooth_offsets
from tar_engine.matching.windows import subtract_mean
from tar_engine.network.msfl import structure


def test_a_smooth_field_is_followed_where_windows_would_smear_it() -> None:
    """A wave of 80 px is followed to a fraction of its 2 px, from structure alone."""
    torch.manual_seed(1)
    noise = torch.randn(1, 1, 64, 64)
    image = F.interpolate(noise, size=(192, 192), mode="bicubic")
    grid = pixel_grid(192, 192)
    wave = torch.zeros(192, 192, 2)
    wave[..., 0] = 2 * torch.sin(grid[..., 1] * (2 * torch.pi / 80))
    sar = sample(image, (grid - wave)[None])  # rows only slide, so the inverse is exact
    config = RefineConfig()
    with torch.inference_mode():
        valid = torch.ones_like(image)
        seen = [subtract_mean(structure(image, valid)) for image in (image, sar.nan_to_num())]
        offset, _ = estimate_smooth_offsets(*seen, config.dense_search_px[0], config)
    truth = F.avg_pool2d(wave.permute(2, 0, 1)[None], 8)
    inner = (offset - truth)[..., 2:-2, 2:-2]
    assert inner.square().sum(dim=1).sqrt().median() < 0.4


def test_across_range_unrelated_images_move_less_and_shifted_ones_as_they_should() -> None:
    """Relief moves SAR along x: what chance says of y is held harder, not what the ground says."""
    torch.manual_seed(2)
    noise = torch.randn(2, 4, 132, 132)
    here, other = (subtract_mean(image[None]) for image in noise)
    config = RefineConfig()
    reach_px = config.dense_search_px[0]
    chance, _ = estimate_smooth_offsets(here, other, reach_px, config)
    across, along = chance[0].square().mean(dim=(1, 2)).sqrt()
    assert along < 0.5 * across
    for axis in (0, 1):
        moved = here.roll(1, dims=3 - axis)
        offset, _ = estimate_smooth_offsets(here, moved, reach_px, config)
        wanted = torch.eye(2)[axis]
        inner = offset[0, :, 2:-2, 2:-2] - wanted[:, None, None]
        assert inner.abs().max() < 0.05


def test_without_structure_nothing_moves() -> None:
    flat = torch.zeros(1, 4, 64, 48)
    config = RefineConfig()
    offset, weight = estimate_smooth_offsets(flat, flat, config.dense_search_px[0], config)
    assert offset.shape == (1, 2, 8, 6)
    assert not offset.any()
    assert weight.shape == (1, 8, 6)
    assert not weight.any()
