"""The front door keeps its contract: right answer, one clear error, or a refusal; never NaN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tar_engine import Registrar, Registration
from tar_engine.coordinates import apply_affine, pixel_grid
from tar_engine.deformation import AffineRange, invert_affine, random_affines
from tar_engine.errors import InputError
from tar_engine.training.protocols import PROTOCOLS, cover_with_cloud, make_case
from tar_engine.training.synthesis import (
    BUILDING,
    FIELD,
    PARK,
    STREET,
    draw_ground,
    optical_image,
    sar_image,
)
from tar_engine.training.training_set import synthetic_pairs
from tests.support.pairs import warp_affine

NOISE = np.random.default_rng(0)


def countryside(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A drawn pair without towns, whose street grids are alike in all places."""
    ground = draw_ground(256, seed)
    town = np.isin(ground.cover, (STREET, BUILDING, PARK))
    still = np.zeros_like(ground.displacement)
    ground = replace(ground, cover=np.where(town, FIELD, ground.cover), displacement=still)
    return optical_image(ground), sar_image(ground)


def warped(sar: np.ndarray, affine: torch.Tensor) -> np.ndarray:
    image = torch.from_numpy(sar)[None].float()
    out = warp_affine(image, invert_affine(affine[None]), 256, 256)[0]
    return out.nan_to_num(0.0).numpy().astype(np.uint8)


def worst_error(found: Registration, affine: torch.Tensor) -> float:
    xy = pixel_grid(256, 256)[32:-32:16, 32:-32:16].double()
    truth = apply_affine(affine, xy.reshape(-1, 2)).view(xy.shape)
    answer = xy + torch.from_numpy(found.displacement).permute(1, 2, 0)[32:-32:16, 32:-32:16]
    return float((answer - truth).norm(dim=-1).median())


def sound(found: Registration) -> bool:
    """A refusal without a displacement, or an answer without a NaN; matches are always finite."""
    matches = (found.matches.optical_xy, found.matches.sar_xy, found.matches.confidence)
    assert all(np.isfinite(part).all() for part in matches)
    assert found.reason
    if found.accepted:
        assert np.isfinite(found.expected_error_px)
        return bool(np.isfinite(found.displacement).all())
    assert found.kind == "none"
    assert found.expected_error_px == np.inf
    return bool(np.isnan(found.displacement).all())


def test_an_aligned_pair_stays_where_it_is(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    found = registrar.register(*pair, max_offset_px=16)
    assert found.accepted, found.reason
    assert found.displacement.shape == (2, 256, 256)
    assert found.displacement.dtype == np.float32
    assert np.median(np.hypot(*found.displacement)) < 1
    assert 0 < found.expected_error_px < 3
    assert len(found.matches.confidence) == len(found.matches.optical_xy) == 256


@pytest.mark.parametrize("seed", range(4))
def test_the_paper_s_deformation_is_removed(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    affine = random_affines(AffineRange((0.8, 1.2), 30.0, 20.0), 1, 256, generator)[0]
    found = registrar.register(pair[0], warped(pair[1], affine))
    assert found.accepted, found.reason
    assert worst_error(found, affine) < 1.5
    centre = torch.tensor([[127.5, 127.5]], dtype=torch.float64)
    at_centre = apply_affine(torch.from_numpy(found.affine), centre)
    assert torch.allclose(at_centre, apply_affine(affine, centre), atol=3)


def test_any_rotation_is_tried_when_the_usual_ones_fail(registrar: Registrar) -> None:
    optical, sar = countryside(7)
    upside_down = torch.tensor([[-1.0, 0.0, 255.0], [0.0, -1.0, 255.0]]).double()
    found = registrar.register(optical, sar[:, ::-1, ::-1])
    assert found.accepted, found.reason
    assert worst_error(found, upside_down) < 1.5
    with_prior = registrar.register(optical, sar[:, ::-1, ::-1], max_offset_px=16)
    assert not with_prior.accepted
    assert sound(with_prior)


def test_radiometry_bands_and_size_do_not_matter(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    optical, sar = pair
    decibels = sar.astype(np.float64) / 8 - 30
    linear = 10 ** (decibels / 10)
    thirteen = np.concatenate([optical] * 4 + [optical[:1]]).astype(np.uint16) * 30
    for one, other in ((optical[0], decibels), (thirteen, linear), (optical, sar[:, :230, :240])):
        found = registrar.register(one, other, max_offset_px=8)
        assert found.accepted, found.reason
        assert np.median(np.hypot(*found.displacement[:, 16:200, 16:200])) < 1


@pytest.fixture(scope="module")
def moved() -> torch.Tensor:
    """A hidden affine of the paper's kind."""
    generator = torch.Generator().manual_seed(1)
    return random_affines(AffineRange((0.8, 1.2), 30.0, 20.0), 1, 256, generator)[0]


@pytest.fixture(scope="module")
def plain(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray], moved: torch.Tensor
) -> Registration:
    """The answer for that pair as 8-bit images, which the variants must repeat."""
    found = registrar.register(pair[0], warped(pair[1], moved))
    assert found.accepted, found.reason
    assert worst_error(found, moved) < 1.5
    return found


def assert_same_answer(found: Registration, plain: Registration) -> None:
    assert found.accepted, found.reason
    assert sound(found)
    difference = np.hypot(*(found.displacement - plain.displacement))
    assert np.median(difference) < 0.2
    assert np.quantile(difference, 0.95) < 0.5


@pytest.mark.parametrize("dtype", ["int16", "uint64", "float16", "float64"])
def test_the_answer_does_not_depend_on_the_type(
    registrar: Registrar,
    pair: tuple[np.ndarray, np.ndarray],
    moved: torch.Tensor,
    plain: Registration,
    dtype: str,
) -> None:
    sar = warped(pair[1], moved).astype(dtype)
    assert_same_answer(registrar.register(pair[0].astype(dtype), sar), plain)


@pytest.mark.parametrize("radiometry", ["decibels", "amplitude", "power"])
def test_decibels_and_linear_sar_give_the_same_answer(
    registrar: Registrar,
    pair: tuple[np.ndarray, np.ndarray],
    moved: torch.Tensor,
    plain: Registration,
    radiometry: str,
) -> None:
    grey = warped(pair[1], moved).astype(float)
    decibels = np.where(grey > 0, (grey - 1) / 254 * 28 - 30, np.nan)
    per_bel = {"decibels": 0, "amplitude": 20, "power": 10}[radiometry]
    sar = 10 ** (decibels / per_bel) if per_bel else decibels
    assert_same_answer(registrar.register(pair[0], sar), plain)


@pytest.mark.parametrize("bands", [1, 2, 13])
def test_any_number_of_bands_gives_the_same_answer(
    registrar: Registrar,
    pair: tuple[np.ndarray, np.ndarray],
    moved: torch.Tensor,
    plain: Registration,
    bands: int,
) -> None:
    optical, sar = np.concatenate([pair[0]] * 5)[:bands], warped(pair[1], moved)
    assert_same_answer(registrar.register(optical, sar), plain)
    if bands <= 2:
        assert_same_answer(registrar.register(pair[0], np.concatenate([sar] * bands)), plain)


@pytest.mark.parametrize(("height", "width"), [(180, 256), (300, 260)])
def test_sizes_may_differ(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray], height: int, width: int
) -> None:
    optical = pair[0][:, 20:216, 30:226]
    sar = np.zeros((1, max(height, 256), max(width, 256)), np.uint8)
    sar[:, :256, :256] = pair[1]
    sar = sar[:, :height, :width]
    for prior in (None, 48):
        found = registrar.register(optical, sar, max_offset_px=prior)
        assert found.displacement.shape == (2, 196, 196)
        assert sound(found)
        assert found.accepted, found.reason
        inner = found.displacement[:, : height - 40, : width - 50]
        assert np.median(np.hypot(inner[0] - 30, inner[1] - 20)) < 1.5


def test_nodata_is_left_out(registrar: Registrar, pair: tuple[np.ndarray, np.ndarray]) -> None:
    optical, sar = pair[0].astype(np.float32), pair[1].astype(np.float32)
    optical[:, :100] = np.nan
    found = registrar.register(optical, sar, max_offset_px=8)
    assert found.accepted, found.reason
    assert np.isfinite(found.displacement).all()
    lost = found.matches.optical_xy[:, 1] < 80
    assert (found.matches.confidence[lost] == 0).all()


def test_what_is_named_cloud_can_be_kept(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    cloudy = cover_with_cloud(torch.from_numpy(pair[0]), 0.7, torch.Generator().manual_seed(1))
    sar = torch.from_numpy(pair[1])
    without, kept = (
        registrar.match_batch(cloudy[None], sar[None], keeps_cloud=keeps).of_pair(0)
        for keeps in (False, True)
    )
    assert np.isfinite(kept.error_px).all()
    assert 0.2 < np.isfinite(without.error_px).mean() < 0.95


@pytest.mark.parametrize("prior", [None, 16])
def test_another_place_is_refused(registrar: Registrar, prior: float | None) -> None:
    optical, sar = countryside(7)
    assert registrar.register(optical, sar, max_offset_px=prior).accepted
    for seed in (0, 1234):
        found = registrar.register(optical, countryside(seed)[1], max_offset_px=prior)
        assert not found.accepted, found.reason
        assert found.kind == "none"
        assert sound(found)


@pytest.mark.parametrize(
    ("nodata", "prior", "optical_first"),
    [(np.nan, 8, True), (0, 8, False), (np.nan, None, False), (0, None, True)],
)
def test_a_pair_without_common_ground_is_refused(
    registrar: Registrar, nodata: float, prior: float | None, optical_first: bool
) -> None:
    optical, sar = (image.astype(np.float32) for image in countryside(7))
    first, second = (optical, sar) if optical_first else (sar, optical)
    first[:, :, 120:], second[:, :, :140] = nodata, nodata
    found = registrar.register(optical, sar, max_offset_px=prior)
    assert not found.accepted, found.reason
    assert "matches" in found.reason
    assert sound(found)


RAMP = np.broadcast_to(np.arange(256.0), (256, 256))
SPOT = np.zeros((256, 256))
SPOT[100:104, 100:104] = 9


@pytest.mark.parametrize(
    ("optical", "sar", "prior"),
    [
        (NOISE.random((3, 256, 256)), NOISE.random((256, 256)), 8),
        (RAMP, RAMP.T, 8),
        (np.sin(RAMP / 3), np.sin(RAMP / 3), None),
        (RAMP // 16 % 2 + 1, NOISE.random((256, 256)), 8),
        (SPOT, NOISE.random((256, 256)), None),
        (NOISE.random((256, 256)), SPOT, 8),
        (np.where(RAMP < 128, np.nan, 5.0 + (RAMP == 200)), NOISE.random((256, 256)), 8),
    ],
    ids=["noise", "ramps", "waves", "stripes", "spot", "sar spot", "half empty"],
)
def test_images_with_nothing_to_match_are_refused(
    registrar: Registrar, optical: np.ndarray, sar: np.ndarray, prior: float | None
) -> None:
    found = registrar.register(optical, sar, max_offset_px=prior)
    assert not found.accepted, found.reason
    assert sound(found)


def test_single_pixels_and_bands_do_no_harm(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    optical, sar = pair[0].astype(np.float32), pair[1].astype(np.float32)
    optical[2] = 5
    optical[0, 40, 40], sar[0, 9, 9], sar[0, 99, 99] = np.nan, np.inf, -np.inf
    for gain in (1e-4, 1e30):
        found = registrar.register(optical, sar * np.float32(gain), max_offset_px=8)
        assert found.accepted, found.reason
        assert sound(found)
        assert np.median(np.hypot(*found.displacement)) < 1


@pytest.mark.parametrize(
    ("optical", "sar", "says"),
    [
        (np.zeros((3, 128, 128)), NOISE.random((1, 128, 128)), "optical: every pixel has the same"),
        (NOISE.random((128, 128)), np.full((128, 128), -20.0), "sar: every pixel has the same"),
        (np.full((128, 128), np.nan), NOISE.random((128, 128)), "optical: every pixel is nodata"),
        (NOISE.random((128, 128)), np.full((128, 128), np.inf), "sar: every pixel is nodata"),
        (NOISE.random((128, 128)), NOISE.random((128, 128)) * 1j, "sar: dtype complex128"),
        (NOISE.random((128, 128)), NOISE.random((1, 2, 128, 128)), "sar: shape"),
        (NOISE.random((128, 128)), np.array([["a", "b"]]), "sar: dtype"),
        (NOISE.random((30, 200)), NOISE.random((128, 128)), "optical: 200 x 30 px is too small"),
        (NOISE.random((0, 128, 128)), NOISE.random((128, 128)), "optical: shape"),
    ],
)
def test_bad_input_is_one_clear_error(
    registrar: Registrar, optical: np.ndarray, sar: np.ndarray, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        registrar.register(optical, sar)


@pytest.mark.parametrize("prior", [0, -5, float("nan"), 1e6])
def test_a_prior_that_is_no_distance_is_refused(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray], prior: float
) -> None:
    with pytest.raises(InputError, match="max_offset_px"):
        registrar.register(*pair, max_offset_px=prior)


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="device: 'banana'"):
        Registrar.load(device="banana")


@pytest.mark.parametrize(("prior", "any_rotation"), [(8.0, False), (None, False), (None, True)])
def test_a_batch_answers_as_its_pairs_do(
    registrar: Registrar,
    pair: tuple[np.ndarray, np.ndarray],
    prior: float | None,
    any_rotation: bool,
) -> None:
    optical, sar = (torch.from_numpy(part)[None].float() for part in pair)
    both = registrar.match_batch(
        torch.cat([optical, optical.flip(3)]),
        torch.cat([sar, sar.flip(3)]),
        max_offset_px=prior,
        any_rotation=any_rotation,
    )
    alone = registrar.match_batch(optical, sar, max_offset_px=prior, any_rotation=any_rotation)
    # Features in half precision turn the last digit of an image into a thousandth of theirs.
    assert torch.allclose(both.sar_xy[:1], alone.sar_xy, atol=2e-2)
    assert torch.allclose(both.confidence[:1], alone.confidence, atol=1e-3)


def test_known_heights_carry_relief_sharper_than_windows(registrar: Registrar) -> None:
    """A drawn pair, whose truth is exact, so that the answer can be held to half a pixel."""
    data = synthetic_pairs(1)
    case = make_case(data, 0, PROTOCOLS["relief"])
    errors = []
    for heights in (case.heights, None):
        found = registrar.register(case.optical, case.sar, heights=heights)
        assert found.accepted
        errors.append(np.nanmedian(np.hypot(*(found.displacement - case.displacement))))
    assert errors[0] < 0.4
    assert errors[0] < 0.7 * errors[1]


@pytest.mark.parametrize(
    ("heights", "said"),
    [
        (np.zeros((64, 255)), "heights: shape"),
        (np.full((256, 256), np.nan), "heights: every pixel is unknown"),
        (np.full((256, 256), "high"), "heights: dtype"),
    ],
)
def test_heights_that_cannot_be_used_are_named(
    registrar: Registrar, pair: tuple[np.ndarray, np.ndarray], heights: np.ndarray, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        registrar.register(*pair, heights=heights)
