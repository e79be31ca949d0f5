"""By hand, from the Prefect UI or API: one region, one span of days, a dry run first.

The request is the form: Prefect makes its fields, their limits and their help of the fields of
`RegionRequest`, and its server refuses what does not fit before a run is made.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.plan.plan import plan_request
from flows.plan.request import RegionRequest
from flows.register_region import final_state, register_inside_flow
from flows.report import artifacts


@flow(name="on-demand", flow_run_name="{request.region} {request.start} to {request.end}")
def on_demand(request: RegionRequest, dry_run: bool = True) -> State[Any]:
    """Register the SAR scenes of a region to its optical scenes; one mosaic per day.

    The first run is a dry run: it shows as artifacts which scenes pair, which do not and why, and
    what the work comes to. Run it again with dry_run switched off to do it. The same request again
    continues where a run stopped, and does nothing once all is published.

    Args:
        request: one region and one span of days; paths are those of the worker
        dry_run: only plan, write nothing; switch it off to register
    """
    if dry_run:
        plan = plan_request(request)
        artifacts.show_plan(plan)
        return Completed(
            message=f"Dry run: pairs: {len(plan.pairs)}, days: {len(plan.slots)}, of which to do: "
            f"{len(plan.unfinished)}. Nothing was written."
        )
    return final_state(register_inside_flow(request))
