"""Candidates of the search are told apart by what the network says of both images."""

from __future__ import annotations

import pytest
import torch

from tar_engine.matching.locate import DescriptorGrid, rank_by_descriptors
from tar_engine.matching.search import Candidates


def test_descriptors_decide_between_candidates_of_one_strength() -> None:
    generator = torch.Generator().manual_seed(0)
    side, shift = 16, 4
    wide = torch.nn.functional.normalize(torch.randn(1, 8, 20, 20, generator=generator), dim=1)
    optical = DescriptorGrid(wide[..., :side, shift:], torch.ones(1, 1, side, side), 2.0)
    sar = DescriptorGrid(wide[..., :side, :side], torch.ones(1, 1, side, side), 2.0)
    wrong, right = torch.eye(2, 3), torch.tensor([[1.0, 0.0, 2.0 * shift], [0.0, 1.0, 0.0]])
    candidates = Candidates(torch.stack([wrong, right])[None], torch.tensor([[0.31, 0.3]]))
    off = rank_by_descriptors(candidates, optical, sar, 0.0)
    assert torch.equal(off.affine, candidates.affine)
    assert torch.equal(off.score, candidates.score)
    on = rank_by_descriptors(candidates, optical, sar, 0.006)
    assert torch.equal(on.affine[0, 0], right)
    # A cell equals itself, less nothing in common; 12 of 16 columns overlap.
    assert on.score[0, 0] == pytest.approx(0.3 + 0.006 * 16 * 12 / 16, abs=0.005)
    nowhere = DescriptorGrid(optical.descriptors, torch.zeros(1, 1, side, side), 2.0)
    assert torch.equal(rank_by_descriptors(candidates, nowhere, sar, 0.006).score, candidates.score)
