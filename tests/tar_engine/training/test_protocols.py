"""The protocols are frozen: what each does to a pair, to the pixel."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view

from tar_engine.deformation import sample
from tar_engine.training.patches import PatchPairs
from tar_engine.training.protocols import PROTOCOLS, Protocol, make_case
from tar_engine.training.training_set import synthetic_pairs

CENTRE_PX = {  # displacement of the first pair's pixel (128, 128): dx, dy
    "small": (-2.7493, -3.0604),
    "large": (-13.0433, 20.4061),
    "extreme": (-2.9923, -19.9577),
    "elastic": (2.4819, -2.3764),
    "relief": (5.4790, -1.2432),
    "relief-blind": (5.4790, -1.2432),
    "cloudy": (-5.4895, -4.3823),
    "part": (47.8667, 48.5936),
    "foreign": (-20.0043, 9.4974),
    "repeated": (1.2198, 5.5255),
    "burnt": (12.2186, 12.1912),
    "thick": (-1.3238, -7.6180),
    "sparse": (10.6609, 12.7408),
    "season": (8.8382, 10.1827),
}


@pytest.fixture(scope="module")
def data() -> PatchPairs:
    drawn = synthetic_pairs(2)
    return PatchPairs(("three", "four"), drawn.optical, drawn.sar)


def test_warps_are_frozen(data: PatchPairs) -> None:
    """Changing a protocol's numbers makes all published figures incomparable."""
    assert list(PROTOCOLS) == list(CENTRE_PX)
    for name, expected in CENTRE_PX.items():
        displacement = make_case(data, 0, PROTOCOLS[name]).displacement
        assert displacement[:, 128, 128] == pytest.approx(expected, abs=1e-3), name


@pytest.mark.parametrize("name", ["large", "elastic", "cloudy", "part"])
def test_a_warp_follows_from_the_name_alone(data: PatchPairs, name: str) -> None:
    alone = PatchPairs(data.names[1:], data.optical[1:], data.sar[1:])
    one, other = make_case(data, 1, PROTOCOLS[name]), make_case(alone, 0, PROTOCOLS[name])
    assert np.array_equal(one.displacement, other.displacement, equal_nan=True)
    assert np.array_equal(one.sar, other.sar)
    assert np.array_equal(one.optical, other.optical)


def test_the_truth_is_nan_where_it_leaves_the_sar_image(data: PatchPairs) -> None:
    for protocol in PROTOCOLS.values():
        dx, dy = make_case(data, 0, protocol).displacement
        y, x = np.indices(dx.shape)
        known = np.isfinite(dx)
        assert np.array_equal(known, np.isfinite(dy))
        assert 0.5 < known.mean() <= 1
        assert min((x + dx)[known].min(), (y + dy)[known].min()) > -0.5
        assert max((x + dx)[known].max(), (y + dy)[known].max()) < 255.5


@pytest.mark.parametrize("index", [0, 1])
def test_the_elastic_field_is_2_to_6_px_beyond_the_affine_mostly_along_x(
    data: PatchPairs, index: int
) -> None:
    elastic = PROTOCOLS["elastic"]
    affine_alone = make_case(data, index, replace(elastic, field_waves=0)).displacement
    beyond = make_case(data, index, elastic).displacement - affine_alone
    largest_dx, largest_dy = np.nanmax(np.abs(beyond), axis=(1, 2))
    assert 2 <= largest_dx <= 6
    assert largest_dy == pytest.approx(elastic.field_y_share * largest_dx, rel=0.1)
    assert max(np.nanmax(np.abs(np.gradient(part))) for part in beyond) < 1  # can be inverted


def test_relief_displaces_along_one_direction_near_x_by_the_heights_given(
    data: PatchPairs,
) -> None:
    relief, blind = PROTOCOLS["relief"], PROTOCOLS["relief-blind"]
    case, hidden = make_case(data, 0, relief), make_case(data, 0, blind)
    assert np.array_equal(case.displacement, hidden.displacement, equal_nan=True)
    assert np.array_equal(case.sar, hidden.sar)
    assert hidden.heights is None
    assert case.heights is not None
    flat = make_case(data, 0, replace(relief, relief_peak_px=(0.0, 0.0))).displacement
    beyond = case.displacement - flat
    inside = np.isfinite(beyond[0])
    assert 2 <= np.hypot(*beyond)[inside].max() <= 6
    dx, dy = (part[inside] - part[inside].mean() for part in beyond)
    assert np.corrcoef(dx, dy)[0, 1] ** 2 == pytest.approx(1, abs=1e-6)
    assert dy.std() < np.tan(np.radians(relief.range_deg)) * dx.std()
    heights = case.heights[inside]
    per_m = np.polyfit(heights, dx, 1)[0]
    left_m = dx / per_m - (heights - heights.mean())
    assert left_m.std() == pytest.approx(relief.height_noise_m, rel=0.3)
    assert 1 / 12 < np.hypot(1, dy.std() / dx.std()) * abs(per_m) * 1 < 1 / 5  # cotangent / 10 m
    assert max(np.nanmax(np.abs(np.gradient(part))) for part in beyond) < 1  # can be inverted


@pytest.mark.parametrize("name", ["small", "large", "extreme", "elastic", "relief"])
def test_sar_sampled_at_the_true_displacement_is_the_source(data: PatchPairs, name: str) -> None:
    """A smooth picture comes back within the rounding and the two interpolations."""
    y, x = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    picture = 127 + 60 * torch.sin(x / 12) + 60 * torch.cos(y / 15)
    smooth = PatchPairs(data.names, data.optical, picture.to(torch.uint8).expand(2, 1, -1, -1))
    case = make_case(smooth, 0, PROTOCOLS[name])
    truth = torch.from_numpy(case.displacement).permute(1, 2, 0) + torch.stack([x, y], dim=-1)
    back = sample(torch.from_numpy(case.sar)[None].float(), truth.nan_to_num(-9.0)[None])[0, 0]
    edge = (truth < 2) | (truth > 253) | truth.isnan()
    inside = ~edge.any(dim=-1)
    inside[[0, 1, -2, -1]] = inside[:, [0, 1, -2, -1]] = False
    error = (back - smooth.sar[0, 0].float()).abs()[inside]
    assert inside.float().mean() > 0.4
    assert error.median() < 1
    assert error.max() < 4


@pytest.mark.parametrize(("name", "share"), [("cloudy", 0.4), ("thick", 0.7)])
def test_cloud_covers_its_share_of_the_optical_image(
    data: PatchPairs, name: str, share: float
) -> None:
    for index in range(2):
        case = make_case(data, index, PROTOCOLS[name])
        clouded = (case.optical != data.optical[index].numpy()).any(axis=0)
        assert clouded.mean() == pytest.approx(share, abs=0.01)
        assert case.optical[:, clouded].min() >= 200
    clear = make_case(data, 0, PROTOCOLS["large"])
    assert np.array_equal(clear.optical, data.optical[0].numpy())


def test_a_part_is_given_with_the_truth_of_its_place(data: PatchPairs) -> None:
    protocol = PROTOCOLS["part"]
    case = make_case(data, 0, protocol)
    whole = make_case(data, 0, replace(protocol, part_px=0))
    assert case.optical.shape == (3, protocol.part_px, protocol.part_px)
    assert np.array_equal(case.sar, whole.sar)
    windows = sliding_window_view(whole.optical, case.optical.shape)[0]
    top, left = np.argwhere((windows == case.optical).all(axis=(2, 3, 4)))[0]
    there = whole.displacement[:, top : top + protocol.part_px, left : left + protocol.part_px]
    moved = case.displacement - np.array([left, top], np.float32)[:, None, None]
    assert np.allclose(moved, there, atol=1e-4, equal_nan=True)


def test_foreign_shows_another_place(data: PatchPairs) -> None:
    swapped = PatchPairs(data.names, data.optical, data.sar.flip(0))
    seen, other = (make_case(pairs, 0, PROTOCOLS["foreign"]).sar for pairs in (data, swapped))
    assert not np.array_equal(seen, other)
    blank = torch.cat([data.sar[:1] * 0, data.sar[1:]])
    still = make_case(PatchPairs(data.names, data.optical, blank), 0, PROTOCOLS["foreign"]).sar
    assert np.array_equal(seen, still)


@pytest.mark.parametrize("deceit", PROTOCOLS["repeated"].deceits)
def test_two_places_share_a_lattice_and_one_place_its_crops_too(
    data: PatchPairs, deceit: str
) -> None:
    """Laid over blank images, a lattice is all that is seen."""
    blank = PatchPairs(data.names, data.optical * 0 + 90, data.sar * 0 + 90)
    still = Protocol(deceit, "", 1, scale=(1.0, 1.0), rotation_deg=0.0, deceits=(deceit,))
    cases = [make_case(blank, 0, variant) for variant in still.variants()]
    optical, foreign_optical = (case.optical for case in cases)
    assert np.array_equal(optical, foreign_optical)
    assert np.array_equal(cases[0].sar, cases[1].sar) == (deceit == "roads")


@pytest.mark.parametrize("deceit", PROTOCOLS["burnt"].deceits)
def test_marks_are_burnt_into_the_same_pixels_wherever_the_ground_lies(
    data: PatchPairs, deceit: str
) -> None:
    blank = PatchPairs(data.names, data.optical * 0 + 90, data.sar * 0 + 90)
    shifted = Protocol(deceit, "", 1, (1.0, 1.0), 0.0, translation_px=30.0, deceits=(deceit,))
    case = make_case(blank, 0, shifted)
    marked, seen = case.optical[0] != 90, case.sar[0] != 0
    assert 0.01 < marked[seen].mean() < 1
    assert np.array_equal((case.sar[0] != 90)[seen], marked[seen])
    assert np.array_equal(case.sar[0][seen & marked], case.optical[0][seen & marked])
