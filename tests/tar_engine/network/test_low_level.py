"""Low-level features: their shape, what they are of nodata, and how far they look."""

from __future__ import annotations

import pytest
import torch

from tar_engine import Registrar
from tar_engine.config import ModelConfig
from tar_engine.network.low_level import LowLevelFeatures
from tar_engine.network.model import TarNetwork
from tar_engine.network.msfl import inner_mask


@pytest.fixture(scope="module")
def features() -> LowLevelFeatures:
    torch.manual_seed(0)
    return LowLevelFeatures(ModelConfig()).eval()


@pytest.fixture(scope="module")
def network() -> TarNetwork:
    return Registrar.load(device="cpu").network


@pytest.mark.parametrize("size", [(64, 64), (65, 47), (50, 62), (67, 66)])
def test_an_image_of_any_size_has_features_at_every_pixel(
    features: LowLevelFeatures, size: tuple[int, int]
) -> None:
    with torch.inference_mode():
        seen = features(torch.randn(2, 3, *size), torch.ones(2, 1, *size))
    assert seen.shape == (2, ModelConfig().low_features, *size)
    assert (seen.square().sum(dim=1) < 1).all()


def test_sar_has_no_features_near_nodata_and_optical_none_in_it(network: TarNetwork) -> None:
    image = torch.randn(1, 1, 64, 64)
    image[..., 32:] = torch.nan
    valid = image.isfinite().float()
    with torch.inference_mode():
        of_sar, of_optical = (network.low_level(image, sensor) for sensor in ("sar", "optical"))
    assert not (of_sar * (1 - inner_mask(valid))).any()
    assert of_sar[..., :24].any()
    assert not (of_optical * (1 - valid)).any()
    assert of_optical[..., :32].square().sum(dim=1).all()


def test_the_border_of_nodata_is_no_edge(network: TarNetwork) -> None:
    """Flat ground has no features, wherever a cloud was cut out of it."""
    flat = 2.0 + 1e-3 * torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    flat[..., :48] = torch.randn(1, 3, 96, 48, generator=torch.Generator().manual_seed(1))
    cut = flat.clone()
    cut[..., 40:60, 70:80] = torch.nan
    with torch.inference_mode():
        whole, holed = (network.low_level(some, "optical") for some in (flat, cut))
    around = (..., slice(36, 64), slice(80, 92))
    assert (holed - whole)[around].abs().max() < 0.1


def test_features_do_not_depend_on_the_rest_of_the_batch(network: TarNetwork) -> None:
    """To the bit, in whatever precision is computed here: tiles come in batches of any size."""
    images = torch.randn(3, 2, 160, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        together = network.low_level(images, "sar")
        alone = [network.low_level(image[None], "sar")[0] for image in images]
    assert torch.equal(together, torch.stack(alone))


def test_what_lies_far_away_does_not_change_them(network: TarNetwork) -> None:
    """Tiles overlap by less than an image, and a cut moves no feature 40 px away."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 1, 160, 160, generator=generator)
    with torch.inference_mode():
        whole, part = (network.low_level(some, "sar") for some in (image, image[..., :96]))
    # But for how strong edges are on the whole, to which they are brought.
    near, far = (
        (whole[..., :96] - part)[..., cut].abs().mean() for cut in (slice(-8, None), slice(56))
    )
    assert far < 0.02
    assert near > 5 * far


def test_features_move_with_their_image(network: TarNetwork) -> None:
    """By whole blocks; by a pixel alone, nearly: half the resolution has a phase."""
    image = torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.avg_pool2d(image, 5, stride=1)[..., :196, :196]
    with torch.inference_mode():
        here, by_block, by_pixel = (
            network.low_level(image[..., cut : 160 + cut], "sar")[..., 48:-48] for cut in (0, 4, 1)
        )
    kept = here.square().mean()
    assert (by_block[..., :-4] - here[..., 4:]).square().mean() < 0.01 * kept
    assert (by_pixel[..., :-1] - here[..., 1:]).square().mean() < 0.2 * kept
