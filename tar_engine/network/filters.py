"""Separable filters of images, and of masks; on a CPU as its caches and cores like them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.constants import made_once
from tar_engine.network.precision import half_precision, is_on_cpu

SMALL_PX = 128  # side of what a CPU filters by a product with a whole matrix ...
CACHED_PX = 2**18  # ... and of larger images, what it filters at once


@made_once
def gaussian_kernel(sigma_px: float, device: torch.device) -> Tensor:
    """(k,) float32 normalised Gaussian, cut at three sigma."""
    radius = max(1, math.ceil(3 * sigma_px))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma_px) ** 2)
    return (kernel / kernel.sum()).to(device)


@made_once
def derivative_kernel(sigma_px: float, device: torch.device) -> Tensor:
    """(k,) float32 derivative of `gaussian_kernel`, its sign turned for correlation."""
    kernel = gaussian_kernel(sigma_px, device)
    reach = kernel.numel() // 2
    return -torch.arange(-reach, reach + 1, device=device) / sigma_px**2 * kernel


def filter_separable(image: Tensor, along_y: Tensor, along_x: Tensor) -> Tensor:
    """Filter every channel of (B, C, H, W) by two one-dimensional kernels, edges replicated."""
    channels, (height, width) = image.shape[1], image.shape[-2:]
    if is_on_cpu(image) and max(height, width) <= SMALL_PX:
        down = filter_matrix(tuple(along_y.tolist()), height).to(image)
        across = filter_matrix(tuple(along_x.tolist()), width).to(image)
        with half_precision(image.device, enabled=False):
            return down @ image @ across.T
    ry, rx = along_y.numel() // 2, along_x.numel() // 2
    image = F.pad(image, (rx, rx, ry, ry), mode="replicate")
    if is_on_cpu(image):
        planes = image.flatten(0, 1)
        some = max(1, CACHED_PX // planes[0].numel())
        taps_y, taps_x = along_y.tolist(), along_x.tolist()
        parts = [
            filter_along(filter_along(part, taps_y, 1), taps_x, 2) for part in planes.split(some)
        ]
        return torch.cat(parts).view(*image.shape[:2], *parts[0].shape[1:])
    image = F.conv2d(image, along_y.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(image, along_x.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


@made_once
def filter_matrix(taps: tuple[float, ...], length: int) -> Tensor:
    """(length, length) float32: the filter along an axis of that length, its ends replicated."""
    reach, places = len(taps) // 2, torch.arange(length)
    matrix = torch.zeros(length, length)
    for offset, tap in enumerate(taps, start=-reach):
        seen = (places + offset).clamp(0, length - 1)
        matrix[places, seen] += tap
    return matrix


def filter_along(image: Tensor, taps: Sequence[float], axis: int) -> Tensor:
    """Values filtered along one axis, without its borders.

    By shifted sums: a depthwise convolution takes a CPU three times as long.
    """
    length = image.shape[axis] - len(taps) + 1
    total = image.narrow(axis, 0, length) * taps[0]
    for start, tap in enumerate(taps[1:], start=1):
        total = total.add_(image.narrow(axis, start, length), alpha=tap)
    return total


def mean_of_known(image: Tensor, known: Tensor, sigma_px: float) -> Tensor:
    """Gaussian mean of (B, bands, H, W), 0 where unknown, over what is known, (B, 1, H, W).

    0 where nothing is in reach (normalised convolution: Knutsson and Westin, CVPR 1993).
    """
    kernel = gaussian_kernel(sigma_px, image.device)
    total = filter_separable(torch.cat([image, known], dim=1), kernel, kernel)
    mean: Tensor = total[:, :-1] / total[:, -1:].clamp_min(1e-6)
    return mean


def dilate(mask: Tensor, side_px: int) -> Tensor:
    """Largest of (B, 1, H, W), not negative, within a square of odd side."""
    if not is_on_cpu(mask):
        return F.max_pool2d(mask, side_px, stride=1, padding=side_px // 2)
    if mask.any():  # most masks are empty, of images without nodata
        for axis in (2, 3):
            mask = dilate_along(mask, side_px, axis)
    return mask


def dilate_along(mask: Tensor, side_px: int, axis: int) -> Tensor:
    """Largest within a line of odd length, by largest of ever longer parts of it."""
    reach, length = side_px // 2, mask.shape[axis]
    ends = [0, 0, reach, reach] if axis == 2 else [reach, reach]
    mask, width = F.pad(mask, ends), 1
    while width < side_px:
        step = min(width, side_px - width)
        kept = mask.shape[axis] - step
        mask, width = (
            torch.maximum(mask.narrow(axis, 0, kept), mask.narrow(axis, step, kept)),
            width + step,
        )
    return mask.narrow(axis, 0, length)
