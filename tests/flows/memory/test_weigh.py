"""What a night says where the ground is remembered: by its optical image, by radar, by memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from catalog.grid import Lattice, lattice_for
from catalog.memory.store import MemoryStore
from flows.memory.radar import PassPosition, locate_pass
from flows.memory.recall import Remembered
from flows.memory.weigh import weigh_group
from flows.plan.groups import Group
from flows.stages.fit import node_grid
from tar_engine.fields.field import Field
from tar_engine.fields.matches import Matches
from tar_engine.fields.nodes import NodeField
from tests.flows.stages.test_fit import BBOX, two_pair_group
from tests.support.matches import grid_xy, terrain

PASS_SHIFT = np.array([1.2, -0.8])  # of the SAR pass beyond the ground
OPTICAL_SHIFT = np.array([0.3, 0.2])  # of the optical image beyond the ground


@pytest.fixture(scope="module")
def lattice() -> Lattice:
    return lattice_for(BBOX)


@pytest.fixture(scope="module")
def group() -> Group:
    return two_pair_group()


def remembered(lattice: Lattice, error_px: float = 0.1, days: int = 6) -> Remembered:
    """A memory that knows the ground everywhere, off by some noise of the error it states."""
    grid = node_grid(lattice)
    ground = terrain(grid.xy).T.reshape(2, *grid.shape)
    ground = ground + np.random.default_rng(1).normal(0, error_px / 2**0.5, ground.shape)
    names = [f"2024-01-{day:02d}" for day in range(1, days + 1)]
    return Remembered(
        store=MemoryStore("/nowhere", "region", "ascending-064-grd-1a2b3c4d"),
        version="0" * 16,
        ground=NodeField(ground, np.full(grid.shape, error_px)),
        count=np.full(grid.shape, days),
        optical_shifts=dict.fromkeys(names, (0.0, 0.0)),
        remainders=np.zeros((days, 2)),
        band="vh",
        decibel=True,
    )


def matches_of(
    lattice: Lattice, beyond: np.ndarray, share: float = 1.0, noise_px: float = 0.4
) -> Matches:
    """Matches on the ground moved by `beyond`, on the left part of the lattice of that share."""
    height, width = lattice.shape
    xy = grid_xy(max(height, width))
    xy = xy[(xy[:, 0] < share * width) & (xy[:, 1] < height)]
    noise = np.random.default_rng(2).normal(0, noise_px, xy.shape)
    return Matches(xy, xy + terrain(xy) + beyond + noise, np.ones(len(xy)), np.ones(len(xy)))


def radar(lattice: Lattice, memory: Remembered) -> PassPosition:
    return locate_pass(
        two_pair_group().sar, matches_of(lattice, PASS_SHIFT, noise_px=0.2), memory, lattice
    )


def distance_px(lattice: Lattice, field: Field | None, beyond: np.ndarray) -> float:
    """Median distance of a field from the ground moved by `beyond`."""
    assert field is not None
    xy = node_grid(lattice).xy
    return float(np.median(np.hypot(*(field.at(xy) - terrain(xy) - beyond).T)))


def test_memory_and_matches_together_are_better_than_either(lattice: Lattice, group: Group) -> None:
    memory, shift = remembered(lattice, error_px=0.3), PASS_SHIFT - OPTICAL_SHIFT
    estimate = weigh_group(
        group, matches_of(lattice, shift), lattice, memory, radar(lattice, memory)
    )
    assert estimate.quality == "registered"
    assert all(verdict.accepted for verdict in estimate.verdicts)
    assert distance_px(lattice, estimate.field, shift) < 0.2
    assert estimate.optical_shift == pytest.approx(tuple(OPTICAL_SHIFT), abs=0.1)
    assert estimate.evidence is not None


def test_a_clear_corner_is_enough_where_memory_knows_the_rest(
    lattice: Lattice, group: Group
) -> None:
    memory, shift = remembered(lattice), PASS_SHIFT - OPTICAL_SHIFT
    found = matches_of(lattice, shift, share=0.3)
    estimate = weigh_group(group, found, lattice, memory, radar(lattice, memory))
    assert [verdict.accepted for verdict in estimate.verdicts] == [True, True]
    assert "by memory" in estimate.verdicts[1].reason
    assert distance_px(lattice, estimate.field, shift) < 0.2


def test_a_night_without_optical_is_registered_by_radar(lattice: Lattice, group: Group) -> None:
    memory, nothing = remembered(lattice), Matches.concatenate(())
    alone = Group((), (), group.sar)
    estimate = weigh_group(alone, nothing, lattice, memory, radar(lattice, memory))
    assert estimate.quality == "registered_radar_to_radar"
    assert [(v.optical, v.sar, v.accepted) for v in estimate.verdicts] == [
        ("", "sar-left", True),
        ("", "sar-right", True),
    ]
    assert distance_px(lattice, estimate.field, PASS_SHIFT) < 0.15
    assert estimate.evidence is None


def test_an_older_optical_image_keeps_its_own_shift(lattice: Lattice, group: Group) -> None:
    day = group.optical[0].solar_day.isoformat()
    memory = replace(remembered(lattice), optical_shifts={day: (0.3, 0.2)})
    nothing = Matches.concatenate(())
    estimate = weigh_group(group, nothing, lattice, memory, radar(lattice, memory))
    assert estimate.quality == "registered_radar_to_radar"
    assert distance_px(lattice, estimate.field, PASS_SHIFT - OPTICAL_SHIFT) < 0.15


def test_where_nothing_tells_of_the_pass_memory_answers_and_says_how_unsure(
    lattice: Lattice, group: Group
) -> None:
    memory, nothing = remembered(lattice), Matches.concatenate(())
    memory = replace(memory, remainders=np.random.default_rng(3).normal(0, 0.8, (6, 2)))
    estimate = weigh_group(group, nothing, lattice, memory, None)
    assert estimate.quality == "registered_from_memory"
    assert estimate.error_px is not None
    assert np.median(estimate.error_px) > 0.7
    assert distance_px(lattice, estimate.field, np.zeros(2)) < 0.2


def test_clear_ground_that_does_not_match_is_refused_whatever_is_remembered(
    lattice: Lattice, group: Group
) -> None:
    memory = remembered(lattice)
    found = matches_of(lattice, PASS_SHIFT)
    random = np.random.default_rng(0).uniform(-16, 16, found.sar_xy.shape)
    foreign = replace(found, sar_xy=found.optical_xy + random)
    estimate = weigh_group(group, foreign, lattice, memory, radar(lattice, memory))
    assert not any(verdict.accepted for verdict in estimate.verdicts)
    assert estimate.field is None


def test_where_the_ground_has_changed_the_day_is_believed(lattice: Lattice, group: Group) -> None:
    memory = remembered(lattice)
    found = matches_of(lattice, np.zeros(2))
    middle = lattice.shape[1] / 2
    changed = found.sar_xy.copy()
    changed[found.optical_xy[:, 0] > middle] += [4.0, 0.0]
    estimate = weigh_group(group, replace(found, sar_xy=changed), lattice, memory, None)
    assert estimate.field is not None
    far = np.array([[0.9 * lattice.shape[1], 0.5 * lattice.shape[0]]])
    assert np.hypot(*(estimate.field.at(far) - terrain(far) - [4.0, 0.0])[0]) < 0.6
