"""`reports/{day}.html`: one day for people, in one file that needs neither server nor network.

A close look at full resolution, to swipe between SAR as delivered and SAR registered, over the
optical image; maps of what was moved, how sure that is and what became of each pixel; every pair
with its reason; where it all comes from. Maps are read from an overview, so memory is bounded.
"""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
import xarray as xr
from PIL import Image
from scipy import ndimage

from catalog import objects
from catalog.errors import SceneReadError
from catalog.grid import Window
from catalog.store import days
from catalog.store.open import open_undivided
from catalog.store.schema import QUALITY
from flows.colours import ANY_COLOUR, COLOURS
from flows.outcome import SlotOutcome
from flows.plan.generation import SlotPlan
from flows.plan.plan import Plan, provenance, slot_store
from flows.report.preview import (
    DESPECKLE_PX,
    choose_detail,
    load_overview,
    read_bands,
    read_delivered_sar,
    stretch_colour,
    stretch_limits,
)
from flows.report.report import load_earlier_outcomes
from flows.stages.estimate import PairVerdict

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

DETAIL_PX = 512  # side of the close look, at full resolution
MAP_PX = 600  # longest side of a map, at most
ARROWS = 18  # along the longest side of a map
SHORTEST_ARROW = 0.12  # of the longest; shorter ones would be nothing but a head
JPEG_QUALITY = 88
STOPS = 12  # of a legend's gradient
TEMPLATE = Path(__file__).with_name("slot_report.html")


@dataclass(frozen=True)
class Legend:
    """A colour bar: CSS colours from `low` to `high`, and what the numbers are."""

    colours: str
    low: str
    high: str


@dataclass(frozen=True)
class Map:
    """A picture with a title; `legend` of a measured quantity, `classes` of flags."""

    title: str
    alt: str
    picture: str
    width: int
    height: int
    legend: Legend | None = None
    classes: Sequence[tuple[str, str, str]] = ()  # colour, meaning, share
    arrows: Sequence[tuple[float, float, float, float]] = ()  # x1, y1, x2, y2 in picture pixels
    note: str = ""


@dataclass(frozen=True)
class CloseLook:
    """Three pictures of one window; `before` is missing when the SAR cannot be read any more."""

    optical: str
    before: str | None
    after: str
    width: int
    height: int
    metres: int | None
    """Side of the window, where the CRS counts metres."""


def save_pages(plan: Plan, outcomes: Sequence[SlotOutcome]) -> None:
    """Put a page for every day that was published, beside the mosaic.

    Those too that an earlier run published and did not live to describe.

    Raises `StoreError`.
    """
    made = {outcome.slot.slot for outcome in outcomes}
    earlier = [slot for slot in plan.slots if slot.published and slot.slot not in made]
    left = {slot.slot for slot in earlier if not _is_described(plan, slot)}
    for outcome in (*outcomes, *load_earlier_outcomes(plan, left)):
        if outcome.failure is None and outcome.slot.groups:
            objects.put(page_url(plan, outcome.slot), render_page(plan, outcome))


def _is_described(plan: Plan, slot: SlotPlan) -> bool:
    """Whether a day has its page, and not that of a generation that was replaced."""
    return slot.generation.encode() in (objects.get(page_url(plan, slot)) or b"")


def page_url(plan: Plan, slot: SlotPlan) -> str:
    """Where the page of a day lies."""
    return days.page_url(plan.mosaic_url, slot.slot)


def render_page(plan: Plan, outcome: SlotOutcome) -> bytes:
    """The page of one published day: the same day gives the same bytes, wherever the store is.

    Raises `StoreError`.
    """
    slot = outcome.slot
    mosaic = open_undivided(slot_store(plan, slot).url)
    factor, small = load_overview(plan, slot, MAP_PX, ("dx", "dy", "expected_error", "quality"))
    window = choose_detail(mosaic, small, slot, factor, DETAIL_PX)
    page = _load_template().render(
        title=f"{plan.request.region}, {slot.slot}: {_name_kind(slot)}",
        region=plan.request.region,
        day=slot.slot,
        accepted=outcome.accepted,
        pairs=[
            _describe_pair(verdict)
            for verdict in sorted(outcome.verdicts, key=lambda v: v.accepted)
        ],
        unreadable=sorted(outcome.unreadable.items()),
        look=_take_close_look(plan, slot, mosaic, window),
        maps=[
            _map_displacement(small),
            _map_error(small),
            _map_quality(small),
        ],
        scenes=_describe_scenes(slot),
        provenance=_describe_source(plan, slot),
    )
    return page.encode()


def _name_kind(slot: SlotPlan) -> str:
    return "SAR registered to optical" if slot.optical else "SAR registered by memory, no optical"


def _load_template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _take_close_look(plan: Plan, slot: SlotPlan, mosaic: xr.Dataset, window: Window) -> CloseLook:
    after = read_bands(mosaic, slot.sar_bands[:1], window)[0]
    try:
        before = read_delivered_sar(slot, plan.lattice, window)
    except SceneReadError as error:
        logger.warning("the report of %s has no picture of the SAR as delivered: %s", slot.slot,
                       error)  # fmt: skip
        before = None
    limits = stretch_limits(after if before is None else before)
    colour = stretch_colour(read_bands(mosaic, slot.optical_bands, window))
    metres = plan.lattice.crs.axis_info[0].unit_name == "metre"
    return CloseLook(
        optical=_jpeg(_to_bytes(colour)),
        before=None if before is None else _png(_paint_grey(before, limits)),
        after=_png(_paint_grey(after, limits)),
        width=window.width,
        height=window.height,
        metres=round(window.width * plan.lattice.resolution) if metres else None,
    )


def _paint_grey(sar: Floats, limits: tuple[float, float]) -> Image.Image:
    """Grey values, transparent where nothing is known; less speckle shows borders better."""
    low, high = limits
    known = np.isfinite(sar)
    smooth = ndimage.gaussian_filter(np.where(known, sar, low), DESPECKLE_PX)
    grey = _to_bytes(np.clip((smooth - low) / (high - low), 0.0, 1.0))
    return Image.fromarray(np.stack([grey, np.where(known, 255, 0).astype(np.uint8)], axis=-1))


def _map_displacement(small: xr.Dataset) -> Map:
    dx, dy = small["dx"].values, small["dy"].values
    length = np.hypot(dx, dy)
    picture, legend = _colour(length, "viridis")
    moved = length[np.isfinite(length)]
    median = f" Median {np.median(moved):.2f} px." if moved.size else " Nothing was registered."
    return Map(
        title="Displacement that was applied",
        alt="Map of how far the SAR image was moved, by colour, with arrows." + median,
        picture=picture, width=length.shape[1], height=length.shape[0], legend=legend,
        arrows=_draw_arrows(dx, dy),
        note="Arrows point from the optical position to where SAR had put it; their length is "
        f"exaggerated.{median}{_explain_gaps(length)}",
    )  # fmt: skip


def _map_error(small: xr.Dataset) -> Map:
    error = small["expected_error"].values
    picture, legend = _colour(error, "magma")
    known = error[np.isfinite(error)]
    worst = f" At worst {known.max():.2f} px." if known.size else " Nothing was registered."
    return Map(
        title="Expected error of the registration",
        alt="Map of the expected error, by colour." + worst,
        picture=picture, width=error.shape[1], height=error.shape[0], legend=legend,
        note=f"{worst.strip()}{_explain_gaps(error)}",
    )  # fmt: skip


def _map_quality(small: xr.Dataset) -> Map:
    quality = small["quality"].values
    colours = [COLOURS.get(name, ANY_COLOUR) for name in QUALITY]
    palette = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours], np.uint8)
    shares = [float((quality == value).mean()) for value in range(len(QUALITY))]
    legend = [
        (colour, name.replace("_", " "), f"{share:.1%}")
        for share, name, colour in sorted(zip(shares, QUALITY, colours, strict=True), reverse=True)
        if share > 0
    ]
    return Map(
        title="What became of each pixel",
        alt="Map of pixel quality: " + ", ".join(f"{share} {name}" for _, name, share in legend),
        picture=_png(Image.fromarray(palette[quality])),
        width=quality.shape[1], height=quality.shape[0], classes=legend,
    )  # fmt: skip


def _explain_gaps(values: Floats) -> str:
    """What a reader has to know of a map with holes."""
    known = np.isfinite(values)
    return " White: nothing was registered there." if known.any() and not known.all() else ""


def _colour(values: Floats, colours: str) -> tuple[str, Legend | None]:
    """A picture from 0 to almost the largest value, transparent where unknown; and its legend."""
    import matplotlib

    known = np.isfinite(values)
    high = largest = 1e-3
    if known.any():
        largest = max(largest, float(values[known].max()))
        high = max(high, float(np.quantile(values[known], 0.99)))
    colormap = matplotlib.colormaps[colours]
    shares = np.clip(np.nan_to_num(values) / high, 0.0, 1.0)
    rgba = np.asarray(colormap(shares, bytes=True), np.uint8).copy()
    rgba[~known, 3] = 0
    stops = [matplotlib.colors.to_hex(colormap(i / (STOPS - 1))) for i in range(STOPS)]
    beyond = " or more" if largest > 1.005 * high else ""
    legend = Legend(", ".join(stops), "0 px", f"{high:.2f} px{beyond}")
    return _png(Image.fromarray(rgba)), legend if known.any() else None


def _draw_arrows(dx: Floats, dy: Floats) -> list[tuple[float, float, float, float]]:
    height, width = dx.shape
    every = max(1, max(height, width) // ARROWS)
    rows, columns = np.mgrid[every // 2 : height : every, every // 2 : width : every]
    u, v = dx[rows, columns], dy[rows, columns]
    shown = np.isfinite(u) & np.isfinite(v)
    if not shown.any():
        return []
    longest = float(np.quantile(np.hypot(u, v)[shown], 0.95)) or 1.0
    scale = 0.9 * every / longest
    shown &= np.hypot(u, v) > SHORTEST_ARROW * longest
    return [
        (round(float(x), 1), round(float(y), 1), round(float(x + scale * a), 1),
         round(float(y + scale * b), 1))
        for x, y, a, b in zip(columns[shown], rows[shown], u[shown], v[shown], strict=True)
    ]  # fmt: skip


def _describe_pair(verdict: PairVerdict) -> dict[str, Any]:
    def pixels(value: float) -> str:
        return f"{value:.2f}" if np.isfinite(value) else "–"

    return {
        "optical": verdict.optical or "–",
        "sar": verdict.sar,
        "accepted": verdict.accepted,
        "displacement": pixels(verdict.median_displacement_px),
        "error": pixels(verdict.expected_error_px),
        "matches": verdict.matches,
        "reason": verdict.reason,
    }


def _describe_scenes(slot: SlotPlan) -> list[dict[str, str]]:
    """Every scene once, optical first."""
    scenes = [("optical", s) for s in slot.optical] + [("SAR", s) for s in slot.sar]
    return [
        {
            "sensor": sensor,
            "id": scene.id,
            "time": scene.datetime.strftime("%Y-%m-%d %H:%M:%S UTC"),
            "platform": scene.platform or "–",
            "orbit": " ".join(
                str(part) for part in (scene.orbit_state, scene.relative_orbit) if part is not None
            )
            or "–",
        }
        for sensor, scene in scenes
    ]


def _describe_source(plan: Plan, slot: SlotPlan) -> list[tuple[str, str]]:
    source = provenance(plan, slot)
    height, width = plan.lattice.shape
    unit = plan.lattice.crs.axis_info[0].unit_name.replace("metre", "m")
    return [
        ("software", source["software"]),
        ("weights (SHA-256)", source["weights_sha256"]),
        ("configuration", json.dumps(source["configuration"], sort_keys=True)),
        ("generation", slot.generation),
        *([("memory", json.dumps(source["memory"], sort_keys=True))] if slot.memory else []),
        ("pixels", f"{width} × {height} of {plan.lattice.resolution:g} {unit}"),
        ("reference system", plan.lattice.crs_code or plan.lattice.crs.name),
        ("bands", ", ".join((*slot.optical_bands, *slot.sar_bands))),
    ]


def _to_bytes(shares: npt.NDArray[Any]) -> Bytes:
    return np.asarray(np.round(255 * shares), np.uint8)


def _jpeg(rgb: Bytes) -> str:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="jpeg", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
