"""Reading a raster in radar geometry: digital numbers become power, the frame no data.

A GRD file is surrounded by zeros, and older ones have, inside these, a frame of low values that is
thermal noise and no ground. Both become NaN. Zeros inside do too: noise alone is more than that
over any ground, so a zero is a pixel that was never seen. Low values inside stay: water is dark.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow

from catalog.archives.items import Asset
from catalog.pixels.rasters import Crop, to_physical
from catalog.sentinel1.calibration import LookUpTable
from catalog.sentinel1.noise import LEAST_SIGMA_NOUGHT, NoiseTable

# The frame is looked for this near the edges. Within it, digital numbers are below the noise of any
# ground (some 20 to 40); a line begins where 12 of 16 pixels are not.
FRAME_PX = 500
LOWEST_DN = 10
RUN_PX, LEAST_OF_RUN = 16, 12


def read_radar_crop(
    source: DatasetReader,
    asset: Asset,
    indexes: list[int],
    crop: Crop,
    table: LookUpTable | None = None,
    noise: NoiseTable | None = None,
) -> NDArray[np.float32]:
    """Bands of a part of a raster in radar geometry: (bands, h, w), NaN where nothing was seen.

    With a table, sigma nought as linear power, less the noise where that is told; without, the
    file's numbers as they are (in an averaged crop, the root of their mean power).
    """
    values: NDArray[np.float32] = source.read(
        indexes,
        window=crop.raster_window,
        out_shape=(len(indexes), *crop.shape),
        out_dtype="float32",
        resampling=Resampling.rms,  # what is averaged is power
    )
    nodata = source.nodata if asset.nodata is None else asset.nodata
    unseen = (values == 0).all(axis=0) | np.isnan(values).all(axis=0)
    if nodata is not None:
        unseen |= (values == np.float32(nodata)).all(axis=0)
    if np.dtype(source.dtypes[0]).itemsize == 2:  # digital numbers, not somebody's stretch of them
        unseen |= _noise_frame(source, crop)
    values[:, unseen] = np.nan
    if table is not None:
        rows, columns = (
            start + (np.arange(size) + 0.5) * crop.factor - 0.5
            for start, size in ((crop.y0, crop.height), (crop.x0, crop.width))
        )
        power, gain = values.astype(np.float64) ** 2, table.at(rows, columns) ** 2
        if noise is not None:
            power = np.maximum(power - noise.at(rows, columns), LEAST_SIGMA_NOUGHT * gain)
        return np.asarray(power / gain, np.float32)
    return to_physical(values, asset)


def _noise_frame(source: DatasetReader, crop: Crop) -> NDArray[np.bool_]:
    """Which pixels of a crop belong to the frame of low values: bool (h, w).

    Every line and every column is judged by itself, from the edge inwards, so that neighbouring
    crops agree.
    """
    height, width = crop.height * crop.factor, crop.width * crop.factor
    cut = np.zeros((height, width), bool)
    rows, columns = np.arange(height) + crop.y0, np.arange(width) + crop.x0
    for axis, (size, across) in enumerate(((source.height, rows), (source.width, columns))):
        depth = min(FRAME_PX, size)
        for far in (False, True):
            inward = size - 1 - across if far else across  # distance from that edge
            if inward.min() >= depth:
                continue
            start = size - depth if far else 0
            window = (
                RasterWindow(crop.x0, start, width, depth)
                if axis == 0
                else RasterWindow(start, crop.y0, depth, height)
            )
            strip = source.read(1, window=window)
            strip = strip.T if axis == 0 else strip  # from here on, (lines, along)
            begins = _first_ground(strip[:, ::-1] if far else strip)
            low = inward[None, :] < begins[:, None]
            cut |= low.T if axis == 0 else low
    if crop.factor == 1:
        return cut
    blocks = cut.reshape(crop.height, crop.factor, crop.width, crop.factor)
    return np.asarray(blocks.any(axis=(1, 3)))


def _first_ground(lines: NDArray[Any]) -> NDArray[np.intp]:
    """Where each of (n, depth) lines begins to show ground: 0 where no frame is in front of it."""
    depth = lines.shape[1]
    run = min(RUN_PX, depth)
    bright = np.cumsum(np.pad(lines >= LOWEST_DN, ((0, 0), (1, 0))), axis=1, dtype=np.int32)
    enough = bright[:, run:] - bright[:, :-run] >= LEAST_OF_RUN * run / RUN_PX
    first = enough.argmax(axis=1)
    # A run that is only just bright enough begins with the last pixels of the frame.
    reach = np.arange(depth)[None, :] >= first[:, None]
    begins: NDArray[np.intp] = (reach & (lines >= LOWEST_DN)).argmax(axis=1)
    begins[~enough.any(axis=1)] = depth
    return begins
