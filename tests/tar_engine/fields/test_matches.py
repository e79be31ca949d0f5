"""Matches of a batch keep to their pair, to the image and to the prior."""

from __future__ import annotations

import numpy as np
import torch

from tar_engine.coordinates import cell_centres
from tar_engine.fields.matches import BatchMatches, Matches


def shifted_batch(dx_of_pair: tuple[float, ...], rows: int, columns: int) -> BatchMatches:
    """Pairs whose SAR image lies `dx` to the right, all matches sure."""
    optical_xy = cell_centres(rows, columns, 16).expand(len(dx_of_pair), -1, 2)
    move = torch.tensor([[dx, 0.0] for dx in dx_of_pair])[:, None]
    sure = torch.ones(optical_xy.shape[:2])
    unknown = sure * torch.nan
    return BatchMatches(optical_xy, optical_xy + move, sure, sure * 0.5, unknown, unknown, unknown)


def test_one_pair_of_a_batch_is_its_own_as_float64_on_the_host() -> None:
    one = shifted_batch((1.0, 5.0), 3, 4).of_pair(1)
    assert len(one) == 12
    assert one.sar_xy.dtype == one.confidence.dtype == np.float64
    assert (one.sar_xy - one.optical_xy == [5, 0]).all()


def test_first_cells_are_those_of_the_upper_left_corner() -> None:
    kept = shifted_batch((1.0, 5.0), 4, 5).first_cells((4, 5), 3, 2)
    assert torch.equal(kept.optical_xy[0], cell_centres(3, 2, 16))
    assert kept.confidence.shape == kept.error_px.shape == (2, 6)


def test_what_lies_beyond_the_prior_has_no_confidence_and_stays() -> None:
    batch = shifted_batch((1.0, 5.0), 3, 4)
    within = batch.within(4.0, batch.optical_xy)
    assert (within.confidence[0] == 1).all()
    assert (within.confidence[1] == 0).all()
    assert torch.equal(within.sar_xy, batch.sar_xy)
    assert torch.equal(within.error_px, batch.error_px)


def test_a_pattern_at_the_same_pixels_is_a_rival_only_where_sar_is_found_there() -> None:
    batch = shifted_batch((1.0, 1.0, 5.0), 3, 4)
    doubted = batch.doubted_still(torch.tensor([True, False, True]), 2.0)
    assert (doubted.rival_px[0] == 0).all()
    assert doubted.rival_px[1:].isnan().all()
    assert torch.equal(doubted.confidence, batch.confidence)


def test_what_has_a_rival_loses_its_confidence() -> None:
    sure = shifted_batch((1.0,), 3, 4).of_pair(0)
    doubted = Matches(sure.optical_xy, sure.sar_xy, sure.confidence, sure.error_px, sure.error_px)
    both = Matches.concatenate([sure.shifted(300, 0), doubted.without_doubted()])
    assert (both.confidence == np.repeat([1.0, 0.0], 12)).all()
    assert np.isnan(both.rivals()).sum() == 12
