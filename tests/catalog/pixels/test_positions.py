"""Which part of a grid positions fall on."""

from __future__ import annotations

import numpy as np
import pytest

from catalog.errors import ArgumentError
from catalog.grid import Window
from catalog.pixels.positions import window_around


def test_the_window_of_positions_passes_over_unknown_ones() -> None:
    positions = Window(4, -2, 3, 5).positions() + 0.25
    positions[:, 0, 0] = np.nan
    assert window_around(positions) == Window(4, -2, 4, 6)
    assert window_around(np.full((2, 3, 3), np.nan)) is None
    with pytest.raises(ArgumentError, match="infinite"):
        window_around(np.full((2, 3, 3), np.inf))
