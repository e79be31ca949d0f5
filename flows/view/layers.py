"""What of a day can be shown, in which colours, and the legends that say so.

Ends of a scale come from the coarsest overview: 2 % of the pixels lie beyond either end of a grey
or colour image, a scale in pixels ends at a round number that 98 % stay below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from catalog.store.schema import is_flag
from flows.colours import ANY_COLOUR, COLOURS
from flows.view.days import Day

CUT = (0.02, 0.98)
ROUND_PX = (
    0.5,
    1.0,
    2.0,
    3.0,
    4.0,
    6.0,
    8.0,
    10.0,
    12.0,
    16.0,
    20.0,
    30.0,
    50.0,
    100.0,
    200.0,
    512.0,
)
COLOUR_BANDS = ("red", "green", "blue")
DISPLACEMENT = ("dx", "dy")
COUNTED = ("sar_scene", "optical_scene")  # not shown: their numbers mean something on one day only
RAMPS = {"displacement": "viridis", "dx": "RdBu_r", "dy": "RdBu_r", "expected_error": "YlOrRd"}
CLASS_COLOURS = "tab20"  # of flags that have no colours of their own
STOPS = 16  # of a legend's gradient
DELIVERED = (
    "The store keeps SAR as registered. This is that image moved back by the displacement that "
    "was applied, which is where it was delivered; parts that were not registered stay empty."
)

Kind = Literal["colour", "grey", "ramp", "classes"]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Class:
    """A flag, what it means, and how much of the day it is."""

    value: int
    meaning: str
    colour: str
    share: float


@dataclass(frozen=True)
class Layer:
    """Something of a day that the map shows, with its legend."""

    name: str
    title: str
    kind: Kind
    variables: tuple[str, ...]
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    """Ends of the scale, in `unit`."""
    colours: tuple[str, ...] = ()
    """CSS colours of a ramp, from `low` to `high`."""
    classes: tuple[Class, ...] = ()
    note: str = ""

    @property
    def is_delivered(self) -> bool:
        """Whether it shows SAR moved back: `variables` end with dx and dy."""
        return self.name.startswith("delivered-")

    def told(self) -> dict[str, Any]:
        """As the page is told of it."""
        return asdict(self)


def layers_of(day: Day) -> list[Layer]:
    """All layers of a day, in the order in which people choose among them.

    Raises StoreError where its coarsest overview cannot be read.
    """
    small = day.coarsest.pixels.load()
    measured = [str(name) for name, each in small.data_vars.items() if not is_flag(each)]
    sar = [name for name in measured if is_sar(small[name])]
    applied = all(name in measured for name in DISPLACEMENT)
    optical = [name for name in measured if name not in (*sar, *RAMPS)]
    found = []
    if optical:
        found.append(_optical(small, optical))
    for band in sorted(sar, reverse=True):  # VV is what people know best
        low, high = _cut(small[band].values)
        shown, unit = f"SAR {band.upper()}", "dB" if low < 0 else "backscatter"
        found.append(Layer(f"sar-{band}", f"{shown} registered", "grey", (band,), unit,
                           low, high))  # fmt: skip
        if applied:
            found.append(Layer(f"delivered-{band}", f"{shown} as delivered", "grey",
                               (band, *DISPLACEMENT), unit, low, high,
                               note=DELIVERED))  # fmt: skip
    if applied:
        found += _displacements(small)
    if "expected_error" in measured:
        high = _round_limit(small["expected_error"].values)
        found.append(Layer("expected_error", "Expected error", "ramp", ("expected_error",),
                           "pixels", 0.0, high, _stops("expected_error")))  # fmt: skip
    flags = [str(name) for name, each in small.data_vars.items() if is_flag(each)]
    return found + [_classes(small[name]) for name in flags if name not in COUNTED]


def is_sar(variable: xr.DataArray) -> bool:
    """Whether a variable is a registered SAR polarisation, as its attributes tell."""
    return "sar_scene" in str(variable.attrs.get("ancillary_variables", "")).split()


def coloured(layer: Layer, values: NDArray[Any], known: NDArray[np.bool_]) -> Bytes:
    """Bands (N, H, W) of a layer as (H, W, 4) uint8, transparent where `known` (H, W) is not."""
    picture = np.zeros((*known.shape, 4), np.uint8)
    if layer.kind == "classes":
        picture[..., :3] = _class_table(layer)[values[0].astype(np.uint8)]
    elif layer.kind == "ramp":
        table = (255 * matplotlib.colormaps[RAMPS[layer.name]](np.arange(256))).astype(np.uint8)
        scalar = np.hypot(*values) if len(values) > 1 else values[0]
        picture[..., :3] = table[_levels(scalar, layer), :3]
    else:
        picture[..., :3] = np.moveaxis(_levels(values, layer), 0, -1)  # one band is grey
    picture[..., 3] = 255 * known
    return picture


def _levels(values: NDArray[Any], layer: Layer) -> Bytes:
    share = (np.nan_to_num(values, nan=layer.low) - layer.low) / (layer.high - layer.low)
    levels: Bytes = np.rint(255 * np.clip(share, 0.0, 1.0)).astype(np.uint8)
    return levels


def _optical(small: xr.Dataset, bands: Sequence[str]) -> Layer:
    in_colour = all(band in bands for band in COLOUR_BANDS)
    shown = COLOUR_BANDS if in_colour else (bands[0],)
    low, high = _cut(np.stack([small[band].values for band in shown]))
    kind: Kind = "colour" if in_colour else "grey"
    title = "Optical, true colour" if in_colour else f"Optical, {bands[0]}"
    unit = "reflectance" if high <= 2.0 else "brightness"
    return Layer("optical", title, kind, tuple(shown), unit, low, high)


def _displacements(small: xr.Dataset) -> list[Layer]:
    dx, dy = (small[name].values for name in DISPLACEMENT)
    length = _round_limit(np.hypot(dx, dy))
    side = _round_limit(np.abs(np.stack([dx, dy])))
    return [
        Layer("displacement", "Displacement, length", "ramp", DISPLACEMENT, "pixels", 0.0, length,
              _stops("displacement")),
        Layer("dx", "Displacement to the right (dx)", "ramp", ("dx",), "pixels", -side, side,
              _stops("dx")),
        Layer("dy", "Displacement downwards (dy)", "ramp", ("dy",), "pixels", -side, side,
              _stops("dy")),
    ]  # fmt: skip


def _classes(flags: xr.DataArray) -> Layer:
    meanings = str(flags.attrs["flag_meanings"]).split()
    numbers = [int(value) for value in flags.attrs["flag_values"]]
    values, counts = np.unique(flags.values, return_counts=True)
    shares: Mapping[int, float] = dict(
        zip(values.tolist(), (counts / flags.size).tolist(), strict=True)
    )
    own = matplotlib.colormaps[CLASS_COLOURS]
    classes = []
    for at, (value, meaning) in enumerate(zip(numbers, meanings, strict=True)):
        colour = COLOURS.get(meaning, ANY_COLOUR)
        if flags.name != "quality":
            colour = matplotlib.colors.to_hex(own(at % own.N))
        classes.append(
            Class(
                value,
                meaning.replace("_", " ").replace(" sar", " SAR"),
                colour,
                shares.get(value, 0.0),
            )
        )
    title = {"quality": "Quality", "optical_class": "Optical class"}.get(
        str(flags.name), str(flags.name)
    )
    return Layer(str(flags.name), title, "classes", (str(flags.name),), classes=tuple(classes))


def _class_table(layer: Layer) -> Bytes:
    table = np.tile(np.array(to_rgb(ANY_COLOUR)), (256, 1))
    for each in layer.classes:
        table[each.value] = to_rgb(each.colour)
    colours: Bytes = np.rint(255 * table).astype(np.uint8)
    return colours


def _stops(layer: str) -> tuple[str, ...]:
    ramp = matplotlib.colormaps[RAMPS[layer]]
    return tuple(matplotlib.colors.to_hex(ramp(at)) for at in np.linspace(0, 1, STOPS))


def _cut(values: NDArray[Any]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if known.size == 0:
        return 0.0, 1.0
    low, high = (float(each) for each in np.quantile(known, CUT))
    return low, max(high, low + 1e-6)


def _round_limit(values: NDArray[Any]) -> float:
    known = values[np.isfinite(values)]
    most = float(np.quantile(known, CUT[1])) if known.size else 0.0
    return next((each for each in ROUND_PX if each >= most), ROUND_PX[-1])
