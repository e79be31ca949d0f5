"""Plain ground: a small part of a place stays, the rest shows the sensors nothing in common."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from tar_engine.training.protocols import PROTOCOLS
from tar_engine.training.sparse import BORDER_PX, KEPT_SHARE, PLAIN, draw_kept, lay_plain
from tar_engine.training.training_set import synthetic_pairs

SIDE = 256


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_protocol_has_every_kind() -> None:
    assert sorted(PROTOCOLS["sparse"].plains) == sorted(PLAIN) == sorted(BORDER_PX)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("seed", range(4))
def test_a_small_part_stays_and_of_the_sea_one_island(kind: str, seed: int) -> None:
    kept = draw_kept(kind, SIDE, seeded(seed)).numpy()
    low, high = KEPT_SHARE
    assert low - 0.01 < kept.mean() < high + 0.01
    if kind == "sea":
        land, count = ndimage.label(kept > 0.5)
        largest = np.bincount(land.ravel())[1:].max()
        assert largest > 0.8 * (land > 0).sum(), count


@pytest.mark.parametrize("kind", PLAIN)
def test_what_stays_is_the_place_and_the_rest_has_nothing_in_common(kind: str) -> None:
    pair = synthetic_pairs(1)
    optical, sar = lay_plain(pair.optical[0], pair.sar[0], kind, seeded(1))
    kept = draw_kept(kind, SIDE, seeded(1))
    assert optical.dtype == sar.dtype == torch.uint8
    assert torch.equal(optical[:, kept == 1], pair.optical[0][:, kept == 1])
    assert torch.equal(sar[:, kept == 1], pair.sar[0][:, kept == 1])
    bare = ndimage.binary_erosion((kept == 0).numpy(), iterations=8)
    here, there = (ndimage.gaussian_filter(image.float().mean(0), 2) for image in (optical, sar))
    assert abs(np.corrcoef(here[bare], there[bare])[0, 1]) < 0.1  # of some 3000 independent places


def test_it_follows_from_the_seed() -> None:
    pair = synthetic_pairs(1)
    first, again, other = (
        lay_plain(pair.optical[0], pair.sar[0], "snow", seeded(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
