"""Plans a region of a catalogue and reads all that is left of it: the program that is watched.

`python -m tests.hostile.read_all FILE`, where FILE is JSON: the request, and where its findings go.
One address of loopback stands for a server that everybody reaches, the others for what is inside.
"""

from __future__ import annotations

import io
import json
import resource
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from catalog import retrying
from catalog.archives import reach
from catalog.errors import CatalogError
from catalog.grid import Window
from catalog.outside import addresses, answers, gate
from catalog.pixels import rasters
from catalog.pixels.masks import optical_classes
from catalog.pixels.scene import read_scene
from flows.cli.commands.run import plan_values
from flows.plan.plan import Plan, plan_region
from flows.plan.request import RegionRequest
from flows.report.report import print_plan
from flows.report.workload import estimate_workload

EVERYBODYS = "127.0.0.1"
MOST_DATA_BYTES = 3 * 2**30  # more is refused by the kernel, so that a failure fells no machine


def main(file: Path) -> None:
    """Plan, tell, read; findings as JSON."""
    asked = json.loads(file.read_text())
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_DATA_BYTES, MOST_DATA_BYTES))
    for room in (addresses, answers, gate, reach):
        room.is_public = lambda address: address == EVERYBODYS  # type: ignore[attr-defined]
    retrying.FIRST_WAIT_SECONDS = 0.01
    rasters.GDAL_OPTIONS |= {"GDAL_HTTP_TIMEOUT": "5", "GDAL_HTTP_MAX_RETRY": "0"}
    before = _peak_mib()
    plan = plan_region(RegionRequest.of(**asked["request"]), "0" * 64)
    told = io.StringIO()
    print_plan(Console(file=told, width=120, force_terminal=True), plan, pairs=True)
    values = plan_values(plan)
    json.dumps(values | {"workload": asdict(estimate_workload(plan))})
    found = {
        "before_mib": before,
        "peak_mib": _peak_mib(),
        "read": _read_all(plan),
        "told": told.getvalue(),
        "left_out": values["unpaired"],
        "scenes": values["scenes"],
        "memory_mib": _peak_mib(),
    }
    Path(asked["findings"]).write_text(json.dumps(found))


def _read_all(plan: Plan) -> dict[str, int]:
    """How many scenes were read, and how many could not be, of those that the plan did not drop."""
    dropped = {each.id for each in plan.left_out if each.reason.startswith(("cannot", "is excl"))}
    counts: Counter[str] = Counter()
    height, width = plan.lattice.shape
    window = Window(0, 0, min(256, height), min(256, width))
    for scene in (*plan.optical, *plan.sar):
        if scene.unusable or scene.id in dropped:
            continue
        try:
            values = read_scene(scene, plan.lattice, window, scene.bands)
            optical_classes(scene, plan.lattice, window)
            counts["outside" if values is None else "read"] += 1
        except CatalogError:
            counts["unreadable"] += 1
    return dict(counts)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _main() -> Any:
    main(Path(sys.argv[1]))


if __name__ == "__main__":
    _main()
