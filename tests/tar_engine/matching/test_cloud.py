"""Cloud is named, however much of an image it covers, and left out of the search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tar_engine import Registrar
from tar_engine.matching.cloud import describe_images, look_again, mask_cloud
from tar_engine.network.msfl import normalise_with_nan
from tar_engine.training.protocols import cover_with_cloud


@torch.inference_mode()
def masked_as_cloud(
    registrar: Registrar, optical: torch.Tensor, *, closer: bool = False
) -> torch.Tensor:
    """(H, W) bool: what of (bands, H, W) is taken for cloud."""
    image = normalise_with_nan(optical[None].float())
    seen, _ = describe_images(registrar.network, image, image)
    probability = registrar.config.search.cloud_probability
    if closer:
        seen = look_again(registrar.network, image, seen, registrar.cloud, probability)
    return mask_cloud(image, seen, registrar.cloud, probability).isnan().any(dim=1)[0]


def test_cloud_is_named_and_left_out(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    clear = torch.from_numpy(pair[0])
    cloudy = cover_with_cloud(clear, 0.4, torch.Generator().manual_seed(1))
    covered = (cloudy != clear).any(dim=0)
    left_out, without = (masked_as_cloud(registrar, image) for image in (cloudy, clear))
    assert left_out[covered].float().mean() > 0.7
    assert left_out[~covered].float().mean() < 0.6
    assert without.float().mean() < 0.1
    found = registrar.register(cloudy.numpy(), pair[1])
    assert found.accepted, found.reason
    assert np.hypot(*found.displacement).max() < 2


@pytest.mark.parametrize("share", [0.6, 0.7])
def test_cloud_over_most_of_an_image_is_named_at_a_second_look(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray], share: float
) -> None:
    """An image is seen relative to its median, which then is the cloud's own."""
    clear = torch.from_numpy(pair[0])
    cloudy = cover_with_cloud(clear, share, torch.Generator().manual_seed(1))
    covered = (cloudy != clear).any(dim=0)
    left_out = masked_as_cloud(registrar, cloudy, closer=True)
    assert left_out[covered].float().mean() > 0.9
    assert left_out[~covered].float().mean() < 0.6
    first = masked_as_cloud(registrar, cloudy)
    assert first[covered].float().mean() < 0.5
    assert torch.equal(*(masked_as_cloud(registrar, clear, closer=look) for look in (False, True)))
