"""Images are resampled from what is valid alone."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tar_engine.deformation import shrink


@settings(max_examples=20, deadline=None)
@given(
    factor=st.sampled_from([2, 4, 8]),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_a_shrunk_pixel_is_the_mean_of_its_valid_pixels(
    factor: int, rows: int, columns: int, seed: int
) -> None:
    """Parity with NumPy's nanmean over whole squares; nodata where less than half is valid."""
    random = np.random.default_rng(seed)
    image = random.normal(size=(1, 2, rows * factor, columns * factor)).astype(np.float32)
    image[random.random(image.shape) < 0.4] = np.nan
    found = shrink(torch.from_numpy(image), rows, columns).numpy()
    squares = image.reshape(1, 2, rows, factor, columns, factor)
    share = np.isfinite(squares).mean(axis=(3, 5))
    known = share >= 0.5
    assert np.array_equal(np.isfinite(found), known)
    mean = np.nansum(squares, axis=(3, 5)) / (np.maximum(share, 1e-6) * factor**2)
    assert np.allclose(found[known], mean[known], atol=1e-5)


def test_an_image_of_that_size_is_not_touched() -> None:
    image = torch.rand(1, 1, 8, 6)
    assert shrink(image, 8, 6) is image
