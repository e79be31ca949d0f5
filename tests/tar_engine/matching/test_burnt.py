"""What is burnt into both images is found at the same pixels of both, and ground is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tar_engine import Registrar
from tar_engine.config import BurntConfig
from tar_engine.matching.burnt import find_lines, share_pattern, without_burnt
from tar_engine.training.deceit import burn_in
from tests.support.pairs import drawn_pairs

CONFIG = BurntConfig()


@pytest.fixture(scope="module")
def places() -> tuple[Tensor, Tensor]:
    """Two places, uint8 (2, 3, S, S) optical and (2, 1, S, S) SAR."""
    pairs = drawn_pairs({"one": 0, "other": 1})
    return pairs.optical, pairs.sar


def burnt(places: tuple[Tensor, Tensor], kind: str, sar_of: int = 0) -> tuple[Tensor, Tensor]:
    """A pair of the first place's optical image with marks of that kind; (1, bands, S, S) float."""
    generator = torch.Generator().manual_seed(5)
    optical, sar = burn_in(places[0][0], places[1][sar_of], kind, generator)
    return optical[None].float(), sar[None].float()


@pytest.mark.parametrize("kind", ["graticule", "crosses"])
def test_drawn_lines_are_nodata_and_the_ground_beside_them_stays(
    places: tuple[Tensor, Tensor], kind: str
) -> None:
    optical, sar = burnt(places, kind)
    changed = (optical[0] != places[0][0]).all(dim=0) & (sar[0] != places[1][0]).all(dim=0)
    seen, seen_sar, shared = without_burnt(optical, sar, CONFIG)
    assert seen[0][:, changed].isnan().all()
    assert seen_sar[0][:, changed].isnan().all()
    assert not shared.any()
    kept = ~seen.isnan()
    assert kept.float().mean() > 0.8
    assert torch.equal(seen[kept], optical[kept])


def test_saturated_ground_of_one_sensor_is_no_line(places: tuple[Tensor, Tensor]) -> None:
    optical, sar = places[0][:1].float(), places[1][:1].float()
    optical[..., 100, 20:90] = 255
    sar[..., 30:90, 200] = 255
    assert not find_lines(optical, sar, CONFIG).any()
    sar[..., 100, 20:90] = 255
    assert find_lines(optical, sar, CONFIG)[..., 100, 20:90].all()


def test_shared_noise_is_told_from_what_sensors_share_of_the_ground(
    places: tuple[Tensor, Tensor],
) -> None:
    optical, sar = (image.float() for image in places)
    assert not share_pattern(optical, sar, CONFIG).any()
    noisy_optical, noisy_sar = burnt(places, "noise", sar_of=1)
    both = share_pattern(
        torch.cat([optical[:1], noisy_optical]), torch.cat([sar[:1], noisy_sar]), CONFIG
    )
    assert both.tolist() == [False, True]
    smoothed, _, shared = without_burnt(noisy_optical, noisy_sar, CONFIG)
    assert shared.all()
    detail, noisy = (image.diff(dim=2).std() for image in (smoothed, noisy_optical))
    assert detail < noisy / 3


def test_images_of_two_sizes_have_no_pixels_in_common(places: tuple[Tensor, Tensor]) -> None:
    optical, sar = burnt(places, "noise")
    seen, seen_sar, shared = without_burnt(optical, sar[..., :200], CONFIG)
    assert torch.equal(seen, optical)
    assert torch.equal(seen_sar, sar[..., :200])
    assert not shared.any()


def test_a_pattern_that_outlasts_smoothing_is_no_answer(places: tuple[Tensor, Tensor]) -> None:
    """Streaks that two places share: found at the same pixels, and refused by name."""
    generator = torch.Generator().manual_seed(3)
    streaks = 60 * torch.randn(1, 1, 64, 256, generator=generator).repeat_interleave(4, dim=2)
    optical, sar = (
        (image + streaks).clamp(1, 255)[0].numpy()
        for image in (places[0][:1].float(), places[1][1:].float())
    )
    found = Registrar.load(device="cpu").register(optical, sar, max_offset_px=16.0)
    assert not found.accepted
    assert "one pattern at the same pixels" in found.reason
