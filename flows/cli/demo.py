"""`tar-pipeline demo`: make a region whose truth is known, run the whole pipeline, compare."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window
from rich.console import Console

import catalog
from flows.cli.demo_region import OPTICAL_COLLECTION, SAR_COLLECTION, DemoRegion, write_region
from flows.plan.request import RegionRequest, RequestError
from flows.register_region import register_region
from flows.report.report import print_result
from flows.report.save import save_report
from flows.report.schema import Report, Truth
from tar_engine.training.synthesis import PIXEL_M

REGION = "demo"


def run_demo(out: Path, console: Console, *, size_px: int = 1200) -> Report:
    """Generate, register, compare with the truth, tell. Returns the report, with `truth`.

    Raises `RequestError` when `out` cannot be made.
    """
    out = out.resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"out: {out} cannot be made a folder: {error.strerror}") from error
    with console.status("drawing a region: terrain, fields, forest, towns, a river"):
        region = write_region(out / "scenes", size_px=size_px)
    request = demo_request(region, out / "mosaic")
    result = register_region(request)
    if result.ending != "Completed":
        raise RuntimeError(result.summary)
    truth = error_against_truth(result.report.mosaic, region.truth)
    report = result.report.model_copy(update={"truth": truth})
    save_report(report.mosaic, report, picture=None)
    _print_summary(console, report, truth)
    return report


def demo_request(region: DemoRegion, store: Path | str) -> RegionRequest:
    """The same request that anyone would make of these scenes on the command line."""
    return RegionRequest.of(
        catalog=str(region.catalog),
        optical=OPTICAL_COLLECTION,
        sar=SAR_COLLECTION,
        bbox=region.bbox,
        start=region.start,
        end=region.end,
        store=str(store),
        region=REGION,
    )


def error_against_truth(mosaic_url: str, truth_tif: Path) -> Truth:
    """Median length, in pixels, of the true displacement and of what is left of it."""
    mosaic = catalog.open_mosaic(mosaic_url).isel(time=0)
    with rasterio.open(truth_tif) as truth:
        # Both grids are multiples of one pixel size, so the truth needs no resampling.
        column = round((float(mosaic.x[0]) - truth.bounds.left) / PIXEL_M - 0.5)
        row = round((truth.bounds.top - float(mosaic.y[0])) / PIXEL_M - 0.5)
        true_dx, true_dy = truth.read(window=Window(column, row, mosaic.x.size, mosaic.y.size))
    dx, dy = mosaic["dx"].values, mosaic["dy"].values
    registered = np.isfinite(dx)
    if not registered.any():
        raise RuntimeError(f"nothing of the drawn region was registered: see {mosaic_url}")
    before = np.hypot(true_dx, true_dy)[registered]
    after = np.hypot(dx - true_dx, dy - true_dy)[registered]
    return Truth(
        before_px=round(float(np.median(before)), 3),
        after_px=round(float(np.median(after)), 3),
        after_p90_px=round(float(np.quantile(after, 0.9)), 3),
        registered_share=round(float(registered.mean()), 4),
    )


def _print_summary(console: Console, report: Report, truth: Truth) -> None:
    """What an interested stranger wants to see."""
    scenes, pairs, mosaic = report.scenes, report.pairs, report.mosaic
    accepted = sum(pair.accepted for pair in pairs)
    console.print()
    print_result(console, report)
    console.print(
        f"""
[bold]A region with a known truth, registered[/]
  scenes found       {scenes.optical} optical, {scenes.sar} SAR
  pairs              {len(pairs)}: {accepted} accepted, {len(pairs) - accepted} refused
  misregistration    [red]{truth.before_px:.2f} px[/] before, \
[green]{truth.after_px:.2f} px[/] after (medians against the truth)
  time               {report.seconds["total"]:.0f} s

  mosaic             {mosaic}
  picture            {mosaic}/preview.png
  report             {mosaic}/report.json
  the day as a page  {mosaic}/reports/{report.slots[0].slot}.html

[bold]Open it[/]
  import catalog
  mosaic = catalog.open_mosaic({json.dumps(mosaic)})
  mosaic["vh"].isel(time=0).plot()

[bold]Your own region[/]
  tar-pipeline run --help""",
        highlight=False,
        soft_wrap=True,
    )
