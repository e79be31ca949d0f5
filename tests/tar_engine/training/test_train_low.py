"""Low-level features and what they learn from: true shifts, and nothing where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tar_engine.coordinates import pixel_grid
from tar_engine.deformation import sample
from tar_engine.training import losses, train_low
from tar_engine.training.augment import apply_symmetry
from tar_engine.training.patches import PatchPairs
from tar_engine.training.train import move_to_device
from tar_engine.training.train_low import draw_low_batch, measure_own_shifts, turn_shifts
from tar_engine.training.training_set import synthetic_pairs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> PatchPairs:
    return move_to_device(synthetic_pairs(3, side_px=128), CPU)


def test_a_drawn_pair_is_found_aligned_and_a_moved_one_moved(data: PatchPairs) -> None:
    assert measure_own_shifts(data).norm(dim=1).max() < 0.4
    moved = replace(data, sar=data.sar.roll(2, dims=3))
    assert (measure_own_shifts(moved) - torch.tensor([2.0, 0.0])).norm(dim=1).max() < 0.4


def test_a_batch_follows_from_its_seed(data: PatchPairs) -> None:
    own = torch.zeros(len(data), 2)
    one, other = (draw_low_batch(data, own, 4, seed=3) for _ in range(2))
    assert torch.equal(one.optical.nan_to_num(-9), other.optical.nan_to_num(-9))
    assert torch.equal(one.sar.nan_to_num(-9), other.sar.nan_to_num(-9))
    assert torch.equal(one.shift, other.shift)
    assert not torch.equal(one.shift, draw_low_batch(data, own, 4, seed=4).shift)


def test_the_true_shift_brings_a_batch_together_even_if_pairs_are_not_aligned(
    data: PatchPairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one image in both places, moved by 2 px, what the truth warps is the image itself."""
    monkeypatch.setattr(train_low, "SPECKLED_SHARE", 0.0)
    alike = replace(data, optical=data.sar, sar=data.sar.roll(2, dims=3))
    batch = draw_low_batch(alike, torch.tensor([[2.0, 0.0]]).expand(len(data), 2), 6, seed=1)
    grid = pixel_grid(*batch.sar.shape[-2:])

    def apart(xy: torch.Tensor) -> float:
        seen = sample(batch.sar, xy.expand(6, -1, -1, -1))
        both = (seen.isfinite() & batch.optical.isfinite())[..., 16:-16, 16:-16]
        return float((seen - batch.optical)[..., 16:-16, 16:-16][both].abs().mean())

    # Speckle, which resampling blurs, is most of what remains.
    assert apart(grid + batch.shift[:, None, None]) < 0.6 * apart(grid)


def test_shifts_turn_with_their_images() -> None:
    image = torch.zeros(8, 1, 9, 9)
    image[..., 4, 4] = 1
    moved = image.roll((1, 3), dims=(2, 3))  # dy = 1, dx = 3
    turn = torch.arange(8).view(8, 1, 1, 1)
    shift = turn_shifts(torch.tensor([[3.0, 1.0]]).expand(8, 2), torch.arange(8))
    places = apply_symmetry(moved, turn).flatten(1).argmax(dim=1)
    found = torch.stack([places % 9, places // 9], dim=1) - 4
    assert torch.equal(found.float(), shift)


def test_the_likeliest_shift_is_the_cheapest() -> None:
    surfaces = torch.zeros(1, 1, 1, 7, 7)
    surfaces[0, 0, 0, 3 + 1, 3 - 2] = 1.0  # dy = 1, dx = -2
    known = torch.ones(1, 1, 1, dtype=torch.bool)

    def loss(dx: float, dy: float) -> float:
        shift = torch.tensor([[dx, dy]])
        return float(losses.shift_loss(surfaces, torch.tensor(20.0), shift, known))

    assert loss(-2, 1) < loss(-1.6, 1) < loss(-1, 1) < loss(2, 1)
    nothing = losses.shift_loss(surfaces, torch.tensor(1.0), torch.zeros(1, 2), ~known)
    assert nothing == 0
