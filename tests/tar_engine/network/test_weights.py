"""Checkpoints are whole, small, described and checked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tar_engine.config import ModelConfig
from tar_engine.errors import WeightsError
from tar_engine.network.model import TarNetwork
from tar_engine.network.text import CONCEPTS, TextBank
from tar_engine.network.weights import (
    DEFAULT_WEIGHTS,
    load_checkpoint,
    save_checkpoint,
    shipped_sha256,
)


def small_bank() -> TextBank:
    embeddings = torch.nn.functional.normalize(torch.randn(2, 5, 384), dim=-1)
    return TextBank(embeddings, tuple("abcde"), "made by a test")


def test_shipped_weights_are_small_hashed_and_say_where_their_words_come_from() -> None:
    assert DEFAULT_WEIGHTS.stat().st_size <= 16 * 2**20
    checkpoint = load_checkpoint()
    assert checkpoint.sha256 == shipped_sha256()
    assert "all-MiniLM-L6-v2" in checkpoint.text_provenance
    assert checkpoint.concepts == tuple(concept.name for concept in CONCEPTS)
    assert all(checkpoint.history[part]["pairs_seen"] > 0 for part in ("high", "low"))


def test_a_checkpoint_survives_saving(tmp_path: Path) -> None:
    network, bank = TarNetwork(ModelConfig(), small_bank().embeddings), small_bank()
    digest = save_checkpoint(tmp_path / "a.safetensors", network, bank, {"note": 1})
    again = load_checkpoint(tmp_path / "a.safetensors", digest)
    assert again.history == {"note": 1}
    assert again.concepts == bank.names
    images = torch.rand(1, 3, 128, 128), torch.rand(1, 1, 128, 128)
    with torch.inference_mode():
        before, after = network.eval()(*images).similarity, again.network(*images).similarity
    assert torch.allclose(before, after, atol=0.1)  # stored in half precision
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_another_file_than_the_expected_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(DEFAULT_WEIGHTS.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match=r"other\.safetensors: sha256 is"):
        load_checkpoint(path, shipped_sha256())


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"bad\.safetensors: no checkpoint"):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone\.safetensors: cannot be read"):
        load_checkpoint(tmp_path / "gone.safetensors")
