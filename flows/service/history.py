"""What Prefect remembers of a night and of those before it: the only state between nights."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

SAME_ASKED = ("regions_file", "until", "only")  # parameters by which runs are nights of one series
RUNS_LOOKED_AT = 200  # Prefect's most for one question
ENDED = ("COMPLETED", "FAILED", "CRASHED")  # a run that was cancelled tells nothing of its regions


@dataclass(frozen=True)
class Nights:
    """One night, and those of the same series that were due by now, the latest first."""

    this: FlowRun
    others: tuple[FlowRun, ...]

    @property
    def before(self) -> FlowRun | None:
        """The last night before this one that came to an end."""
        return next((run for run in self._earlier() if state_of(run) in ENDED), None)

    @property
    def last_kept(self) -> datetime | None:
        """When the last night before this one was due that made what it promised, or a part."""
        kept = (
            run for run in self._earlier() if run.state_name in ("Completed", "Quiet", "Partial")
        )
        return next((due(run) for run in kept), None)

    @property
    def successor(self) -> FlowRun | None:
        """The latest scheduled night, if it is due too: it covers this scheduled one's days."""
        if not self.this.auto_scheduled:
            return None
        later = [run for run in self.others if run.auto_scheduled and due(run) > due(self.this)]
        return next((run for run in later if state_of(run) not in ("CANCELLED", "CRASHED")), None)

    def _earlier(self) -> list[FlowRun]:
        return [run for run in self.others if due(run) <= due(self.this)]


def look_back() -> Nights:
    """This run, and the others of its flow that were asked for the same; inside a flow run."""
    with get_client(sync_client=True) as client:
        this = client.read_flow_run(runtime.flow_run.id)
        found = client.read_flow_runs(
            flow_filter=FlowFilter(id=FlowFilterId(any_=[this.flow_id])),
            flow_run_filter=FlowRunFilter(
                expected_start_time=FlowRunFilterExpectedStartTime.model_validate(
                    {"before_": datetime.now(UTC)}
                )
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=RUNS_LOOKED_AT,
        )
    others = [run for run in found if run.id != this.id and _series(run) == _series(this)]
    return Nights(this, tuple(others))


def state_of(run: FlowRun) -> str:
    """Its type, as Prefect writes it."""
    return run.state_type.value if run.state_type else ""


def due(run: FlowRun) -> datetime:
    """When a run was to start."""
    return run.expected_start_time or datetime.min.replace(tzinfo=UTC)


def _series(run: FlowRun) -> tuple[object, ...]:
    asked = [run.parameters.get(name) or None for name in SAME_ASKED]
    return run.deployment_id, *(tuple(a) if isinstance(a, list) else a for a in asked)
