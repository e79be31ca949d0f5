"""The figure of `tests.benchmarks.series_flow`: how far months lie from their place's median."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

Series = npt.NDArray[np.float64]
"""(places, months, 2): dx and dy less the place's median, px; NaN where a month has no answer."""

COLOURS = ("#9aa0a6", "#1a6fb0", "#e07b00")
LEAST_REACH_PX = 1.0
REACH_SHARE = 0.98  # of the points are within the axes; a few outliers need not shrink the rest


def draw_series(
    series: Mapping[str, Series], unexplained: Mapping[str, Series], settled_month: int
) -> bytes:
    """A PNG: every month of every place as a point, one panel a series; and beside them, by month,
    distances (places, months) that are left without the files' own motion, medians over places.
    """
    figure = Figure(figsize=(4.1 * (len(series) + 1), 4.3), layout="constrained")
    *clouds, over_time = figure.subplots(1, len(series) + 1)
    every = np.concatenate([_lengths(points).ravel() for points in series.values()])
    reach = max(LEAST_REACH_PX, _quantile(every, REACH_SHARE))
    for axes, colour, (name, points) in zip(clouds, COLOURS, series.items(), strict=True):
        lengths = _lengths(points)
        axes.scatter(*points.reshape(-1, 2).T, s=16, color=colour, alpha=0.7, linewidths=0)
        axes.set(
            title=f"{name}\nmedian distance {_quantile(lengths):.2f} px",
            xlabel="dx, pixels of 10 m", ylabel="dy, pixels of 10 m",
            xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal",
        )  # fmt: skip
        axes.text(
            0.02, 0.02, f"{np.isfinite(lengths).sum()} of {lengths.size} months",
            transform=axes.transAxes, fontsize="small",
        )  # fmt: skip
        axes.grid(alpha=0.3)
    for colour, (name, lengths) in zip(COLOURS, unexplained.items(), strict=False):
        months = np.arange(1, lengths.shape[1] + 1)
        typical = [_quantile(lengths[:, month]) for month in months - 1]
        over_time.plot(months, typical, "o-", color=colour, label=name)
    over_time.axvline(settled_month - 0.5, color="#555555", linestyle=":")
    over_time.set(
        title="less the files' own motion\nmedians over places", xlabel="month",
        ylabel="distance from the place's median, pixels",
    )  # fmt: skip
    over_time.set_ylim(bottom=0)
    over_time.grid(alpha=0.3)
    over_time.legend(fontsize="small")
    figure.suptitle("The same ground in twelve months: where the registration puts it")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def _lengths(points: Series) -> npt.NDArray[np.float64]:
    return np.asarray(np.hypot(*np.moveaxis(points, -1, 0)))


def _quantile(lengths: npt.NDArray[np.float64], share: float = 0.5) -> float:
    """Of what is known."""
    known = lengths[np.isfinite(lengths)]
    return float(np.quantile(known, share)) if known.size else np.nan
