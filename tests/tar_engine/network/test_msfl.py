"""Low-level features follow structure and ignore radiometry."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tar_engine.config import ModelConfig
from tar_engine.network.msfl import (
    EMPTY_PX,
    MultiScaleFeatures,
    asinh,
    find_zero_areas,
    normalise,
    orientation,
)


def picture(seed: int = 0, side: int = 96) -> torch.Tensor:
    rough = torch.randn(1, 1, 12, 12, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, size=(side, side), mode="bicubic")


@pytest.mark.parametrize("bands", [1, 3, 13])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32, torch.float64])
def test_normalise_takes_any_bands_and_types(bands: int, dtype: torch.dtype) -> None:
    image = (picture().expand(2, bands, -1, -1) * 40 + 120).clamp(0, 255).to(dtype)
    scaled, valid = normalise(image)
    assert scaled.dtype == torch.float32
    assert scaled.isfinite().all()
    assert valid.all()
    assert scaled.abs().mean() == pytest.approx(0.8, abs=0.3)


def test_normalise_does_not_see_gain_and_offset() -> None:
    image = picture()
    scaled, _ = normalise(image)
    again, _ = normalise(image * 3000 - 7)
    assert torch.allclose(scaled, again, atol=1e-3)


def test_nodata_is_marked_and_carries_no_structure() -> None:
    image = picture()
    image[..., :40] = torch.nan
    scaled, valid = normalise(image)
    assert valid[..., :40].sum() == 0
    assert valid[..., 40:].all()
    features = orientation(scaled, valid)
    assert features[..., :43].abs().max() == 0
    assert features[..., 50:].abs().max() > 0.1


@settings(max_examples=15, deadline=None)
@given(width=st.integers(1, 20), left=st.integers(20, 60))
def test_exact_zeros_are_nodata_where_they_are_an_area(width: int, left: int) -> None:
    image = picture(side=96).repeat(1, 3, 1, 1) + 10
    image[..., left : left + width] = 0
    _, valid = normalise(image)
    expected = width if width >= EMPTY_PX else 0
    assert (valid == 0).sum() == 96 * expected
    image[:, 1] += 1  # a zero in one band alone is a colour
    assert not find_zero_areas(image).any()


def test_features_of_an_inverted_image_are_the_same() -> None:
    image, valid = picture(), torch.ones(1, 1, 96, 96)
    assert torch.allclose(orientation(image, valid), orientation(-image, valid), atol=1e-6)


def test_a_quarter_turn_reverses_the_doubled_angle() -> None:
    valid = torch.ones(1, 1, 96, 96)
    features = orientation(picture(), valid)
    for dims in ((2, 3), (3, 2)):
        turned = orientation(picture().rot90(1, dims=dims), valid)
        assert torch.allclose(turned, -features.rot90(1, dims=dims), atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(angle=st.floats(0, math.pi))
def test_an_edge_has_twice_the_angle_of_its_gradient(angle: float) -> None:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    across = (x - 31.5) * math.cos(angle) + (y - 31.5) * math.sin(angle)
    ridge = torch.sin(across / 3)[None, None]
    cosine, sine = orientation(ridge, torch.ones(1, 1, 64, 64))[0, :, 8:-8, 8:-8].flatten(1)
    length = torch.hypot(cosine, sine)
    along = cosine * math.cos(2 * angle) + sine * math.sin(2 * angle)
    assert along.sum() == pytest.approx(float(length.sum()), rel=1e-3)
    assert length.mean() == pytest.approx(0.6, abs=0.1)
    assert length.max() <= 1


def test_the_pyramid_has_the_promised_scales() -> None:
    config = ModelConfig()
    features = MultiScaleFeatures(config)
    entered = features.enter(torch.rand(2, 3, 128, 128), torch.ones(2, 1, 128, 128), "sar")
    pyramid = features(entered)
    assert pyramid.middle.shape == (2, config.middle_channels, 32, 32)
    assert pyramid.tokens.shape == (2, config.token_channels, 16, 16)


@given(st.lists(st.floats(-(2.0**59), 2.0**59, width=32), min_size=1, max_size=20))
def test_asinh_is_that_of_torch(values: list[float]) -> None:
    given_values = torch.tensor(values)
    assert torch.allclose(asinh(given_values), given_values.asinh(), rtol=1e-5, atol=1e-6)
