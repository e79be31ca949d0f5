"""Training learns, repeats itself and goes on where it was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tar_engine.config import ModelConfig
from tar_engine.coordinates import cell_centres
from tar_engine.errors import TextError
from tar_engine.network.text import CLOUD_NAME, CONCEPTS, TextBank
from tar_engine.network.weights import load_checkpoint
from tar_engine.training import losses
from tar_engine.training.augment import apply_symmetry
from tar_engine.training.patches import UNKNOWN, PatchPairs
from tar_engine.training.synthesis import COVER_NAMES
from tar_engine.training.train import (
    Batch,
    TrainConfig,
    draw_batch,
    draw_colours,
    draw_windows,
    fill_empty,
    find_cover_concepts,
    learning_rate,
    move_to_device,
    train,
)
from tar_engine.training.training_set import synthetic_pairs

SMALL = ModelConfig(
    seen_px=64,
    stem_channels=8,
    middle_channels=16,
    token_channels=32,
    match_channels=16,
    text_channels=8,
)
QUICK = TrainConfig(pairs=6, batch=2, warmup_pairs=2, save_every_batches=1)


CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data() -> PatchPairs:
    return move_to_device(synthetic_pairs(4, side_px=128), CPU)


@pytest.fixture(scope="module")
def bank() -> TextBank:
    generator = torch.Generator().manual_seed(0)
    return TextBank(torch.randn(2, 5, 8, generator=generator), tuple("abcde"), "made by a test")


def test_the_same_seed_gives_the_same_weights(
    data: PatchPairs, bank: TextBank, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        train(data, bank, tmp_path / f"{name}.safetensors", QUICK, SMALL, report=lambda _: None)
    digests = {load_checkpoint(path).sha256 for path in tmp_path.glob("*.safetensors")}
    assert len(digests) == 1


def test_a_stopped_training_goes_on_as_if_it_had_not_been(
    data: PatchPairs, bank: TextBank, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    said: list[str] = []

    def stop_after_two(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            raise Stop

    whole, halved = tmp_path / "whole.safetensors", tmp_path / "halved.safetensors"
    train(data, bank, whole, QUICK, SMALL, report=lambda _: None)
    with pytest.raises(Stop):
        train(data, bank, halved, QUICK, SMALL, report=stop_after_two)
    train(data, bank, halved, QUICK, SMALL, report=said.append)
    assert said[2].startswith("4 pairs")
    one, other = load_checkpoint(whole).network, load_checkpoint(halved).network
    for value, again in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(value, again)


def test_only_what_reads_the_bank_learns_the_words_of_another_encoder(
    data: PatchPairs, bank: TextBank, tmp_path: Path
) -> None:
    first, adapted = tmp_path / "first.safetensors", tmp_path / "adapted.safetensors"
    train(data, bank, first, QUICK, SMALL, report=lambda _: None)
    initial = load_checkpoint(first)
    clip = TextBank(torch.randn(2, 5, 12), bank.names, "by another encoder")
    train(
        data, clip, adapted, QUICK, SMALL, part="text", initial=initial, report=lambda _: None
    )  # fmt: skip
    after = load_checkpoint(adapted)
    assert after.text_provenance == "by another encoder"
    assert after.history.keys() == {"high", "text"}
    assert torch.equal(after.network.tafe.bank, clip.embeddings.half().float())
    before, now = initial.network.state_dict(), after.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], now[name])}
    read = {f"tafe.{layer}.{what}" for layer in ("key", "value") for what in ("weight", "bias")}
    assert changed == read | {"tafe.bank"}


def test_a_bank_of_other_concepts_is_refused(
    data: PatchPairs, bank: TextBank, tmp_path: Path
) -> None:
    first = tmp_path / "first.safetensors"
    train(data, bank, first, QUICK, SMALL, report=lambda _: None)
    other = TextBank(bank.embeddings, tuple("vwxyz"), "of other words")
    with pytest.raises(TextError, match="bank: its concepts"):
        train(data, other, tmp_path / "x", QUICK, SMALL, initial=load_checkpoint(first))


def test_a_batch_follows_from_its_seed(data: PatchPairs) -> None:
    one, other = (draw_batch(data, QUICK, 64, seed=3) for _ in range(2))
    assert torch.equal(one.optical, other.optical)
    assert torch.equal(one.sar.nan_to_num(-1), other.sar.nan_to_num(-1))
    assert torch.equal(one.sar_from_optical, other.sar_from_optical)
    assert not torch.equal(one.optical, draw_batch(data, QUICK, 64, seed=4).optical)


def cover_at_truth(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Land cover of the optical image, and of the SAR image at its true place; where both know."""
    side = batch.optical.shape[-1]
    where = batch.sar_xy(side).round().long().view(-1, side, side, 2)
    inside = ((where >= 0) & (where < side)).all(dim=-1)
    x, y = where.clamp(0, side - 1).unbind(-1)
    seen = batch.sar_cover[torch.arange(len(where))[:, None, None], y, x]
    known = (batch.optical_cover < len(COVER_NAMES)) & (seen != UNKNOWN) & inside
    return batch.optical_cover[known], seen[known]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_truth_of_a_batch_leads_to_the_same_land_cover(data: PatchPairs, seed: int) -> None:
    """Through apply_symmetry, window, terrain and affine; borders may fall to either side."""
    batch = draw_batch(data, replace(QUICK, painted_share=0.0, residual_share=0.0), 64, seed)
    optical, sar = cover_at_truth(batch)
    assert len(optical) > 1000
    right = float((optical == sar).float().mean())
    assert right > 0.7
    wrong = replace(batch, sar_from_optical=torch.eye(2, 3).expand(2, 2, 3))
    optical, sar = cover_at_truth(wrong)
    assert right > float((optical == sar).float().mean()) + 0.3


def test_the_true_place_is_the_affine_of_what_terrain_moved() -> None:
    empty, affine = torch.zeros(1, 1, 64, 64), torch.tensor([[[1.0, 0.0, 4.0], [0.0, 1.0, -2.0]]])
    terrain = torch.zeros(1, 2, 64, 64)
    terrain[:, 0, :, 32:] = 3
    moved = Batch(empty, empty, empty[0], empty[0], affine, terrain).sar_xy(8) - cell_centres(
        8, 8, 8
    )
    assert (moved.view(8, 8, 2)[:, :4] == torch.tensor([4.0, -2.0])).all()
    assert (moved.view(8, 8, 2)[:, 4:] == torch.tensor([7.0, -2.0])).all()


def test_pairs_without_a_cover_get_an_unknown_one(data: PatchPairs) -> None:
    bare = PatchPairs(data.names, data.optical, data.sar)
    with pytest.raises(ValueError, match="no cover map"):
        draw_batch(bare, QUICK, 64, seed=0)
    batch = draw_batch(move_to_device(bare, CPU), QUICK, 64, seed=0)
    assert set(batch.optical_cover.unique().tolist()) <= {len(COVER_NAMES), UNKNOWN}
    assert set(batch.sar_cover.unique().tolist()) == {UNKNOWN}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), whole=st.sampled_from([0.0, 1.0]))
def test_windows_lie_in_the_patch(seed: int, whole: float) -> None:
    config = replace(QUICK, batch=16, whole_share=whole)
    window, per_seen = draw_windows(config, 256, 128, torch.Generator().manual_seed(seed))
    corners = window @ torch.tensor([[-0.5, 127.5], [-0.5, 127.5], [1.0, 1.0]])
    width = corners[:, :, 1] - corners[:, :, 0]
    assert torch.allclose(width, 128 * per_seen[:, None].expand(-1, 2), atol=1e-3)
    if whole:
        assert torch.allclose(corners, torch.tensor([-0.5, 255.5]).expand(16, 2, 2), atol=1e-3)
    else:
        assert 127 < width.min() <= width.max() < 231
        assert -0.501 < corners.min() <= corners.max() < 255.501


def test_the_eight_symmetries_are_eight() -> None:
    image = torch.rand(1, 2, 6, 6)
    turned = apply_symmetry(image.expand(8, -1, -1, -1), torch.arange(8).view(8, 1, 1, 1))
    assert torch.equal(turned[0], image[0])
    assert len({tuple(one.flatten().tolist()) for one in turned}) == 8
    for one in turned:
        assert torch.equal(one.flatten(1).sort().values, image[0].flatten(1).sort().values)


def test_filling_touches_only_what_the_warp_left_empty() -> None:
    sar = torch.rand(32, 1, 16, 16)
    sar[..., :5] = torch.nan
    out = fill_empty(sar, torch.Generator().manual_seed(0))
    assert torch.equal(out[..., 5:], sar[..., 5:])
    full = out.isfinite().flatten(1).all(dim=1)
    assert 0.2 < full.float().mean() < 0.6
    assert out[~full][..., :5].isnan().all()


def test_repainted_ground_has_no_names_and_no_other_borders(data: PatchPairs) -> None:
    assert data.cover is not None
    config = replace(QUICK, painted_share=1.0)
    half = data.cover.clone()
    half[0, :5] = UNKNOWN
    generator = torch.Generator().manual_seed(0)
    optical, sar, cover = draw_colours(data.optical, data.sar, half, config, generator)
    assert torch.equal(optical[0], data.optical[0] / 255)
    assert torch.equal(cover[0], half[0])
    assert (cover[1:] == UNKNOWN).all()
    for image, before in ((optical, data.optical), (sar, data.sar)):
        assert not torch.equal(image[1], before[1] / 255)
        assert 0 <= image.min() <= image.max() <= 1
    label = data.cover[1] == data.cover[1].mode().values.mode().values
    assert sar[1, 0][label].std() < 0.3


def test_the_rate_warms_up_and_falls() -> None:
    config = replace(QUICK, pairs=1000, warmup_pairs=100)
    rates = [learning_rate(config, seen) for seen in (0, 96, 500, 1000)]
    assert rates[0] < rates[1] > rates[2] > rates[3] > 0


def test_true_cells_of_a_shift_are_the_next_cells() -> None:
    shifted = cell_centres(8, 8, 4)[None] + torch.tensor([4.0, 0.0])
    index, inside = losses.find_true_cells(shifted, 8, 4)
    assert index[0, 0] == 1
    assert index[0, 9] == 10
    assert inside.view(8, 8)[:, :-1].all()
    assert not inside.view(8, 8)[:, -1].any()


def test_a_perfect_match_costs_nothing() -> None:
    similarity = 60 * torch.eye(16)[None]
    index = torch.arange(16)[None]
    loss = losses.matching_loss(similarity, index, torch.ones(1, 16, dtype=torch.bool))
    assert float(loss) == pytest.approx(0, abs=1e-4)


def test_naming_costs_nothing_where_it_is_right_and_cloud_is_never_wrongly_called() -> None:
    concept_of_cover = torch.tensor([3, 1, 2])  # the last is cloud
    cover = torch.tensor([[0, 1, 2, UNKNOWN]])

    def loss(*called: int) -> float:
        concepts = 30 * torch.nn.functional.one_hot(torch.tensor([called]), 5).float()
        return float(losses.naming_loss(concepts.log_softmax(-1), cover, concept_of_cover))

    assert loss(3, 1, 2, 0) == pytest.approx(0, abs=1e-4)
    assert loss(3, 1, 2, 4) == pytest.approx(0, abs=1e-4)
    assert loss(3, 1, 2, 2) > 1
    assert loss(1, 1, 2, 0) > 5
    assert loss(3, 1, 0, 0) > 5


def test_agreement_is_cheapest_where_both_sensors_name_the_same_of_many() -> None:
    index, inside = torch.arange(6)[None], torch.ones(1, 6, dtype=torch.bool)
    same = (20 * torch.eye(6)[None]).log_softmax(-1)
    one_word = (20 * torch.eye(6)[0].expand(1, 6, 6)).log_softmax(-1)
    at_best = losses.agreement_loss(same, same, index, inside)
    assert at_best < losses.agreement_loss(same, same.roll(1, dims=1), index, inside)
    assert at_best < losses.agreement_loss(one_word, one_word, index, inside)


def test_drawn_covers_and_clouds_have_a_concept_each(bank: TextBank) -> None:
    names = tuple(concept.name for concept in CONCEPTS)
    found = find_cover_concepts(TextBank(torch.zeros(2, len(names), 8), names, ""), CPU)
    assert found is not None
    assert [names[concept] for concept in found] == [*COVER_NAMES, CLOUD_NAME]
    assert find_cover_concepts(bank, CPU) is None
