"""Small regions for the tests of the flow: drawn by the demo, planned like any other."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from rich.console import Console

from catalog.archives.items import Scene
from catalog.archives.search import catalog_api, search
from flows.cli.demo import demo_request, run_demo
from flows.cli.demo_region import OPTICAL_COLLECTION, SAR_COLLECTION, DemoRegion, write_region
from flows.plan.plan import Plan, plan_region
from flows.plan.request import RegionRequest
from flows.report.schema import encode_report

WEIGHTS_HASH = "0" * 64


@dataclass(frozen=True)
class DemoRun:
    """What `tar-pipeline demo` left, its report as programs read it, and what it told."""

    region: DemoRegion
    store: Path
    report: dict[str, Any]
    told: str

    @property
    def day(self) -> str:
        return str(self.report["slots"][0]["slot"])


def run_small_demo(folder: Path) -> DemoRun:
    """The demo, 400 px squared: one tile, one shard; so one worker is enough."""
    region = write_region(folder / "scenes", size_px=400)
    text = io.StringIO()
    with patch("flows.cluster.workers.MAX_WORKERS", 1):
        report = run_demo(folder, Console(file=text, width=160), size_px=400)
    content = json.loads(encode_report(report))
    return DemoRun(region, folder / "mosaic", content, text.getvalue())


def request_of(region: DemoRegion, store: Path | str, **changes: Any) -> RegionRequest:
    """The demo's request, with changes, checked like one that a person typed."""
    values = demo_request(region, store).model_dump()
    return RegionRequest.of(**{**values, **changes})


def arguments_of(request: RegionRequest) -> list[str]:
    """The request on the command line."""
    options = {
        "catalog": [request.catalog], "optical": [request.optical], "sar": [request.sar],
        "bbox": [*map(str, request.bbox)], "start": [str(request.start)],
        "end": [str(request.end)], "store": [request.store], "region": [request.region],
    }  # fmt: skip
    if request.scheduler is not None:
        options["scheduler"] = [request.scheduler]
    if request.resolution is not None:
        options["resolution"] = [str(request.resolution)]
    return ["run", *(word for name, words in options.items() for word in (f"--{name}", *words))]


def plan_of(region: DemoRegion, store: Path, **changes: Any) -> Plan:
    """The plan of `request_of`, without the checkpoint."""
    return plan_region(request_of(region, store, **changes), WEIGHTS_HASH)


def last_flow_run() -> FlowRun:
    """The run that Prefect saw start last."""
    with get_client(sync_client=True) as api:
        (run,) = api.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
    return run


def scenes_of(region: DemoRegion) -> dict[str, Scene]:
    """All scenes of a region by id, through the embedded API."""
    request = demo_request(region, Path("/nowhere"))
    with catalog_api(request.catalog) as url:
        return {
            scene.id: scene
            for collection in (OPTICAL_COLLECTION, SAR_COLLECTION)
            for scene in search(url, collection, request.bbox, request.start, request.end)
        }


def without_cubes(files: dict[str, tuple[int, bytes]]) -> dict[str, tuple[int, bytes]]:
    """Those whose names and bytes do not depend on where and when they were written."""
    return {name: each for name, each in files.items() if "/cube/" not in name}


def files_under(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, and what is in it."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
