"""Cloud is named, however much of an image it covers, and left out of the search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tar_engine import Registrar
from tar_engine.matching.cloud import describe_images, look_closer, mask_cloud
from tar_engine.network.msfl import normalise_with_nan
from tar_engine.training.protocols import cover_with_cloud


@torch.inference_mode()
def masked_as_cloud(registrar: Registrar, optical: torch.Tensor) -> torch.Tensor:
    """(H, W) bool: what of (bands, H, W) is taken for cloud."""
    image, config = normalise_with_nan(optical[None].float()), registrar.config.search
    among = registrar.network, image, image, registrar.cloud, config.cloud_probability
    seen, _ = describe_images(*among)
    return mask_cloud(image, seen, registrar.cloud, config).isnan().any(dim=1)[0]


def test_cloud_is_named_and_left_out(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    clear = torch.from_numpy(pair[0])
    cloudy = cover_with_cloud(clear, 0.4, torch.Generator().manual_seed(1))
    covered = (cloudy != clear).any(dim=0)
    left_out, without = (masked_as_cloud(registrar, image) for image in (cloudy, clear))
    assert left_out[covered].float().mean() > 0.95
    assert left_out[~covered].float().mean() < 0.05
    assert not without.any()
    found = registrar.register(cloudy.numpy(), pair[1])
    assert found.accepted, found.reason
    assert np.hypot(*found.displacement).max() < 2


@pytest.mark.parametrize("share", [0.6, 0.7])
def test_cloud_over_most_of_an_image_is_named_too(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray], share: float
) -> None:
    """An image is seen relative to its median, which then is the cloud's own."""
    clear = torch.from_numpy(pair[0])
    cloudy = cover_with_cloud(clear, share, torch.Generator().manual_seed(1))
    covered = (cloudy != clear).any(dim=0)
    left_out = masked_as_cloud(registrar, cloudy)
    assert left_out[covered].float().mean() > 0.95
    assert left_out[~covered].float().mean() < 0.05


def test_little_cloud_stays(registrar: Registrar, pair: tuple[np.ndarray, np.ndarray]) -> None:
    """It does no harm, and may be an island in a dark sea."""
    cloudy = cover_with_cloud(torch.from_numpy(pair[0]), 0.1, torch.Generator().manual_seed(1))
    assert not masked_as_cloud(registrar, cloudy).any()


@given(share=st.floats(0.05, 0.95), seed=st.integers(0, 5))
def test_a_pixel_is_what_it_looks_like_among_what_is_likely(share: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    is_bright = torch.rand(1, 1, 32, 32, generator=generator) < share
    image = 0.3 * torch.randn(1, 3, 32, 32, generator=generator) + 4.0 * is_bright
    likely = torch.where(is_bright, 0.6, 0.4)  # a coarse name is right more often than not
    assert torch.equal(look_closer(image, likely) > 0.5, is_bright)
    same = look_closer(image, torch.full_like(likely, 0.3))  # which says of no pixel more
    assert torch.allclose(same, torch.tensor(0.3), atol=1e-4)
