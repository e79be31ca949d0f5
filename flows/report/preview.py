"""The picture of a mosaic: where SAR was moved, and a close look before and after.

Only an overview of the mosaic and a few small windows are ever in memory.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy import ndimage

from catalog.errors import SceneReadError
from catalog.grid import Lattice, Window
from catalog.pixels.composite import read_composite
from catalog.store.layout import overview_factors
from catalog.store.open import load_window, open_undivided
from catalog.store.schema import (
    ABSTAINED,
    NO_SAR,
    REGISTERED,
    REGISTERED_FROM_MEMORY,
    REGISTERED_RADAR_TO_RADAR,
)
from flows.outcome import SlotOutcome
from flows.plan.generation import SlotPlan
from flows.plan.plan import Plan, slot_store

if TYPE_CHECKING:
    from matplotlib.axes import Axes

logger = logging.getLogger(__name__)
Floats = npt.NDArray[np.float32]

OVERVIEW_PX = 900  # longest side of the overview
DETAIL_PX = 320  # side of the close look
CANDIDATES = 16  # for the close look
READERS = 4  # at a time: an object store answers late
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
    composed = [outcome for outcome in outcomes if outcome.slot.groups]
    if not composed:
        return None
    best = max(composed, key=lambda outcome: (outcome.accepted, outcome.slot.slot))
    title = (
        f"{plan.request.region}, {best.slot.slot}: {best.accepted} of {len(best.verdicts)} "
        "pairs registered"
    )
    try:
        mosaic = open_undivided(slot_store(plan, best.slot).url)
        drawn = (*best.slot.optical_bands, "dx", "dy", "quality")
        factor, small = load_overview(plan, best.slot, OVERVIEW_PX, drawn)
        return render_preview(mosaic, small, factor, plan.lattice, best.slot, title)
    except SceneReadError as error:
        logger.warning("no preview.png was drawn: %s", error)
        return None


def load_overview(
    plan: Plan, slot: SlotPlan, longest_px: int, names: Sequence[str]
) -> tuple[int, xr.Dataset]:
    """The finest level of a day that is no longer than that, else the coarsest; its factor first.

    Its variables `names` are in memory.
    """
    factors = (1, *overview_factors(plan.lattice))
    longest = max(plan.lattice.shape)
    factor = next((f for f in factors if longest / f <= longest_px), factors[-1])
    level = open_undivided(slot_store(plan, slot).url, factor)
    return factor, load_window(level, names, Window(0, 0, level.sizes["x"], level.sizes["y"]))


def render_preview(
    mosaic: xr.Dataset, small: xr.Dataset, factor: int, lattice: Lattice, slot: SlotPlan, title: str
) -> bytes:
    """One picture of one day: `mosaic` is undivided, `small` is its overview in memory."""
    from matplotlib.figure import Figure  # here, for not every run and no worker draws

    detail = choose_detail(mosaic, small, slot, factor)
    figure = Figure(figsize=(15, 5.6), layout="constrained")
    whole, before, after = figure.subplots(1, 3)
    _draw_overview(whole, small, slot, detail, factor)
    optical = read_bands(mosaic, slot.optical_bands, detail)
    colour = stretch_colour(optical)
    registered = read_bands(mosaic, slot.sar_bands[:1], detail)[0]
    as_delivered = read_delivered_sar(slot, lattice, detail)
    limits = stretch_limits(as_delivered)
    _draw_checkerboard(before, colour, as_delivered, limits, "before: SAR as delivered")
    _draw_checkerboard(after, colour, registered, limits, "after: SAR registered")
    figure.suptitle(title, fontsize=13)
    buffer = io.BytesIO()
    packing = {"compress_level": 4}  # twice as fast as the default, a twentieth larger
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None}, pil_kwargs=packing)
    return buffer.getvalue()


def choose_detail(
    mosaic: xr.Dataset, small: xr.Dataset, slot: SlotPlan, factor: int, side_px: int = DETAIL_PX
) -> Window:
    """Of the squares that were moved most, the one whose borders show best in both sensors.

    `small` is the mosaic's overview, `factor` times as coarse.
    """
    height, width = mosaic["quality"].shape
    side = min(side_px, height, width)
    squares = [
        Window(min(row * factor, height - side), min(column * factor, width - side), side, side)
        for row, column in _most_moved(small, max(1, side // factor))
    ]
    if not squares:
        return Window((height - side) // 2, (width - side) // 2, side, side)
    if not slot.optical_bands:
        return squares[0]
    seen = (slot.optical_bands[0], slot.sar_bands[0], "dx", "dy")
    with ThreadPoolExecutor(READERS) as readers:
        parts = readers.map(partial(load_window, mosaic, seen), squares)
        agreements = [_agreement(part) for part in parts]
    return squares[agreements.index(max(agreements))]


def _most_moved(small: xr.Dataset, cells: int) -> list[tuple[int, int]]:
    """Corners (row, column) of squares of registered cells, the most displaced first."""
    moved = np.hypot(small["dx"].values, small["dy"].values)
    registered = (REGISTERED, REGISTERED_FROM_MEMORY, REGISTERED_RADAR_TO_RADAR)
    usable = np.isin(small["quality"].values, registered) & np.isfinite(moved)
    stride = max(1, cells // 2)
    found = []
    for row in range(0, max(1, moved.shape[0] - cells + 1), stride):
        for column in range(0, max(1, moved.shape[1] - cells + 1), stride):
            block = (slice(row, row + cells), slice(column, column + cells))
            if usable[block].mean() > 0.999:
                found.append((float(np.nanmean(moved[block])), (row, column)))
    found.sort(key=lambda each: -each[0])
    return [corner for _, corner in found[:CANDIDATES]]


def _agreement(part: xr.Dataset) -> float:
    """Correlation of the edges of both sensors, for squares moved enough to see it."""
    optical, sar, dx, dy = (np.asarray(part[name].values, np.float32) for name in part.data_vars)
    edges = [
        ndimage.gaussian_gradient_magnitude(np.nan_to_num(image), 2.5).ravel()
        for image in (optical, sar)
    ]
    with np.errstate(invalid="ignore"):  # an even surface has no edges to correlate
        correlation = np.nan_to_num(np.corrcoef(*edges)[0, 1])
    return float(correlation * min(VISIBLE_PX, np.nanmean(np.hypot(dx, dy))))


def _draw_overview(
    axes: Axes, small: xr.Dataset, slot: SlotPlan, detail: Window, factor: int
) -> None:
    """Optical in colour, displacement as arrows, refusals in red, the detail as a frame."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    grey = stretch_colour(_stack(small, slot.optical_bands)).mean(axis=-1)
    axes.imshow(0.1 + 0.6 * grey, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    quality = small["quality"].values
    for value, colour, alpha in ((ABSTAINED, REFUSED_COLOUR, 0.45), (NO_SAR, "white", 0.55)):
        shade = np.ma.masked_not_equal(quality, value)
        axes.imshow(shade, cmap=ListedColormap([colour]), alpha=alpha, interpolation="nearest")
    every = max(1, max(quality.shape) // ARROWS)
    rows, columns = np.mgrid[every // 2 : quality.shape[0] : every,
                             every // 2 : quality.shape[1] : every]  # fmt: skip
    dx, dy = small["dx"].values[rows, columns], small["dy"].values[rows, columns]
    shown = np.isfinite(dx)
    if shown.any():
        length = float(np.quantile(np.hypot(dx, dy)[shown], 0.95)) or 1.0
        arrows = axes.quiver(
            columns[shown], rows[shown], dx[shown], dy[shown], color=ARROW_COLOUR,
            angles="xy", scale_units="xy", scale=length / (1.4 * every), width=0.004,
        )  # fmt: skip
        axes.quiverkey(arrows, 0.86, 1.03, length, f"{length:.1f} px", labelpos="E")
    x, y, side = detail.x0 / factor, detail.y0 / factor, detail.width / factor
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


def read_delivered_sar(slot: SlotPlan, lattice: Lattice, window: Window) -> Floats:
    """SAR on the lattice where its own georeference puts it."""
    sar: Floats = read_composite(slot.sar, lattice, window, slot.sar_bands[:1]).values[0]
    return sar


def read_bands(mosaic: xr.Dataset, bands: tuple[str, ...], window: Window) -> Floats:
    """Bands of a mosaic on a window: (bands, H, W) float32."""
    return _stack(load_window(mosaic, (*bands, "quality"), window), bands)


def _stack(part: xr.Dataset, bands: Sequence[str]) -> Floats:
    """(bands, H, W) float32; a day without optical scenes has no optical bands."""
    stacked = np.empty((len(bands), *part["quality"].shape), np.float32)
    for target, band in zip(stacked, bands, strict=True):
        target[...] = part[band].values
    return stacked


def stretch_colour(bands: Floats) -> Floats:
    """(bands, H, W) to (H, W, 3) in 0..1: red, green, blue if there are three, else grey.

    White where nothing is known.
    """
    if not len(bands):
        return np.ones((*bands.shape[1:], 3), np.float32)
    chosen = bands[:3] if len(bands) >= 3 else bands[:1].repeat(3, axis=0)
    low, high = stretch_limits(chosen)
    stretched = np.clip((np.nan_to_num(chosen, nan=high) - low) / (high - low), 0.0, 1.0)
    return np.asarray(np.moveaxis(stretched, 0, -1), np.float32)


def stretch_limits(values: npt.NDArray[Any]) -> tuple[float, float]:
    """A stretch that leaves out 2 % at both ends."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return 0.0, 1.0
    low, high = np.quantile(known, (0.02, 0.98))
    return float(low), float(max(high, low + 1e-6))
