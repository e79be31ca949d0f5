"""Find the scenes of a region, register SAR to optical, leave one mosaic per day: one Prefect run.

    wait for the region's turn ─▶ plan ─▶ run_region ─▶ the flow's final state

A run ends Completed when all it promised is published. Else its state is of type FAILED: called
Partial where some days are published, or all of them, but without the matches of some tiles; Failed
where none is. Either way the report says what failed and why, and the same request tries just that
again. Which of these it was is a value, never an exception: the `RunResult`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from httpx import HTTPError
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun, PrefectException
from prefect.settings import (
    PREFECT_CLIENT_MAX_RETRIES,
    get_current_settings,
    temporary_settings,
)
from prefect.states import Cancelled, Completed, Failed

from catalog.errors import shown
from flows.cluster.lease import region_lease
from flows.plan.plan import Plan, PlanError
from flows.plan.request import RegionRequest
from flows.prefect_server import PATIENT, CancelledThere, answers, heeding_cancellation
from flows.progress import Stopwatch
from flows.report.workload import require_room
from flows.run_region import RunResult, run_region
from flows.tasks import plan_run, renew_plan

CANCELLED = "cancelled in Prefect; what is finished is kept"
logger = logging.getLogger(__name__)


class PrefectLost(RuntimeError):
    """Prefect's server is gone, or knows nothing of a run any more, before the run is done."""


class RunCancelled(RuntimeError):
    """Somebody cancelled the run in Prefect before it was done; what is finished is kept."""


def register_region(request: RegionRequest) -> RunResult:
    """Register the SAR scenes of a region to its optical scenes; one mosaic per day.

    A flow run of its own, or a subflow inside another flow. A rerun of a finished request writes
    nothing.

    Raises `flows.plan.plan.PlanError` when nothing can be done, `PrefectLost` when its server was
    lost before all was done, `RunCancelled` when it was cancelled there before; a run that is done
    by then is done. Anything else that was promised and not delivered is in the result, and what
    was finished is kept.
    """
    return _as_flow_run(request, _plan_and_run)


def register_plan(plan: Plan, clock: Stopwatch) -> RunResult:
    """`register_region` for who has planned already, on a clock that may have started with that.

    Nothing is searched again. What is published is looked at once more when the region's turn has
    come: a run that this one waited for may have made days of the plan.

    Raises `PlanError` at once when the store has no room for what is left to do.
    """
    require_room(plan)

    def work(_request: RegionRequest) -> RunResult:
        with clock("plan"):
            renewed = renew_plan(plan)
        return run_region(renewed, clock)

    return _as_flow_run(plan.request, work)


def register_inside_flow(request: RegionRequest) -> RunResult:
    """`register_region` as part of the flow that calls it: all of it shows on that flow's page."""
    with region_lease(request.store, request.region):
        return _plan_and_run(request)


def final_state(result: RunResult) -> State[Any]:
    """The Prefect state of a flow that came to this result."""
    if result.ending == "Completed":
        return Completed(message=result.summary)
    return Failed(name=result.ending, message=result.summary)


def require_server() -> None:
    """Raise `PlanError` when a Prefect server was named and does not answer, nor in a while."""
    if not answers(PATIENT):
        raise PlanError(
            f"PREFECT_API_URL: no Prefect server answers at "
            f"{shown(get_current_settings().api.url or '')}; start it, or unset PREFECT_API_URL, "
            "and the run starts one of its own"
        )


def _plan_and_run(request: RegionRequest) -> RunResult:
    clock = Stopwatch()
    with clock("plan"):
        plan = plan_run(request)
        require_room(plan)
    return run_region(plan, clock)


def _as_flow_run(request: RegionRequest, work: Callable[[RegionRequest], RunResult]) -> RunResult:
    """Do the work as a run of the flow `register-region`, whose only parameter is the request.

    Prefect stores parameters as JSON and knows a result by its state, so neither a plan nor the
    `RunResult` goes through it.
    """
    require_server()
    results: list[RunResult] = []
    impatient = ExitStack()

    @flow(name="register-region", flow_run_name="{request.region} {request.start} {request.end}")
    def register(request: RegionRequest) -> State[Any]:
        """Register the SAR scenes of a region to its optical scenes; one mosaic per day."""
        try:
            with heeding_cancellation(), region_lease(request.store, request.region):
                try:
                    results.append(work(request))
                finally:
                    if not answers(PATIENT):  # or each last word to it is tried for a minute
                        impatient.enter_context(temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}))
        except CancelledThere:
            if not results:
                return Cancelled(message=CANCELLED)
        return final_state(results[0])

    try:
        with impatient:
            state = register(request, return_state=True)
        if not results:
            state.result()  # raises what stopped the flow
        elif state.is_cancelling():  # which came too late, and lets no run end as what it is
            _force(state, final_state(results[0]))
    except CancelledRun as error:
        raise RunCancelled(f"{CANCELLED}, and the same request continues") from error
    except (HTTPError, PrefectException) as error:
        if not results:
            raise PrefectLost(
                f"Prefect lost this run ({type(error).__name__}): its server is gone, or the run "
                "was deleted there; what is finished is kept, and the same request continues"
            ) from error
        logger.warning("Prefect cannot be told the end of this run: %s", type(error).__name__)
    return results[0]


def _force(state: State[Any], ending: State[Any]) -> None:
    """Let the run that is in one state end in another, whatever Prefect's rules say."""
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, ending, force=True)
