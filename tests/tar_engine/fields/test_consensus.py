"""One affine is found among many wrong matches, whatever else is in the batch."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tar_engine.coordinates import apply_affine
from tar_engine.deformation import AffineRange, random_affines
from tar_engine.fields.consensus import draw_similarities, msac_support, polish_affine


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_consensus_finds_the_affine_among_two_thirds_outliers(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth = random_affines(AffineRange((0.7, 1.3), 35, 20), 1, 256, generator).float()
    optical = torch.rand(1, 300, 2, generator=generator) * 255
    sar = apply_affine(truth, optical) + 0.3 * torch.randn(1, 300, 2, generator=generator)
    sar[:, 100:] = torch.rand(1, 200, 2, generator=generator) * 255
    weight = torch.ones(1, 300)
    hypotheses = draw_similarities(optical, sar, weight, 512)
    best = hypotheses[:, msac_support(hypotheses, optical, sar, weight, 3.0).argmax()]
    answer = polish_affine(best, optical, sar, weight, 3.0)
    error = (apply_affine(answer, optical) - apply_affine(truth, optical)).norm(dim=-1)
    assert error.max() < 0.5


def test_an_answer_does_not_depend_on_the_rest_of_the_batch() -> None:
    optical, sar, weight = torch.rand(3, 50, 2), torch.rand(3, 50, 2), torch.rand(3, 50)
    together = draw_similarities(optical, sar, weight, 64)
    alone = draw_similarities(optical[1:2], sar[1:2], weight[1:2], 64)
    assert torch.equal(together[1:2], alone)
