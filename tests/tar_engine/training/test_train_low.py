"""Low-level features and what they learn from: true shifts, and nothing where there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tar_engine import Registrar
from tar_engine.coordinates import apply_affine, pixel_grid
from tar_engine.deformation import sample
from tar_engine.errors import InputError
from tar_engine.network.low_level import LowLevelFeatures
from tar_engine.training import losses, train_low
from tar_engine.training.augment import apply_symmetry
from tar_engine.training.patches import PatchPairs
from tar_engine.training.train import move_to_device
from tar_engine.training.train_low import (
    Misalignment,
    draw_ground,
    draw_low_batch,
    low_loss,
    measure_misalignment,
    turn_affines,
)
from tar_engine.training.training_set import synthetic_pairs

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> PatchPairs:
    return move_to_device(synthetic_pairs(3, side_px=128), CPU)


@pytest.fixture(scope="module")
def aligned(data: PatchPairs) -> Misalignment:
    return Misalignment(torch.arange(len(data)), torch.eye(2, 3).repeat(len(data), 1, 1))


def test_an_aligned_pair_is_told_aligned_and_a_moved_one_moved(data: PatchPairs) -> None:
    registrar = Registrar.load(device="cpu")
    middle = torch.tensor([[63.5, 63.5]])
    for moved_px in (0, 2):
        known = measure_misalignment(replace(data, sar=data.sar.roll(moved_px, dims=3)), registrar)
        assert len(known.pair) == len(data)
        off = apply_affine(known.affine, middle)[:, 0] - middle - torch.tensor([moved_px, 0])
        assert off.norm(dim=1).max() < 0.4


def test_pairs_of_which_none_is_aligned_teach_nothing(data: PatchPairs) -> None:
    noise = torch.randint(256, data.sar.shape, generator=torch.Generator().manual_seed(0))
    unrelated = replace(data, sar=noise.to(torch.uint8))
    with pytest.raises(InputError, match="pairs: the engine finds none of them aligned"):
        measure_misalignment(unrelated, Registrar.load(device="cpu"))


def test_a_batch_follows_from_its_seed(data: PatchPairs, aligned: Misalignment) -> None:
    one, other = (draw_low_batch(data, aligned, 4, seed=3) for _ in range(2))
    assert torch.equal(one.optical.nan_to_num(-9), other.optical.nan_to_num(-9))
    assert torch.equal(one.sar.nan_to_num(-9), other.sar.nan_to_num(-9))
    assert torch.equal(one.shift, other.shift)
    assert not torch.equal(one.shift, draw_low_batch(data, aligned, 4, seed=4).shift)


@pytest.mark.parametrize("seed", [6, 0], ids=["as it is", "at half the resolution"])
def test_the_true_shift_brings_a_batch_together_even_if_pairs_are_not_aligned(
    data: PatchPairs, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """With one image in both places, moved by 4 px, what the truth warps is the image itself; and
    where SAR shows other ground, nothing is."""
    monkeypatch.setattr(train_low, "SPECKLED_SHARE", 0.0)
    monkeypatch.setattr(train_low, "CLOUDY_SHARE", 0.0)
    monkeypatch.setattr(train_low, "PLAIN_SHARE", 0.0)
    monkeypatch.setattr(train_low, "LINED_SHARE", 0.0)
    smooth = torch.nn.functional.avg_pool2d(data.sar.float(), 9, stride=1, padding=4).byte()
    alike = replace(data, optical=smooth, sar=smooth.roll(4, dims=3))
    moved = torch.tensor([[1.0, 0.0, 4.0], [0.0, 1.0, 0.0]]).repeat(len(data), 1, 1)
    batch = draw_low_batch(alike, Misalignment(torch.arange(len(data)), moved), 6, seed=seed)
    grid = pixel_grid(*batch.sar.shape[-2:])
    assert grid.shape[0] == (64 if seed == 0 else 128)

    def apart(xy: torch.Tensor) -> torch.Tensor:
        seen = sample(batch.sar, xy.expand(6, -1, -1, -1)) - batch.optical
        return seen[..., 16:-16, 16:-16].abs().nanmean(dim=(1, 2, 3))

    there, here = apart(grid + batch.shift[:, None, None]), apart(grid)
    assert batch.is_elsewhere.tolist() == [True] * 2 + [False] * 4
    assert (there < 0.5 * here)[2:].all()
    assert there[:2].min() > 1.5 * there[2:].max()


def test_what_is_laid_over_the_ground_is_told(
    data: PatchPairs, aligned: Misalignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for share in ("CLOUDY_SHARE", "PLAIN_SHARE"):
        with monkeypatch.context() as alone:
            for name in ("SPECKLED_SHARE", "CLOUDY_SHARE", "PLAIN_SHARE"):
                alone.setattr(train_low, name, 1.0 if name == share else 0.0)
            drawn = draw_ground(data, aligned, 4, torch.Generator().manual_seed(1))
            alone.setattr(train_low, share, 0.0)
            bare = draw_ground(data, aligned, 4, torch.Generator().manual_seed(1))
        cover = drawn.cloud if share == "CLOUDY_SHARE" else drawn.plain
        assert 0.1 < cover.mean() < 0.95
        for image, ground in ((drawn.optical, bare.optical), (drawn.sar, bare.sar)):
            assert torch.allclose(image * (cover == 0), ground * (cover == 0))
        assert torch.equal(drawn.sar, bare.sar) == (share == "CLOUDY_SHARE")


def test_affines_turn_with_their_images() -> None:
    """What a turned affine says of a turned place is what the affine says of it, turned."""
    image = torch.zeros(8, 1, 9, 9)
    image[..., 4, 2] = 1
    moved = torch.zeros(8, 1, 9, 9)
    moved[..., 6, 3] = 1
    turn = torch.arange(8).view(8, 1, 1, 1)
    own = torch.tensor([[1.0, 0.5, -1.0], [0.0, 1.0, 2.0]]).repeat(8, 1, 1)

    def places(images: torch.Tensor) -> torch.Tensor:
        flat = apply_symmetry(images, turn).flatten(1).argmax(dim=1)
        return torch.stack([flat % 9, flat // 9], dim=1).float()[:, None]

    found = apply_affine(turn_affines(own, turn.flatten(), 9), places(image))
    assert torch.allclose(found, places(moved), atol=1e-5)


def test_the_likeliest_shift_is_the_cheapest_and_nothing_where_there_is_none() -> None:
    logits = torch.zeros(1, 1, 1, 7, 7)
    logits[0, 0, 0, 3 + 1, 3 - 2] = 20.0  # dy = 1, dx = -2
    yes, no = torch.ones(1, 1, 1, dtype=torch.bool), torch.zeros(1, 1, 1, dtype=torch.bool)

    def loss(dx: float, dy: float, found: torch.Tensor = yes) -> float:
        shift = torch.tensor([[dx, dy]])
        return float(losses.window_loss(logits, torch.tensor(5.0), shift, found, ~found))

    assert loss(-2, 1) < loss(-1.6, 1) < loss(-1, 1) < loss(2, 1)
    assert loss(0, 0, no) > loss(-2, 1)
    nothing = losses.window_loss(logits, torch.tensor(25.0), torch.zeros(1, 2), no, yes)
    assert nothing < 0.1
    assert losses.window_loss(logits, torch.tensor(5.0), torch.zeros(1, 2), no, no) == 0


def test_training_tells_the_true_shift_and_other_ground_better_than_before(
    data: PatchPairs, aligned: Misalignment
) -> None:
    torch.manual_seed(0)
    network = Registrar.load(device="cpu").network
    network.low = torch.nn.ModuleDict(
        {sensor: LowLevelFeatures(network.config) for sensor in ("optical", "sar")}
    )
    optimiser = torch.optim.AdamW(network.low.parameters(), lr=3e-3)
    said = []
    for _ in range(12):
        loss = low_loss(network, draw_low_batch(data, aligned, 4, seed=9))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        said.append(float(loss.detach()))
    assert said[-1] < 0.97 * said[0]
