"""What is found out about a day: a field for each of its groups, how sure it is, and verdicts."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from catalog.store.slot import SlotStore
from tar_engine.fields.field import Field
from tar_engine.fields.nodes import NodeField

Arrays = dict[str, npt.NDArray[np.generic]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairVerdict:
    """What became of one pair, or of a SAR scene alone, whose `optical` is "".

    Distances in lattice pixels; NaN when nothing was measured.
    """

    optical: str
    sar: str
    accepted: bool
    reason: str
    expected_error_px: float
    median_displacement_px: float
    matches: int


@dataclass(frozen=True)
class GroupEstimate:
    """One displacement field for a group, and a verdict for each of its pairs, in their order.

    A group without optical scenes has a verdict for each SAR scene, whose `optical` is "".
    `quality` says by what its pixels are registered: a name of `catalog.store.schema.QUALITY`.

    error_px: (rows, columns) float32 on the lattice's nodes, the error that is expected of the
    field; None without a field. evidence: what the day's own matches tell, whatever was remembered;
    None where they tell nothing. optical_shift: how far (dx, dy) the optical pass lies from the
    ground, as its SAR pass shows it there by radar alone; None where that could not be told.
    slice_shifts: what SAR scenes (ids) lie off beyond the field, where slices of a pass lie apart.
    """

    field: Field | None
    verdicts: tuple[PairVerdict, ...]
    quality: str = "registered"
    error_px: npt.NDArray[np.float32] | None = None
    evidence: NodeField | None = None
    optical_shift: tuple[float, float] | None = None
    slice_shifts: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def to_arrays(self) -> Arrays:
        """Plain arrays, for an npz file."""
        arrays: Arrays = {
            "verdicts": np.array(json.dumps([asdict(verdict) for verdict in self.verdicts])),
            "quality": np.array(self.quality),
            "slice_shifts": np.array(json.dumps(dict(self.slice_shifts), sort_keys=True)),
        }
        for name, array in (self.field.to_arrays() if self.field else {}).items():
            arrays[f"field/{name}"] = array
        if self.error_px is not None:
            arrays["error_px"] = self.error_px
        if self.evidence is not None:
            arrays["evidence/displacement"] = self.evidence.displacement.astype(np.float32)
            arrays["evidence/error"] = self.evidence.error.astype(np.float32)
        if self.optical_shift is not None:
            arrays["optical_shift"] = np.array(self.optical_shift)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Inverse of `to_arrays`."""
        field = {n.removeprefix("field/"): a for n, a in arrays.items() if n.startswith("field/")}
        evidence = None
        if "evidence/error" in arrays:
            parts = (arrays[f"evidence/{name}"] for name in ("displacement", "error"))
            evidence = NodeField(*(part.astype(np.float64) for part in parts))
        shift = arrays.get("optical_shift")
        error_px = arrays.get("error_px")
        return cls(
            Field.from_arrays(field) if field else None,
            tuple(PairVerdict(**each) for each in json.loads(str(arrays["verdicts"]))),
            str(arrays["quality"]),
            None if error_px is None else error_px.astype(np.float32),
            evidence,
            None if shift is None else (float(shift[0]), float(shift[1])),
            {
                scene: (float(dx), float(dy))
                for scene, (dx, dy) in json.loads(str(arrays["slice_shifts"])).items()
            },
        )


def estimates_to_bytes(estimates: Sequence[GroupEstimate]) -> bytes:
    """All groups of a slot as one npz: the same estimates give the same bytes."""
    arrays: Arrays = {
        f"{index}/{name}": array
        for index, estimate in enumerate(estimates)
        for name, array in estimate.to_arrays().items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def estimates_from_bytes(content: bytes) -> tuple[GroupEstimate, ...]:
    """Inverse of `estimates_to_bytes`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        groups: dict[int, Arrays] = {}
        for each in stored.files:
            index, _, name = each.partition("/")
            groups.setdefault(int(index), {})[name] = stored[each]
    return tuple(GroupEstimate.from_arrays(groups[index]) for index in sorted(groups))


def load_estimates(store: SlotStore) -> tuple[GroupEstimate, ...] | None:
    """What a slot keeps of them; None where that is nothing, or damaged, which is logged.

    Raises StoreError when the store cannot be read.
    """
    if (content := store.load_estimate()) is None:
        return None
    try:
        return estimates_from_bytes(content)
    except Exception as error:  # zipfile, zlib, numpy and json each raise their own
        logger.warning("the estimate of %s is damaged, and of no use: %s", store.url, error)
        return None
