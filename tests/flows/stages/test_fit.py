"""From matches to one field per group and a verdict for each pair."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np

from catalog.archives.pairs import Pair
from catalog.grid import Lattice, lattice_for
from flows.cluster.peers import among_peers
from flows.plan.groups import Group
from flows.stages.estimate import (
    GroupEstimate,
    PairVerdict,
    estimates_from_bytes,
    estimates_to_bytes,
)
from flows.stages.fit import LEAST_TILES_SHARED, fit_group, whoever_solves
from tar_engine.config import FitConfig
from tar_engine.fields.field import Field
from tar_engine.fields.matches import Matches
from tar_engine.fields.parts import one_by_one
from tests.support.scenes import scene

BBOX = (10.0, 50.0, 10.14, 50.06)


def two_pair_group() -> Group:
    west, south, east, north = BBOX
    middle = (west + east) / 2
    left, right = (west, south, middle, north), (middle, south, east, north)
    optical = scene("optical-left", left), scene("optical-right", right)
    sar = scene("sar-left", left), scene("sar-right", right)
    pairs = tuple(Pair(o, s, 1.0, timedelta(0)) for o, s in zip(optical, sar, strict=True))
    return Group(pairs, optical, sar)


def grid_matches(lattice: Lattice, spacing: int = 16) -> Matches:
    """A match on every cell, displaced by a gentle slope."""
    height, width = lattice.shape
    x, y = np.meshgrid(np.arange(8.0, width, spacing), np.arange(8.0, height, spacing))
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    displacement = np.stack([2.0 + xy[:, 0] / 300, -1.0 + xy[:, 1] / 400], axis=1)
    return Matches(xy, xy + displacement, np.ones(len(xy)), np.ones(len(xy)))


def test_good_pairs_share_one_field() -> None:
    lattice, group = lattice_for(BBOX), two_pair_group()
    matches = grid_matches(lattice)
    estimate = fit_group(group, matches, lattice)
    assert [verdict.accepted for verdict in estimate.verdicts] == [True, True]
    assert estimate.field is not None
    found = estimate.field.at(matches.optical_xy)
    assert np.abs(found - (matches.sar_xy - matches.optical_xy)).max() < 0.05
    floor_px = FitConfig().error_floor_px
    assert all(v.expected_error_px < floor_px + 0.1 for v in estimate.verdicts)


def test_a_foreign_pair_is_refused_and_does_not_bend_its_neighbour() -> None:
    lattice, group = lattice_for(BBOX), two_pair_group()
    matches = grid_matches(lattice)
    right = matches.optical_xy[:, 0] > lattice.shape[1] / 2
    sar_xy = matches.sar_xy.copy()
    rng = np.random.default_rng(0)
    sar_xy[right] += rng.uniform(-16, 16, (int(right.sum()), 2))
    estimate = fit_group(group, replace(matches, sar_xy=sar_xy), lattice)
    left_verdict, right_verdict = estimate.verdicts
    assert left_verdict.accepted
    assert not right_verdict.accepted
    assert "agree" in right_verdict.reason
    assert estimate.field is not None
    alone = matches.optical_xy[~right]
    truth = (matches.sar_xy - matches.optical_xy)[~right]
    assert np.abs(estimate.field.at(alone) - truth).max() < 0.3


def test_the_field_of_many_tiles_is_shared_with_other_workers() -> None:
    assert whoever_solves(LEAST_TILES_SHARED) is among_peers
    assert whoever_solves(LEAST_TILES_SHARED - 1) is one_by_one


def test_no_match_is_a_refusal_with_a_reason() -> None:
    estimate = fit_group(two_pair_group(), Matches.concatenate(()), lattice_for(BBOX))
    assert estimate.field is None
    assert [(v.accepted, v.reason) for v in estimate.verdicts] == [
        (False, "the engine found no match on its ground")
    ] * 2


def test_estimates_survive_the_store_bit_for_bit() -> None:
    lattice, group = lattice_for(BBOX), two_pair_group()
    estimate = fit_group(group, grid_matches(lattice), lattice)
    refused = GroupEstimate(None, (PairVerdict("o", "s", False, "no match", np.inf, np.nan, 0),),
                            "registered_from_memory")  # fmt: skip
    content = estimates_to_bytes((estimate, refused))
    assert content == estimates_to_bytes((estimate, refused))
    first, second = estimates_from_bytes(content)
    assert first.verdicts == estimate.verdicts
    assert isinstance(first.field, Field)
    assert estimate.field is not None
    window = (3, 5, 40, 30)
    assert np.array_equal(first.field.displacement(*window), estimate.field.displacement(*window))
    assert second.field is None
    assert (first.quality, second.quality) == ("registered", "registered_from_memory")
    assert not second.verdicts[0].accepted
    assert np.isinf(second.verdicts[0].expected_error_px)


def test_more_than_ten_groups_keep_their_order() -> None:
    verdicts = [PairVerdict(f"o{i}", f"s{i}", True, "", 0.5, 1.0, 9) for i in range(12)]
    estimates = [
        GroupEstimate(Field("shift", np.array([[1.0, 0, i], [0, 1, 0]])), (verdict,))
        for i, verdict in enumerate(verdicts)
    ]
    back = estimates_from_bytes(estimates_to_bytes(estimates))
    assert [each.verdicts[0] for each in back] == verdicts
    assert [each.field.affine[0, 2] for each in back if each.field] == list(range(12))
