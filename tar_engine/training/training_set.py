"""What the engine is trained on: aligned pairs from scenes with pseudo truth, and drawn ones.

patches ─┐
scenes ──┼─▶ one PatchPairs, packed into one file that can be carried to another machine
synthesis┘
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tar_engine.training.patches import UNKNOWN, PatchPairs
from tar_engine.training.synthesis import synthetic_pair


def synthetic_pairs(count: int, side_px: int = 256) -> PatchPairs:
    """`count` drawn pairs with known land cover; speckle of 1 to 8 looks in turn."""
    made = [synthetic_pair(seed, side_px, looks=2.0 ** (seed % 4)) for seed in range(count)]

    def stacked(images: list[npt.NDArray[np.uint8]]) -> Tensor:
        return torch.from_numpy(np.stack(images))

    return PatchPairs(
        tuple(f"synthetic/{seed}" for seed in range(count)),
        stacked([pair.optical for pair in made]),
        stacked([pair.sar for pair in made]),
        stacked([pair.ground.cover_index() for pair in made]),
    )


def manifest(data: PatchPairs) -> dict[str, Any]:
    """What a checkpoint remembers of its training data: how much of each kind, and a digest."""
    kinds = Counter(name.split("/")[0] if "/" in name else "patches" for name in data.names)
    digest = hashlib.sha256()
    for part in (data.optical, data.sar):
        digest.update(part.numpy().tobytes())
    with_cover = 0 if data.cover is None else int((data.cover != UNKNOWN).flatten(1).any(1).sum())
    return {
        "pairs": len(data),
        "kinds": dict(sorted(kinds.items())),
        "with_cover": with_cover,
        "sha256": digest.hexdigest(),
    }
