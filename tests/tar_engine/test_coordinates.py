"""Conversions between pixel, level, normalised and cell coordinates undo each other."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d, grid_sample

from tar_engine.coordinates import (
    apply_affine,
    cell_centres,
    compose_affine,
    level_from_pixel,
    normalised_from_pixel,
    pixel_from_level,
    pixel_grid,
    rescale_affine,
)
from tar_engine.deformation import AffineRange, invert_affine, random_affines

numbers = st.floats(-500, 500)


@given(x=numbers, y=numbers, factor=st.sampled_from([1, 2, 4, 5.5]))
def test_level_and_pixel_undo_each_other(x: float, y: float, factor: float) -> None:
    xy = torch.tensor([x, y], dtype=torch.float64)
    back = pixel_from_level(level_from_pixel(xy, factor), factor)
    assert torch.allclose(back, xy, atol=1e-9)


def test_a_shrunk_pixel_lies_at_the_mean_of_its_pixels() -> None:
    grid = pixel_grid(8, 12)
    mean = avg_pool2d(grid.permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0)
    assert torch.allclose(mean, pixel_from_level(pixel_grid(2, 3), 4))
    assert torch.allclose(mean.reshape(-1, 2), cell_centres(2, 3, 4))


def test_normalised_coordinates_are_those_of_grid_sample() -> None:
    image = torch.rand(1, 1, 7, 9)
    grid = normalised_from_pixel(pixel_grid(7, 9), 7, 9)[None]
    assert torch.allclose(grid_sample(image, grid, align_corners=False), image, atol=1e-5)


@given(seed=st.integers(0, 10_000))
def test_an_affine_composed_with_its_inverse_is_the_identity(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    affine = random_affines(AffineRange((0.5, 2.0), 180.0, 30.0, 10.0), 3, 256, generator)
    identity = compose_affine(affine, invert_affine(affine))
    assert torch.allclose(identity, torch.eye(2, 3, dtype=torch.float64).expand(3, 2, 3), atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(optical=st.sampled_from([1.0, 2.0, 5.5]), sar=st.sampled_from([1.0, 2.0, 3.25]))
def test_an_affine_of_shrunk_images_is_rescaled_to_the_full_ones(
    optical: float, sar: float
) -> None:
    affine = random_affines(AffineRange((0.7, 1.3), 35, 20), 1, 128, torch.Generator())
    xy = torch.rand(1, 20, 2, dtype=torch.float64) * 128
    through = pixel_from_level(apply_affine(affine, level_from_pixel(xy, optical)), sar)
    direct = apply_affine(rescale_affine(affine, optical, sar), xy)
    assert torch.allclose(direct, through, atol=1e-9)
