"""What a region remembers when a day begins, and what that spares the day.

Ground that memory knows needs no search: there half of the tiles, by turns, tell how far the pass
lies from what is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from catalog.archives.items import Scene
from catalog.grid import Lattice, Window
from catalog.memory.geometry import geometry_of, memory_name
from catalog.memory.store import MemoryStore
from flows.memory.learnt import kept_days, lay_days
from flows.plan.generation import SlotPlan
from flows.plan.plan import Plan
from flows.stages.match import TILE_PX, Tile, Tiled
from tar_engine.fields.field import Field
from tar_engine.fields.ground import continued
from tar_engine.fields.nodes import MATCH_SPACING_PX, NODE_PX, NodeField, field_through

Float64 = npt.NDArray[np.float64]

SAMPLED = 2  # of so many tiles that memory knows, one is matched
KNOWN_SHARE = 0.8  # of a tile's nodes that memory has to know
UNTOLD_SHIFT_PX = 0.5  # sigma of a pass's own shift, until enough passes tell it
LEAST_SPREAD_PX = 0.1  # of such shifts, however alike those were that are remembered
FEW_DAYS = 3


@dataclass(frozen=True)
class Remembered:
    """One viewing geometry as memory has it.

    ground: value and error on nodes. count: (rows, columns) days that know each. optical_shifts:
    by day, how far its optical pass lies from the ground. remainders: (days, 2) how far whole days
    lay from it, shifts in pixels. band: of the reference SAR. decibel: whether SAR comes in
    decibels.
    """

    store: MemoryStore
    version: str
    ground: NodeField
    count: npt.NDArray[np.integer]
    optical_shifts: Mapping[str, tuple[float, float]]
    remainders: Float64
    band: str
    decibel: bool

    @cached_property
    def field(self) -> Field:
        """The ground's field at every position, continued to where nothing is known."""
        return field_through(continued(self.ground).displacement)

    def optical_shift(self, day: str) -> tuple[Float64, float]:
        """How far (dx, dy) the optical pass of a day lies from the ground, and its sigma, pixels.

        Of a day that is not remembered, the median of those that are.
        """
        if day in self.optical_shifts:
            return np.array(self.optical_shifts[day]), LEAST_SPREAD_PX
        return self._usual_shift, _spread(self._shifts, self._usual_shift)

    @property
    def ground_shift(self) -> tuple[Float64, float]:
        """Where optical passes have the ground by and large (dx, dy), and its sigma, pixels."""
        usual, usual_px = self.optical_shift("")
        return usual, usual_px / max(1, len(self._shifts)) ** 0.5

    @property
    def _shifts(self) -> Float64:
        return np.array(list(self.optical_shifts.values())).reshape(-1, 2)

    @property
    def _usual_shift(self) -> Float64:
        return np.median(self._shifts, axis=0) if len(self._shifts) else np.zeros(2)

    @property
    def pass_spread_px(self) -> float:
        """Sigma of how far a whole day lies from the ground."""
        return _spread(self.remainders, np.median(self.remainders, axis=0))


def _spread(shifts: Float64, middle: Float64) -> float:
    if len(shifts) < FEW_DAYS:
        return UNTOLD_SHIFT_PX
    return max(LEAST_SPREAD_PX, float(1.2 * np.median(np.hypot(*(shifts - middle).T))))


def current_versions(plan: Plan, slot: SlotPlan) -> dict[str, str]:
    """The versions of memory, by name, that a day can be registered by now.

    A day that is made again does not lean on itself. Raises `StoreError`.
    """
    found = {}
    for name in memory_names(plan, slot.sar):
        store = memory_store(plan, name)
        head = store.head()
        if head is None:
            continue
        if slot.slot in head.slots and load(store, head.version, without=slot.slot) is None:
            continue
        found[name] = head.version
    return found


def memory_names(plan: Plan, scenes: Sequence[Scene]) -> list[str]:
    """Where the geometries of SAR scenes are remembered, each once."""
    names = (name_memory(scene, plan.lattice) for scene in scenes)
    return sorted({name for name in names if name is not None})


def name_memory(scene: Scene, lattice: Lattice) -> str | None:
    """Where the geometry of a SAR scene is remembered; None where it does not tell its orbit."""
    geometry = geometry_of(scene)
    return None if geometry is None else memory_name(geometry, lattice)


def memory_store(plan: Plan, name: str) -> MemoryStore:
    """The memory of that name in the region of a plan."""
    return MemoryStore(plan.request.store, plan.request.region, name)


def recall(plan: Plan, slot: SlotPlan) -> dict[str, Remembered]:
    """What a day is registered by, by name. Raises `StoreError`."""
    loaded = {
        name: load(memory_store(plan, name), version, without=slot.slot)
        for name, version in slot.memory.items()
    }
    return {name: remembered for name, remembered in loaded.items() if remembered is not None}


def load(store: MemoryStore, version: str, without: str = "") -> Remembered | None:
    """One version of memory, as it would be `without` a day; None when nothing is left.

    Raises `StoreError`.
    """
    field = store.load_field(version)
    if without in field["day"].values:
        left = [day for day in kept_days(field) if day.slot != without]
        if not left:
            return None
        field = lay_days(left).assign_attrs(field.attrs)
    shifts = np.stack([field["optical_dx"].values, field["optical_dy"].values], axis=1)
    told = np.isfinite(shifts).all(axis=1)
    days = [str(day) for day in field["day"].values]
    return Remembered(
        store=store,
        version=version,
        ground=NodeField(
            np.stack([field["dx"].values, field["dy"].values]).astype(np.float64),
            field["error"].values.astype(np.float64),
        ),
        count=field["count"].values,
        optical_shifts={
            day: (float(shift[0]), float(shift[1]))
            for day, shift, known in zip(days, shifts, told, strict=True)
            if known
        },
        remainders=np.stack([field["remainder_dx"].values, field["remainder_dy"].values], axis=1),
        band=str(field.attrs["sar_band"]),
        decibel=bool(field.attrs["sar_decibel"]),
    )


def tiles_to_match(
    tiles: Sequence[Tile], remembered: Remembered, *, every: bool = False
) -> tuple[Tile, ...]:
    """The tiles that memory does not know, as they are; of the others half, with their start.

    Those that fewest days have told of come first, so all have their turn. `every` takes all.
    """
    known = [knows(remembered.ground, tile.core) >= KNOWN_SHARE for tile in tiles]
    places = [place for place, is_known in enumerate(known) if is_known]
    sampled = set(places if every else least_told(places, tiles, remembered))
    field = remembered.field
    return tuple(
        replace(tile, start=start_of(field, tile.window)) if place in sampled else tile
        for place, tile in enumerate(tiles)
        if place in sampled or not known[place]
    )


def least_told(places: Sequence[int], tiles: Sequence[Tiled], remembered: Remembered) -> list[int]:
    """Half of these tiles, one at least: those that fewest days tell of; of equals, every other."""

    def rank(place: int) -> tuple[float, int, int]:
        core = tiles[place].core
        days = float(remembered.count[nodes_of(core)].mean())
        return round(days, 1), (core.y0 + core.x0) // TILE_PX % SAMPLED, place

    return sorted(places, key=rank)[: max(1, len(places) // SAMPLED)]


def start_of(
    field: Field, window: Window, cell_px: float = MATCH_SPACING_PX
) -> npt.NDArray[np.float32]:
    """(2, rows, columns) float32 displacement at the centres of a window's cells."""
    rows, columns = (int(np.ceil(side / cell_px)) for side in window.shape)
    y, x = np.indices((rows, columns)) * cell_px + (cell_px - 1) / 2
    at = field.at(np.stack([x.ravel() + window.x0, y.ravel() + window.y0], axis=1))
    return at.T.reshape(2, rows, columns).astype(np.float32)


def knows(ground: NodeField, core: Window) -> float:
    """Share of a tile's nodes that memory knows."""
    return float(ground.known[nodes_of(core)].mean())


def nodes_of(core: Window) -> tuple[slice, slice]:
    """Rows and columns of the nodes in a tile."""
    rows, columns = (
        slice(int(start // NODE_PX), int((start + side) // NODE_PX) + 1)
        for start, side in zip((core.y0, core.x0), core.shape, strict=True)
    )
    return rows, columns
