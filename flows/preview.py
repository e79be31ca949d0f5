"""The picture of a mosaic: where SAR was moved, and a close look before and after.

Only thinned-out rows and columns of the mosaic and one small window are ever in memory.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy import ndimage

from catalog.errors import SceneReadError
from catalog.grid import Lattice, Window
from catalog.read import read_window
from flows.compose import ABSTAINED, NO_SAR, REGISTERED
from flows.plan import Plan, SlotPlan, slot_store
from flows.report import SlotOutcome

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float32]

OVERVIEW_PX = 900  # longest side of the overview
DETAIL_PX = 320  # side of the close look
CANDIDATES = 40  # for the close look
CHECKER_PX = 64
VISIBLE_PX = 3.0  # more displacement than this is not seen any better
DESPECKLE_PX = 1.2  # the eye follows borders better through less speckle
ARROWS = 22  # along the longest side
REFUSED_COLOUR = "#d7263d"
ARROW_COLOUR = "#ffb000"


def draw_preview(plan: Plan, outcomes: Sequence[SlotOutcome]) -> bytes | None:
    """The picture of the day with most accepted pairs; None when there is none to draw.

    The mosaic is published by now: a scene that cannot be read any more costs only the picture.
    """
    composed = [outcome for outcome in outcomes if outcome.slot.pairs]
    if not composed:
        return None
    best = max(composed, key=lambda outcome: (outcome.accepted, outcome.slot.slot))
    title = (
        f"{plan.request.region}, {best.slot.slot}: {best.accepted} of {len(best.verdicts)} "
        "pairs registered"
    )
    try:
        return preview_png(slot_store(plan, best.slot).open(), plan.lattice, best.slot, title)
    except SceneReadError as error:
        logger.warning("no preview.png was drawn: %s", error)
        return None


def preview_png(mosaic: xr.Dataset, lattice: Lattice, slot: SlotPlan, title: str) -> bytes:
    """One picture of one day: `mosaic` has dims (y, x), its variables are read as needed."""
    height, width = lattice.shape
    step = max(1, round(max(height, width) / OVERVIEW_PX))
    thin = mosaic.isel(y=slice(step // 2, None, step), x=slice(step // 2, None, step))
    thin = thin[[*slot.optical_bands, "dx", "dy", "quality"]].compute()
    detail = detail_window(mosaic, thin, slot, step)

    figure = Figure(figsize=(15, 5.6), layout="constrained")
    overview, before, after = figure.subplots(1, 3)
    _draw_overview(overview, thin, slot, detail, step)
    optical = stack(mosaic, slot.optical_bands, detail)
    colour = as_colour(optical)
    registered = stack(mosaic, slot.sar_bands[:1], detail)[0]
    as_delivered = delivered_sar(slot, lattice, detail)
    limits = limits_of(as_delivered)
    _draw_checkerboard(before, colour, as_delivered, limits, "before: SAR as delivered")
    _draw_checkerboard(after, colour, registered, limits, "after: SAR registered")
    figure.suptitle(title, fontsize=13)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def detail_window(
    mosaic: xr.Dataset, thin: xr.Dataset, slot: SlotPlan, step: int, side_px: int = DETAIL_PX
) -> Window:
    """Of the squares that were moved most, the one whose borders show best in both sensors."""
    height, width = mosaic["quality"].shape
    side = min(side_px, height, width)
    corners = _most_moved(thin, max(1, side // step))
    squares = [
        Window(min(row * step, height - side), min(column * step, width - side), side, side)
        for row, column in corners
    ]
    middle = Window((height - side) // 2, (width - side) // 2, side, side)
    return max(squares, key=lambda square: _agreement(mosaic, slot, square), default=middle)


def _most_moved(thin: xr.Dataset, cells: int) -> list[tuple[int, int]]:
    """Corners (row, column) of squares of registered cells, the most displaced first."""
    moved = np.hypot(thin["dx"].values, thin["dy"].values)
    usable = (thin["quality"].values == REGISTERED) & np.isfinite(moved)
    stride = max(1, cells // 2)
    found = []
    for row in range(0, max(1, moved.shape[0] - cells + 1), stride):
        for column in range(0, max(1, moved.shape[1] - cells + 1), stride):
            block = (slice(row, row + cells), slice(column, column + cells))
            if usable[block].mean() > 0.999:
                found.append((float(np.nanmean(moved[block])), (row, column)))
    found.sort(key=lambda each: -each[0])
    return [corner for _, corner in found[:CANDIDATES]]


def _agreement(mosaic: xr.Dataset, slot: SlotPlan, window: Window) -> float:
    """Correlation of the edges of both sensors, for squares moved enough to see it."""
    optical = stack(mosaic, slot.optical_bands[:1], window)[0]
    sar = stack(mosaic, slot.sar_bands[:1], window)[0]
    edges = [
        ndimage.gaussian_gradient_magnitude(np.nan_to_num(image), 2.5).ravel()
        for image in (optical, sar)
    ]
    moved = np.hypot(*stack(mosaic, ("dx", "dy"), window))
    with np.errstate(invalid="ignore"):  # an even surface has no edges to correlate
        correlation = np.nan_to_num(np.corrcoef(*edges)[0, 1])
    return float(correlation * min(VISIBLE_PX, np.nanmean(moved)))


def _draw_overview(axes: Axes, thin: xr.Dataset, slot: SlotPlan, detail: Window, step: int) -> None:
    """Optical in colour, displacement as arrows, refusals in red, the detail as a frame."""
    bands = np.stack([thin[band].values for band in slot.optical_bands])
    grey = as_colour(bands).mean(axis=-1)
    axes.imshow(0.1 + 0.6 * grey, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    quality = thin["quality"].values
    for value, colour, alpha in ((ABSTAINED, REFUSED_COLOUR, 0.45), (NO_SAR, "white", 0.55)):
        shade = np.ma.masked_not_equal(quality, value)
        axes.imshow(shade, cmap=ListedColormap([colour]), alpha=alpha, interpolation="nearest")
    every = max(1, max(quality.shape) // ARROWS)
    rows, columns = np.mgrid[every // 2 : quality.shape[0] : every,
                             every // 2 : quality.shape[1] : every]  # fmt: skip
    dx, dy = thin["dx"].values[rows, columns], thin["dy"].values[rows, columns]
    shown = np.isfinite(dx)
    if shown.any():
        length = float(np.quantile(np.hypot(dx, dy)[shown], 0.95)) or 1.0
        arrows = axes.quiver(
            columns[shown], rows[shown], dx[shown], dy[shown], color=ARROW_COLOUR,
            angles="xy", scale_units="xy", scale=length / (1.4 * every), width=0.004,
        )  # fmt: skip
        axes.quiverkey(arrows, 0.86, 1.03, length, f"{length:.1f} px", labelpos="E")
    x, y, side = detail.x0 / step, detail.y0 / step, detail.width / step
    axes.plot([x, x + side, x + side, x, x], [y, y, y + side, y + side, y], "w-", linewidth=1.5)
    handles = [Patch(color=REFUSED_COLOUR, alpha=0.45, label="refused")]
    if (quality == ABSTAINED).any():
        axes.legend(handles=handles, loc="lower right", frameon=True, fontsize=9)
    _finish(axes, "how far SAR lay from optical")


def _draw_checkerboard(
    axes: Axes, colour: Floats, sar: Floats, limits: tuple[float, float], title: str
) -> None:
    """Squares of optical (colour) and SAR (grey) by turns: borders run through where they agree."""
    low, high = limits
    smooth = ndimage.gaussian_filter(np.nan_to_num(sar, nan=low), DESPECKLE_PX)
    grey = np.clip((smooth - low) / (high - low), 0.0, 1.0)
    rows, columns = np.indices(sar.shape) // CHECKER_PX
    squares = ((rows + columns) % 2 == 0)[..., None]
    axes.imshow(np.where(squares, colour, grey[..., None].repeat(3, -1)), interpolation="nearest")
    _finish(axes, title)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_xticks([])
    axes.set_yticks([])


def delivered_sar(slot: SlotPlan, lattice: Lattice, window: Window) -> Floats:
    """SAR on the lattice where its own georeference puts it."""
    scenes = tuple(scene for group in slot.groups for scene in group.sar)
    return np.asarray(read_window(scenes, lattice, window, slot.sar_bands[:1])[0])


def stack(mosaic: xr.Dataset, bands: tuple[str, ...], window: Window) -> Floats:
    rows, columns = window.slices
    part = mosaic[list(bands)].isel(y=rows, x=columns).compute()
    return np.stack([np.asarray(part[band].values, np.float32) for band in bands])


def as_colour(bands: Floats) -> Floats:
    """(bands, H, W) to (H, W, 3) in 0..1: red, green, blue if there are three, else grey."""
    chosen = bands[:3] if len(bands) >= 3 else bands[:1].repeat(3, axis=0)
    low, high = limits_of(chosen)
    stretched = np.clip((np.nan_to_num(chosen, nan=high) - low) / (high - low), 0.0, 1.0)
    return np.asarray(np.moveaxis(stretched, 0, -1), np.float32)


def limits_of(values: npt.NDArray[Any]) -> tuple[float, float]:
    """A stretch that leaves out 2 % at both ends."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return 0.0, 1.0
    low, high = np.quantile(known, (0.02, 0.98))
    return float(low), float(max(high, low + 1e-6))
