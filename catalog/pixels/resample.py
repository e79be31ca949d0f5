"""Resampling an image at given positions, with nodata kept as nodata.

Bicubic where a registered image is made, bilinear where a scene is shown on another grid.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def resample(image: Float32, xy: Float64) -> Float32:
    """Bicubic values of an image at pixel positions.

    Cubic convolution with a = -0.5 (Keys 1981, third-order). Positions on pixel centres return
    that pixel's value bit for bit. Near nodata the kernel is renormalised over what is valid.

    Args:
        image: (bands, h, w) float32, NaN for nodata.
        xy: (2, H, W) float64 positions (x, y) in the image, pixel centres at integers.

    Returns:
        (bands, H, W) float32. NaN where the nearest pixel is nodata or outside, in any band.
    """
    bands, height, width = image.shape
    valid = np.isfinite(image).all(axis=0)
    known = np.where(valid, image, np.float32(0)).reshape(bands, -1)
    mask = valid.reshape(-1).astype(np.float32)
    finite = np.isfinite(xy).all(axis=0)
    x, y = (
        np.where(finite, axis, -10.0).clip(-10, size + 10)
        for axis, size in zip(xy, (width, height), strict=True)
    )
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    weights_x, weights_y = keys_weights(x - column), keys_weights(y - row)
    total = np.zeros((bands, *x.shape), np.float32)
    weight = np.zeros(x.shape, np.float32)
    for j in range(4):
        rows = row + (j - 1)
        for i in range(4):
            columns = column + (i - 1)
            inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
            index = np.where(inside, rows * width + columns, 0)
            tap = weights_x[i] * weights_y[j] * (mask[index] * inside)
            weight += tap
            total += tap * known[:, index]
    nearest_row, nearest_column = np.rint(y).astype(np.int64), np.rint(x).astype(np.int64)
    inside = (
        (nearest_row >= 0)
        & (nearest_row < height)
        & (nearest_column >= 0)
        & (nearest_column < width)
    )
    index = np.where(inside, nearest_row * width + nearest_column, 0)
    supported = finite & inside & (mask[index] > 0) & (weight > 0.25)
    full = np.abs(weight - 1) < 1e-6
    divisor = np.where(full | ~supported, np.float32(1), weight)
    return np.where(supported, total / divisor, np.float32(np.nan)).astype(np.float32)


def resample_bilinear(values: Float32, xy: Float64) -> Float32:
    """Bilinear values of an image at pixel positions, as scenes from other grids are shown.

    Positions on pixel centres return that pixel's value bit for bit. Beside nodata, the rest of the
    kernel speaks for the whole while it has half of the weight.

    Args:
        values: (bands, h, w) float32, NaN for nodata in any band.
        xy: (2, H, W) float64 positions (x, y) in the image, pixel centres at integers.

    Returns:
        (bands, H, W) float32, NaN for nodata.
    """
    _, height, width = values.shape
    x, y = (np.where(np.isfinite(axis), axis, -9.0) for axis in xy)
    column, row = np.floor(x), np.floor(y)
    valid = np.asarray(np.isfinite(values).all(axis=0))
    total = np.zeros((len(values), *x.shape), np.float32)
    weight = np.zeros(x.shape, np.float32)
    for down in (0, 1):
        for right in (0, 1):
            columns, rows = (column + right).astype(np.intp), (row + down).astype(np.intp)
            tap = (1 - np.abs(x - columns)) * (1 - np.abs(y - rows))
            tap[(columns < 0) | (columns >= width) | (rows < 0) | (rows >= height)] = 0
            columns, rows = columns.clip(0, width - 1), rows.clip(0, height - 1)
            tap = np.where(valid[rows, columns], tap, 0).astype(np.float32)
            total += tap * np.nan_to_num(values[:, rows, columns])
            weight += tap
    whole = np.where(np.abs(weight - 1) < 1e-6, np.float32(1), weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(weight >= 0.5, total / whole, np.float32(np.nan))


def keys_weights(fraction: Float64) -> list[Float32]:
    """The four taps of cubic convolution (a = -0.5) at -1, 0, 1, 2 for a fraction in [0, 1)."""
    t = fraction
    return [
        (((-0.5 * t + 1.0) * t - 0.5) * t).astype(np.float32),
        ((1.5 * t - 2.5) * t * t + 1.0).astype(np.float32),
        (((-1.5 * t + 2.0) * t + 0.5) * t).astype(np.float32),
        ((0.5 * t - 0.5) * t * t).astype(np.float32),
    ]
