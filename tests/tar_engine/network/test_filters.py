"""Filters are SciPy's, whichever way a CPU computes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from tar_engine.network.filters import (
    SMALL_PX,
    derivative_kernel,
    dilate,
    filter_separable,
    gaussian_kernel,
    mean_of_known,
)

CPU = torch.device("cpu")
SIZES = [(20, 16), (SMALL_PX, 3), (SMALL_PX + 1, 40)]  # by products, and by shifted sums


@pytest.mark.parametrize("size", SIZES)
def test_an_image_is_filtered_along_both_axes_with_its_edges_replicated(
    size: tuple[int, int],
) -> None:
    image = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    down, across = gaussian_kernel(1.0, CPU), derivative_kernel(0.85, CPU)
    expected = image.numpy()
    for axis, kernel in ((2, down), (3, across)):
        expected = ndimage.correlate1d(expected, kernel.numpy(), axis=axis, mode="nearest")
    np.testing.assert_allclose(filter_separable(image, down, across), expected, atol=1e-6)


def test_small_images_keep_full_precision_where_convolutions_have_half() -> None:
    image, kernel = torch.rand(1, 1, 32, 32), gaussian_kernel(1.0, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        halved = filter_separable(image, kernel, kernel)
    assert torch.equal(halved, filter_separable(image, kernel, kernel))


@pytest.mark.parametrize("size", SIZES)
def test_the_largest_within_a_square_is_scipys(size: tuple[int, int]) -> None:
    mask = (torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(2)) > 0.97).float()
    expected = ndimage.maximum_filter(mask.numpy(), (1, 1, 5, 5), mode="constant")
    np.testing.assert_array_equal(dilate(mask, 5), expected)


def test_the_mean_of_what_is_known_leaves_out_what_is_not() -> None:
    image, known = torch.full((1, 2, 24, 24), 3.0), torch.ones(1, 1, 24, 24)
    known[..., 12:] = 0
    mean = mean_of_known(image * known, known, 1.5)
    assert torch.allclose(mean[..., :14], torch.tensor(3.0))
    assert (mean[..., 20:] == 0).all()
