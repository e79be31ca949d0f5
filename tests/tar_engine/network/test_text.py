"""The words, and the two frozen encoders that turn them into a bank."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from tar_engine.config import ModelConfig
from tar_engine.errors import TextError
from tar_engine.network.model import View, with_bank
from tar_engine.network.msfl import normalise
from tar_engine.network.tafe import TextEnhancement, ablate_bank, centre_bank
from tar_engine.network.text import (
    CONCEPTS,
    LAND_COVERS,
    SCENES,
    build_bank,
    minilm_bank,
    remoteclip_bank,
)
from tar_engine.network.weights import load_checkpoint


def test_there_are_enough_descriptors_in_wording_for_both_sensors() -> None:
    assert len(LAND_COVERS) >= 12
    assert len(SCENES) >= 24
    assert len({concept.name for concept in CONCEPTS}) == len(CONCEPTS)
    for concept in CONCEPTS:
        assert concept.optical != concept.sar
        assert concept.name in concept.wording("optical")
        assert "radar" in concept.wording("sar")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_minilm_bank_knows_which_words_belong_together() -> None:
    bank = minilm_bank()
    assert bank.embeddings.shape == (2, len(CONCEPTS), 384)
    assert torch.allclose(bank.embeddings.norm(dim=-1), torch.ones(2, len(CONCEPTS)), atol=1e-5)
    assert "all-MiniLM-L6-v2" in bank.provenance
    across = bank.embeddings[0] @ bank.embeddings[1].T
    assert (across.argmax(dim=1) == torch.arange(len(CONCEPTS))).float().mean() > 0.9
    assert mean_cosine(bank.embeddings) > 0.4  # sentences of one pattern ...
    assert abs(mean_cosine(centre_bank(bank.embeddings))) < 0.1  # ... less what they share
    apart = centre_bank(bank.embeddings)[0] @ centre_bank(bank.embeddings)[1].T
    assert (apart.argmax(dim=1) == torch.arange(len(CONCEPTS))).float().mean() > 0.9


def mean_cosine(bank: torch.Tensor) -> float:
    """Between the wordings of different concepts for one sensor."""
    others = 1 - torch.eye(bank.shape[1])
    return float(((bank[0] @ bank[0].T) * others).sum() / others.sum())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_remoteclip_loads_from_a_checkpoint_in_its_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain open_clip state dict of ViT-B-32, as RemoteCLIP ships; the weights are random.

    A few concepts do: a CPU takes its time for each.
    """
    from tar_engine.network.text import _import_open_clip

    few = CONCEPTS[:4]
    monkeypatch.setattr("tar_engine.network.text.build_bank", partial(build_bank, concepts=few))
    torch.manual_seed(5)
    model = _import_open_clip().create_model("ViT-B-32", pretrained=None)
    path = tmp_path / "RemoteCLIP-ViT-B-32.pt"
    torch.save(model.state_dict(), path)
    bank = remoteclip_bank(path)
    assert bank.embeddings.shape == (2, len(few), 512)
    assert "RemoteCLIP" in bank.provenance
    tokens = torch.rand(1, 256, 128)
    enhanced = TextEnhancement(ModelConfig(text_channels=512), bank.embeddings)(tokens, "sar")
    assert enhanced.tokens.shape == tokens.shape


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_that_is_no_remoteclip_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(TextError, match=r"other\.pt is no RemoteCLIP"):
        remoteclip_bank(path)


def test_ablations_change_what_they_say() -> None:
    bank = torch.nn.functional.normalize(torch.randn(2, 7, 16), dim=-1)
    assert ablate_bank(bank, "bank") is bank
    assert torch.equal(ablate_bank(bank, "shuffled")[0].sort(0).values, bank[0].sort(0).values)
    assert not torch.equal(ablate_bank(bank, "shuffled"), bank)
    assert torch.equal(ablate_bank(bank, "random"), ablate_bank(bank, "random"))
    with pytest.raises(ValueError, match="text_mode"):
        ablate_bank(bank, "poetry")


def test_a_centred_bank_has_no_direction_in_common() -> None:
    cone = torch.nn.functional.normalize(torch.randn(2, 9, 16) + 5, dim=-1)
    apart = centre_bank(cone)
    assert torch.allclose(apart.norm(dim=-1), torch.ones(2, 9), atol=1e-5)
    assert mean_cosine(cone) > 0.9
    assert abs(mean_cosine(apart)) < 0.3
    shifted = centre_bank(cone + torch.randn(2, 1, 16))
    assert torch.allclose(shifted, apart, atol=1e-4)


def test_concepts_are_probabilities_that_sharpen() -> None:
    bank, tokens = torch.randn(2, 7, 384), torch.rand(2, 9, 128)
    text = TextEnhancement(ModelConfig(), bank)
    with torch.no_grad():
        soft = text(tokens, "sar").concepts
        text.log_sharpness.fill_(3.0)
        sharp = text(tokens, "sar").concepts
    for concepts in (soft, sharp):
        assert concepts.shape == (2, 9, 7)
        assert torch.allclose(concepts.exp().sum(dim=-1), torch.ones(2, 9), atol=1e-5)
    assert (sharp.max(dim=-1).values > soft.max(dim=-1).values).all()


def test_the_shipped_network_says_the_same_with_another_encoders_bank() -> None:
    """Of another width, and without meaning: what it knows of its concepts does not hang on it."""
    network = load_checkpoint().network
    torch.manual_seed(3)
    bank = torch.nn.functional.normalize(torch.randn(2, len(CONCEPTS), 512), dim=-1)
    other = with_bank(network, bank).eval()
    assert torch.equal(other.tafe.bank, bank)
    assert other.config.text_channels == 512
    image = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        views = [View(*normalise(image), "optical")]
        before, after = network.describe(views)[0], other.describe(views)[0]
        features = network.low_level(image, "optical"), other.low_level(image, "optical")
    assert torch.allclose(before.concepts.exp(), after.concepts.exp(), atol=0.02)
    assert torch.allclose(before.descriptors, after.descriptors, atol=0.02)
    assert torch.equal(*features)
    with pytest.raises(ValueError, match="bank: 7 concepts, the network knows 43"):
        with_bank(network, bank[:, :7])


def test_without_text_the_tokens_pass_unchanged() -> None:
    bank, tokens = torch.randn(2, 7, 384), torch.rand(2, 9, 128)
    off = TextEnhancement(ModelConfig(text_mode="none"), bank)(tokens, "optical")
    assert off.tokens is tokens
