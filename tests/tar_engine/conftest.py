"""What tests of the whole engine begin with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tar_engine import Registrar
from tar_engine.training.synthesis import synthetic_pair


@pytest.fixture(scope="module")
def registrar() -> Registrar:
    torch.set_num_threads(1)
    return Registrar.load(device="cpu")


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """An aligned 256 px pair: (3, H, W) optical and (1, H, W) SAR, uint8."""
    made = synthetic_pair(seed=7, side_px=256)
    return made.optical, made.sar
