# %% [markdown]
# # What to do with a registered region
#
# The cells below run one after the other, in an editor that knows `# %%` cells (VS Code, PyCharm,
# Spyder, Jupyter with jupytext) or as a plain script. They take what `make run` leaves; give
# another region by `MOSAIC=s3://mosaics/bolzano`. The tests run them too.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import catalog

MOSAIC = os.environ.get("MOSAIC", "demo-region/mosaic/demo")

# %% [markdown]
# ## Open it
#
# One `xarray.Dataset` with all days. Nothing is read yet but a few kilobytes of metadata.

# %%
mosaic = catalog.open_mosaic(MOSAIC)
print(mosaic)

# %% [markdown]
# Only a part: a box in degrees, the first and the last day, some bands. Names that are not there
# are told together with those that are.

# %%
days = mosaic.time.values
part = catalog.open_mosaic(
    MOSAIC,
    bbox=(8.94, 46.975, 8.97, 46.995),  # west, south, east, north
    time=(days[0], days[-1]),
    bands=["red", "green", "blue", "vh", "dx", "dy", "expected_error", "quality", "sar_scene"],
)
day = part.isel(time=0).compute()
print(f"{day.sizes['x']} x {day.sizes['y']} pixels of {day.rio.resolution()[0]:g} m, {day.rio.crs}")

# %% [markdown]
# ## What may be trusted
#
# `quality` says what became of each pixel; its meanings are in its attributes. `expected_error` is
# how far off the registration may be, in pixels. Ask for both before comparing the two sensors.

# %%
REGISTERED = day.quality.attrs["flag_meanings"].split().index("registered")
sure = day.where((day.quality == REGISTERED) & (day.expected_error < 1.5))
sure_share = float(np.isfinite(sure.vh).mean())
print(f"{sure_share:.1%} of the pixels are registered to better than 1.5 px")

# %% [markdown]
# ## When did radar see it?
#
# Optical and radar images are days apart, and neighbouring pixels may come from different passes.
# `sar_scene` numbers the scenes; `sar_time` and `sar_id` are looked up with it, pixel by pixel.

# %%
seen = part.sar_time[part.sar_scene].isel(time=0).compute()
scenes = sorted(set(part.sar_id[part.sar_scene].isel(time=0).values.ravel().tolist()) - {""})
gap = (seen - day.time).dt.total_seconds() / 86400
print(
    f"radar scenes here: {', '.join(scenes)}; {float(gap.median()):.1f} days after the optical day"
)

# %% [markdown]
# ## How far had it been off?
#
# `dx`, `dy` is the displacement that was applied: where SAR was minus where optical is, in pixels.

# %%
moved = np.hypot(sure.dx, sure.dy)
before_px = float(moved.median())
print(f"median misregistration before: {before_px:.2f} px, expected now: "
      f"{float(sure.expected_error.median()):.2f} px")  # fmt: skip

# %% [markdown]
# ## Both sensors, pixel by pixel
#
# That is what registration is for. Speckle averages out over an area, so this compares blocks of
# 8 x 8 pixels: how much backscatter goes with how much red light?

# %%
blocks = sure[["red", "vh"]].coarsen(x=8, y=8, boundary="trim").mean()
correlation = float(xr.corr(blocks.red, blocks.vh))
print(f"correlation of red and VH over blocks: {correlation:.2f}")

# %% [markdown]
# ## A picture of everything
#
# Overviews hold the mean of 2 x 2, 4 x 4, … pixels, so a whole region is drawn from a fraction of
# its bytes. A small region has none; then the pixels themselves are few enough.

# %%
levels = mosaic.attrs["overview_factors"]
small = catalog.open_mosaic(MOSAIC, time=days[0], overview=levels[-1] if levels else None)
figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
small.vh.isel(time=0).plot(ax=axes[0], cmap="gray", robust=True)
np.hypot(small.dx, small.dy).isel(time=0).plot(
    ax=axes[1], cbar_kwargs={"label": "displacement, px"}
)
for axis in axes:
    axis.set_aspect("equal")
    axis.locator_params(axis="x", nbins=4)
figure.savefig(os.environ.get("PICTURE", "example.png"), dpi=90)

# %% [markdown]
# ## Take it elsewhere
#
# - `tar-pipeline export STORE --region NAME --slot DAY --out day.tif` is one GeoTIFF for QGIS.
# - `xarray.open_zarr(".../slots/DAY/GENERATION.zarr", decode_coords="all")` opens a day without
#   this package; `group="overviews/4"` opens an overview of it.
# - `collection.json` is a STAC collection; any STAC browser lists the days.
# - `reports/DAY.html` shows a day to somebody who has no Python.
