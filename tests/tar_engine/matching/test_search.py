"""The global search finds any rotation, scale and shift, by content and not by frames."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tar_engine.config import SearchConfig
from tar_engine.coordinates import apply_affine, compose_affine, pixel_grid
from tar_engine.deformation import invert_affine
from tar_engine.matching.search import (
    Candidates,
    correlate_hypotheses,
    edge_field,
    refine_candidates,
    search_similarities,
    shrink_to_square,
    similarities_about_centre,
    warp_field,
)
from tar_engine.network.filters import filter_separable, gaussian_kernel
from tar_engine.network.msfl import normalise_with_nan
from tests.support.pairs import drawn_pairs, warp_affine

SIDE = 256
CONFIG = SearchConfig()


@pytest.fixture(scope="module")
def aligned() -> tuple[Tensor, Tensor]:
    """Two places: (2, 3, S, S) optical and (2, 1, S, S) SAR."""
    pairs = drawn_pairs({"one": 0, "other": 1}, SIDE)
    return pairs.optical.float(), pairs.sar.float()


def similarity(turn_deg: float, scale: float, shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """(2, 3) optical pixel -> SAR pixel, about the centre of a SIDE square."""
    centred = similarities_about_centre(
        torch.tensor([math.radians(turn_deg)]), torch.tensor([scale]), SIDE
    )[0, 0]
    return torch.cat([centred[:, :2], centred[:, 2:] + torch.tensor(shift)[:, None]], dim=1)


def moved(sar: Tensor, affine: Tensor, height: int = SIDE, width: int = SIDE) -> Tensor:
    """The SAR images as they look under (2, 3) `affine`, normalised, NaN where there is nothing."""
    inverse = invert_affine(affine).expand(len(sar), 2, 3)
    return normalise_with_nan(warp_affine(sar, inverse, height, width))


def worst_px(found: Tensor, truth: Tensor, height: int = SIDE, width: int = SIDE) -> float:
    """Largest distance of two affines over a grid of the optical image."""
    xy = pixel_grid(height, width)[16::32, 16::32].reshape(-1, 2)
    return float((apply_affine(found, xy) - apply_affine(truth, xy)).norm(dim=-1).max())


def test_the_field_turns_with_the_image_by_twice_the_angle(aligned: tuple[Tensor, Tensor]) -> None:
    """A quarter turn is exact: the doubled angle is half a turn."""
    image = normalise_with_nan(aligned[1][:1])
    field, factor = edge_field(image, "sar", 0.7, CONFIG)
    turned, _ = edge_field(image.rot90(1, dims=(2, 3)), "sar", 0.7, CONFIG)
    assert field.shape == (1, 3, CONFIG.field_px, CONFIG.field_px)
    assert factor == SIDE / CONFIG.field_px
    expected = field.rot90(1, dims=(2, 3)) * torch.tensor([-1.0, -1.0, 1.0])[:, None, None]
    assert torch.allclose(turned, expected, atol=1e-3)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_how_dense_edges_are_has_its_weight_and_is_relative_to_what_lies_around(
    aligned: tuple[Tensor, Tensor], weight: float
) -> None:
    image = normalise_with_nan(aligned[0])
    image[:, :, 40:90, 30:120] = torch.nan
    directions, density = edge_field(image, "sar", weight, CONFIG)[0].split([2, 1], dim=1)
    energies = [part.square().sum(dim=(1, 2, 3)) for part in (directions, density)]
    assert torch.allclose(energies[1], weight**2 * energies[0], rtol=1e-4)
    assert abs(density.mean()) <= 0.05 * density.abs().mean()
    assert (density[:, :, 11:21, 9:29] == 0).all()


def test_round_things_are_seen_where_the_directions_of_their_edges_cancel() -> None:
    """Dots on flat ground, bright to the one sensor and dark to the other."""
    generator = torch.Generator().manual_seed(0)
    dots = torch.zeros(1, 1, SIDE, SIDE)
    y, x = torch.randint(20, SIDE - 20, (2, 60), generator=generator)
    dots[0, 0, y, x] = 1
    blur = gaussian_kernel(1.0, dots.device)
    dots = filter_separable(dots, blur, blur) / blur.max() ** 2
    noise = 0.05 * torch.randn(2, 1, SIDE, SIDE, generator=generator)
    optical, sar = (
        edge_field(normalise_with_nan(image), "sar", 1.0, CONFIG)[0]
        for image in (-dots + noise[:1], dots + noise[1:])
    )
    both = [
        (here * there).sum() / here.norm() / there.norm()
        for here, there in ((optical[:, :2], sar[:, :2]), (optical[:, 2:], sar[:, 2:]))
    ]
    assert both[1] > 2 * both[0]


@settings(max_examples=12, deadline=None)
@given(turn_deg=st.floats(-180, 180))
def test_a_field_turned_is_the_field_of_the_turned_image(
    aligned: tuple[Tensor, Tensor], turn_deg: float
) -> None:
    """Turned forth and compared with an image that was turned before its edges were found."""
    truth = similarity(turn_deg, 1.0)
    field, _ = edge_field(normalise_with_nan(aligned[0][:1]), "sar", 0.7, CONFIG)
    of_turned, _ = edge_field(moved(aligned[0][:1], truth), "sar", 0.7, CONFIG)
    small = similarities_about_centre(
        torch.tensor([math.radians(turn_deg)]), torch.tensor([1.0]), CONFIG.field_px
    )[0]
    back = warp_field(of_turned, small)
    y, x = torch.meshgrid(*[torch.arange(CONFIG.field_px) - 31.5] * 2, indexing="ij")
    inner = torch.hypot(x, y) < 26
    directions, of_turned = (
        torch.complex(planes[0, 0], planes[0, 1])[inner] for planes in (field, back)
    )
    alike = (directions.conj() * of_turned).sum() / directions.norm() / of_turned.norm()
    assert alike.real > 0.8
    assert abs(alike.imag) < 0.05
    density, of_turned = field[0, 2][inner], back[0, 2][inner]
    assert (density * of_turned).sum() / density.norm() / of_turned.norm() > 0.8


@settings(max_examples=20, deadline=None)
@given(dx=st.integers(-12, 12), dy=st.integers(-12, 12), seed=st.integers(0, 100))
def test_a_shift_of_the_field_is_found_exactly(dx: int, dy: int, seed: int) -> None:
    field = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(seed))
    optical = field[..., 12:44, 12:44]
    sar = field[..., 12 - dy : 44 - dy, 12 - dx : 44 - dx]
    still = similarities_about_centre(torch.zeros(1), torch.ones(1), 32)
    found = correlate_hypotheses(optical, sar, still, CONFIG)
    assert found.affine[0, 0].flatten().tolist() == pytest.approx([1, 0, dx, 0, 1, dy], abs=1e-3)
    overlap = (32 - abs(dx)) * (32 - abs(dy)) / 32**2
    assert found.score[0, 0] == pytest.approx(overlap, abs=0.15)


@pytest.mark.parametrize(
    ("turn_deg", "scale", "any_rotation", "within_px"),
    [
        (25.0, 0.8, False, 6),
        (-40.0, 1.3, False, 8),
        (0.0, 1.0, False, 4),
        (150.0, 1.7, True, 6),
        (180.0, 0.5, True, 6),
    ],
)
def test_a_known_similarity_is_found_alone_as_in_a_batch(
    aligned: tuple[Tensor, Tensor],
    turn_deg: float,
    scale: float,
    any_rotation: bool,
    within_px: float,
) -> None:
    """To a pixel or two of the field, each of which is 4 px: the refinement reaches 8 px."""
    truth = similarity(turn_deg, scale, (10.0, -14.0))
    optical, sar = normalise_with_nan(aligned[0]), moved(aligned[1], truth)
    both = search_similarities(optical, sar, CONFIG, any_rotation=any_rotation)
    for index in range(2):
        alone = slice(index, index + 1)
        one = search_similarities(optical[alone], sar[alone], CONFIG, any_rotation=any_rotation)
        assert worst_px(one.affine[0, 0], truth) < within_px
        assert torch.allclose(one.affine[0, 0], both.affine[index, 0], atol=1e-3)
        assert torch.allclose(one.score[0], both.score[index], atol=1e-4)
    kept = CONFIG.kept_of_any if any_rotation else CONFIG.kept
    assert both.affine.shape == (2, kept, 2, 3)
    assert (both.score.diff(dim=1) <= 0).all()


@settings(max_examples=5, deadline=None)
@given(turn_deg=st.floats(-44, 44), scale=st.floats(0.7, 1.4))
def test_what_is_weak_at_half_the_resolution_is_not_missed(
    aligned: tuple[Tensor, Tensor], turn_deg: float, scale: float
) -> None:
    optical = normalise_with_nan(aligned[0])
    sar = moved(aligned[1], similarity(turn_deg, scale, (12.0, 7.0)))
    some = search_similarities(optical, sar, CONFIG)
    every = search_similarities(optical, sar, replace(CONFIG, tried_whole=1.0))
    assert torch.allclose(some.affine[:, 0], every.affine[:, 0], atol=1e-3)
    assert torch.allclose(some.score[:, 0], every.score[:, 0], atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(256, 340), (300, 200)])
def test_the_images_may_differ_in_size(
    aligned: tuple[Tensor, Tensor], height: int, width: int
) -> None:
    truth = similarity(15.0, 0.9, (5.0, -6.0))
    optical, sar = normalise_with_nan(aligned[0]), moved(aligned[1], truth, height, width)
    found = search_similarities(optical, sar, CONFIG, any_rotation=False).affine[:, 0]
    for affine in found:
        assert worst_px(affine, truth) < 8


@settings(max_examples=10, deadline=None)
@given(left=st.integers(0, 80), top=st.integers(0, 80), turn_deg=st.floats(-30, 30))
def test_a_part_of_the_optical_image_is_found_at_its_place(
    aligned: tuple[Tensor, Tensor], left: int, top: int, turn_deg: float
) -> None:
    """Nothing but content says where it is: matched frames would put it in the middle."""
    whole = similarity(turn_deg, 1.0)
    truth = compose_affine(whole, torch.tensor([[1.0, 0.0, left], [0.0, 1.0, top]]))
    part = aligned[0][:1, :, top : top + 176, left : left + 176]
    sar = moved(aligned[1][:1], whole)
    found = search_similarities(normalise_with_nan(part), sar, CONFIG, any_rotation=False)
    assert worst_px(found.affine[0, 0], truth, 176, 176) < 8


@pytest.mark.parametrize("seed", range(3))
def test_a_candidate_that_leaves_little_in_sight_does_not_come_first_for_that(seed: int) -> None:
    """What is seen of the optical field is a corner, where noise has few places to agree."""
    generator = torch.Generator().manual_seed(seed)
    side = CONFIG.field_px
    sar, noise = torch.randn(2, 1, 3, side, side, generator=generator)
    optical = 0.15 * sar + noise
    optical[:, :, : side // 2], optical[..., : side // 2] = 0, 0
    here = torch.eye(2, 3)
    away = torch.tensor([[1.0, 0.0, 0.6 * side], [0.0, 1.0, 0.6 * side]])
    both = Candidates(torch.stack([away, here])[None], torch.ones(1, 2))
    refined = refine_candidates(optical, sar, both, CONFIG)
    assert torch.allclose(refined.affine[0, 0], here, atol=1e-4)


def test_an_image_is_padded_with_nodata_to_a_square() -> None:
    square, factor = shrink_to_square(torch.ones(1, 2, 128, 64), 32)
    assert square.shape == (1, 2, 32, 32)
    assert factor == 4
    assert (square[..., :16] == 1).all()
    assert square[..., 16:].isnan().all()


@pytest.mark.parametrize(("any_rotation", "turns", "largest"), [(False, 19, 1.5), (True, 72, 2.0)])
def test_the_hypotheses_are_even_and_none_comes_twice(
    any_rotation: bool, turns: int, largest: float
) -> None:
    angle, scale = CONFIG.grid(any_rotation=any_rotation)
    assert len(angle) == turns
    assert torch.allclose(angle.diff(), torch.full((turns - 1,), math.radians(5.0)), atol=1e-5)
    assert torch.allclose(scale * scale.flip(0), torch.ones(len(scale)), atol=1e-5)
    assert scale[-1] >= largest - 1e-5


@given(turn_deg=st.floats(-180, 180), scale=st.floats(0.4, 2.5))
def test_what_the_usual_search_could_not_have_found_is_told(turn_deg: float, scale: float) -> None:
    steps = CONFIG.turn_step_deg, 2 ** (1 / CONFIG.scales_per_octave)
    turn_limit, scale_limit = CONFIG.usual_turn_deg + steps[0], CONFIG.usual_scale * steps[1]
    assume(min(abs(abs(turn_deg) - turn_limit), abs(scale - scale_limit)) > 1e-3)
    assume(abs(scale - 1 / scale_limit) > 1e-3)
    within = abs(turn_deg) < turn_limit and 1 / scale_limit < scale < scale_limit
    assert CONFIG.is_usual(similarity(turn_deg, scale).double().numpy()) == within
