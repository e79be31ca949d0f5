"""By hand, from the Prefect UI or API: one region, one span of days, a dry run first.

The signature is the form: Prefect makes its fields, their limits and their help from it, and its
server refuses what does not fit before a run is made.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import Field

from catalog.archives.pairs import BEST_ORBIT, ORBIT_POLICY
from flows.plan.plan import plan_request
from flows.plan.request import RegionRequest
from flows.register_region import final_state, register_inside_flow
from flows.report import artifacts

Text = Annotated[str, Field(min_length=1)]
Archive = Literal["stac", "earth-search", "planetary-computer", "copernicus"]
Longitude = Annotated[float, Field(ge=-180, le=180)]
Latitude = Annotated[float, Field(ge=-90, le=90)]


@flow(name="on-demand", flow_run_name="{region} {start} to {end}")
def on_demand(
    region: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]*$", examples=["bolzano"])],
    west: Longitude,
    south: Latitude,
    east: Longitude,
    north: Latitude,
    start: date,
    end: date,
    store: Text,
    provider: Archive = "stac",
    catalog: str = "",
    optical: str = "",
    sar: str = "",
    bands: str = "",
    dry_run: bool = True,
    resolution_m: Literal[10, 20, 60] = 10,
    max_cloud_cover: Annotated[float, Field(ge=0, le=100)] = 80,
    orbit: Annotated[str, Field(pattern=f"^({ORBIT_POLICY})$")] = BEST_ORBIT,
    dem: str = "",
    max_gap_days: Annotated[float, Field(ge=0, le=365)] = 6,
    scheduler: Annotated[str, Field(pattern="^((tcp|tls)://.+)?$")] = "",
) -> State[Any]:
    """Register the SAR scenes of a region to its optical scenes; one mosaic per optical day.

    The first run is a dry run: it shows as artifacts which scenes pair, which do not and why, and
    what the work comes to. Run it again with dry_run switched off to do it. The same request again
    continues where a run stopped, and does nothing once all is published.

    Args:
        region: Name of the region in the store: lower-case letters, digits, - and _.
        west: Western edge, degrees of longitude.
        south: Southern edge, degrees of latitude.
        east: Eastern edge, degrees of longitude.
        north: Northern edge, degrees of latitude.
        start: First day.
        end: Last day, inclusive.
        store: Where mosaics go: a folder on the worker or s3://bucket/prefix. Credentials come
            from the worker's environment, never from here.
        provider: The archive; "stac" is any STAC API, which catalog then names.
        catalog: STAC API URL, or the path of an ItemCollection JSON on the worker; left empty, that
            of the provider.
        optical: Collection of the optical scenes; left empty, the provider's, or sentinel-2-l2a.
        sar: Collection of the SAR scenes; left empty, the provider's, or sentinel-1-rtc.
        bands: Optical bands by common name, with spaces between them; left empty, red green blue
            nir.
        dry_run: Only plan, write nothing. Switch it off to register.
        resolution_m: Pixel size of the mosaic, metres.
        max_cloud_cover: Optical scenes with more cloud are left out, percent.
        orbit: Of the SAR scenes: best, ascending, descending, or the number of a relative orbit.
        dem: Collection of a DEM, such as cop-dem-glo-30, to correct terrain in GRD scenes; left
            empty, none.
        max_gap_days: Longest time between an optical scene and its SAR partner, days.
        scheduler: tcp:// address of a Dask scheduler; left empty, the worker's own machine.
    """
    plain = provider == "stac"
    request = RegionRequest.of(
        region=region, bbox=(west, south, east, north), start=start, end=end, store=store,
        provider=None if plain else provider, catalog=catalog or None,
        optical=optical or ("sentinel-2-l2a" if plain else None),
        sar=sar or ("sentinel-1-rtc" if plain else None),
        bands=tuple(bands.split()) or None, resolution=resolution_m,
        max_cloud_cover=max_cloud_cover, orbit=orbit, dem=dem or None,
        max_gap_days=max_gap_days, scheduler=scheduler or None,
    )  # fmt: skip
    if dry_run:
        plan = plan_request(request)
        artifacts.show_plan(plan)
        return Completed(
            message=f"Dry run: pairs: {len(plan.pairs)}, days: {len(plan.slots)}, of which to do: "
            f"{len(plan.unfinished)}. Nothing was written."
        )
    return final_state(register_inside_flow(request))
