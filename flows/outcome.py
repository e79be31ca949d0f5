"""What one run did, day by day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from flows.cluster.stream import JobsFailed
from flows.plan.generation import SlotPlan
from flows.stages.estimate import GroupEstimate, PairVerdict
from flows.stages.group_matches import EngineTime


@dataclass(frozen=True)
class SlotOutcome:
    """What one run did for one day."""

    slot: SlotPlan
    estimates: tuple[GroupEstimate, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)  # scene id to reason
    tiles: int = 0  # tried in this run; 0 when a killed run had left the estimates
    failed_tiles: Mapping[str, str] = field(default_factory=dict)  # name to reason
    engine: EngineTime = field(default_factory=EngineTime)
    shards: int = 0
    shards_written: int = 0
    shards_kept: int = 0
    failed_shards: Mapping[str, str] = field(default_factory=dict)  # name to reason
    failure: str | None = None  # why the day is not published, where it should be

    def with_shards(self, *, written: int, kept: int, missing: int = 0) -> Self:
        """Composed: `kept` shards are an earlier run's, `missing` ones were given up."""
        shards = written + kept + missing
        return replace(self, shards=shards, shards_written=written, shards_kept=kept)

    def failed(self, error: Exception) -> Self:
        """The day was given up."""
        reasons = {}
        if isinstance(error, JobsFailed):
            reasons = {name: given_up.reason for name, given_up in error.failed.items()}
        return replace(self, failure=" ".join(str(error).split()), failed_shards=reasons)

    @property
    def verdicts(self) -> tuple[PairVerdict, ...]:
        return tuple(verdict for estimate in self.estimates for verdict in estimate.verdicts)

    @property
    def accepted(self) -> int:
        """How many pairs were."""
        return sum(verdict.accepted for verdict in self.verdicts)
