"""What days bring to a memory, laid together: the field of one of its versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from tar_engine.fields.ground import combine_days
from tar_engine.fields.nodes import NODE_PX, NodeField

MOST_DAYS = 8  # kept; of more, those that know most


@dataclass(frozen=True)
class Day:
    """What one day brings to a memory. optical_shift: (dx, dy) pixels, NaN where untold."""

    slot: str
    generation: str
    field: NodeField
    optical_shift: tuple[float, float]

    @property
    def knowledge(self) -> float:
        """How much it knows: inverse variances, summed over nodes; rounded, for sorting."""
        return round(float((1 / self.field.error[self.field.known] ** 2).sum()), 3)


def add_day(before: xr.Dataset | None, day: Day) -> xr.Dataset:
    """The field of a memory with one more day; of too many, those are kept that know most."""
    days = [day] if before is None else [*kept_days(before), day]
    best = sorted(days, key=lambda each: (-each.knowledge, each.slot))[:MOST_DAYS]
    kept = sorted(best, key=lambda each: each.slot)
    return lay_days(kept)


def kept_days(field: xr.Dataset) -> list[Day]:
    """The days that a memory's field keeps."""
    return [
        Day(
            slot=str(slot),
            generation=str(generation),
            field=NodeField(np.stack([dx, dy]).astype(np.float64), error.astype(np.float64)),
            optical_shift=(float(shift_x), float(shift_y)),
        )
        for slot, generation, dx, dy, error, shift_x, shift_y in zip(
            *(
                field[name].values
                for name in (
                    "day", "generation", "day_dx", "day_dy", "day_error", "optical_dx", "optical_dy"
                )
            ),
            strict=True,
        )
    ]  # fmt: skip


def lay_days(kept: Sequence[Day]) -> xr.Dataset:
    """The field of a memory that keeps these days, one at least, in their order."""
    ground = combine_days([each.field for each in kept])
    grid = ground.field.grid
    middle = np.array([*(grid.xy[-1] / 2), 1.0])
    remainders = ground.remainders @ middle  # where the lattice's middle is moved
    node, on_day = ("node_y", "node_x"), ("day", "node_y", "node_x")
    fields = [day.field for day in kept]
    shifts = np.array([day.optical_shift for day in kept])
    return xr.Dataset(
        {
            "dx": (node, ground.field.displacement[0]),
            "dy": (node, ground.field.displacement[1]),
            "error": (node, ground.field.error),
            "count": (node, ground.count),
            "day_dx": (on_day, np.stack([field.displacement[0] for field in fields])),
            "day_dy": (on_day, np.stack([field.displacement[1] for field in fields])),
            "day_error": (on_day, np.stack([field.error for field in fields])),
            "remainder_dx": ("day", remainders[:, 0]),
            "remainder_dy": ("day", remainders[:, 1]),
            "optical_dx": ("day", shifts[:, 0]),
            "optical_dy": ("day", shifts[:, 1]),
        },
        coords={
            "day": ("day", [day.slot for day in kept]),
            "generation": ("day", [day.generation for day in kept]),
            "node_y": ("node_y", np.arange(grid.rows) * NODE_PX),
            "node_x": ("node_x", np.arange(grid.columns) * NODE_PX),
        },
    )
