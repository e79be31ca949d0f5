"""Classical registration, to compare the engine with.

Every baseline takes optical uint8 (3, H, W) and SAR uint8 (1, H, W) of one size and returns the
displacement (2, H, W) float32, SAR position minus optical position (dx, dy) in pixels, or None
for no answer. Zeros are nodata. Nothing here uses the engine's own matching.

Features are oriented gradients as in CFOG (Ye et al. 2019, doi 10.1109/TGRS.2019.2924684): 9
directions of |gradient|, smoothed, normalised per pixel; here also less their mean.

    start ─▶ SAR warped by the answer so far ─▶ windows correlated ─▶ RANSAC affine ─▶ field
                          ▲                                                              │
                          └──────────────────────── round by round ──────────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from cv2.typing import MatLike
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import map_coordinates
from torch import Tensor

Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Baseline = Callable[[Bytes, Bytes], Floats | None]

ORIENTATIONS = 9
IMAGE_BLUR_PX = 0.7  # before the gradient, against speckle; more costs sub-pixel accuracy
CHANNEL_BLUR_PX = 0.8
FLOOR = 0.5  # added to a pixel's length, relative to the mean one, so that flat ground stays weak
MIN_INLIERS = 4
SIFT_TOLERANCE_PX = 3.0
SMOOTHING = 1e4  # of the thin-plate spline
FIELD_STEP_PX = 4  # the spline is evaluated every so many pixels, cubic between

SEARCH_SIDE_PX = 128
ROTATIONS_DEG = np.arange(-40.0, 41.0, 5.0)
SCALES = np.geomspace(0.65, 1.4, 8)
HYPOTHESES = 3
APART_PX = 12.0  # at 128 px: hypotheses closer than this at the corners are one


@dataclass(frozen=True)
class Round:
    """One round of grid matching, all in pixels."""

    window_px: int
    step_px: int  # between windows
    search_px: int  # either way, per axis
    tolerance_px: float  # of RANSAC


AFFINE_ROUNDS = (Round(96, 32, 16, 3.0), Round(96, 24, 8, 1.5))
SMOOTH_ROUNDS = (Round(96, 16, 16, 4.0), Round(64, 16, 8, 4.0))
# Of the exhaustive search: two rounds tell the hypotheses apart, the last is for the best alone.
HYPOTHESIS_ROUNDS = (Round(96, 32, 16, 6.0), Round(96, 32, 8, 3.0))
LAST_ROUND = Round(96, 24, 4, 1.5)


class Answer(NamedTuple):
    """displacement: (2, H, W). inliers: windows that agree on its affine."""

    displacement: Floats
    inliers: int


def sift_ransac(optical: Bytes, sar: Bytes) -> Floats | None:
    """SIFT on grey images, mutual nearest neighbours without a rival, RANSAC affine."""
    sift = cv2.SIFT.create()
    optical_points, optical_features = sift.detectAndCompute(
        grey(optical).astype(np.uint8), covered(optical).astype(np.uint8)
    )
    sar_points, sar_features = sift.detectAndCompute(sar[0], covered(sar).astype(np.uint8))
    if min(len(optical_points), len(sar_points)) < 2:
        return None
    forth = unrivalled(optical_features, sar_features)
    back = unrivalled(sar_features, optical_features)
    pairs = [(i, j) for i, j in forth.items() if back.get(j) == i]
    optical_xy = np.array([optical_points[i].pt for i, _ in pairs]).reshape(-1, 2)
    sar_xy = np.array([sar_points[j].pt for _, j in pairs]).reshape(-1, 2)
    found = ransac_affine(optical_xy, sar_xy, SIFT_TOLERANCE_PX)
    return None if found is None else affine_displacement(found[0], *sar.shape[1:])


def oriented_gradient_grid(
    optical: Bytes, sar: Bytes, field: Literal["affine", "smooth"] = "affine"
) -> Floats | None:
    """Windows of oriented gradients on a grid, from the identity: for georeferenced pairs."""
    identity = affine_displacement(np.eye(2, 3), *sar.shape[1:])
    rounds = AFFINE_ROUNDS if field == "affine" else SMOOTH_ROUNDS
    answer = refined(optical, sar, identity, rounds, field)
    return None if answer is None else answer.displacement


def exhaustive(optical: Bytes, sar: Bytes) -> Floats | None:
    """Every rotation, scale and translation at 128 px; then the grid, from the best few."""
    starts = [affine_displacement(affine, *sar.shape[1:]) for affine in search(optical, sar)]
    answers = [refined(optical, sar, start, HYPOTHESIS_ROUNDS) for start in starts]
    answered = [answer for answer in answers if answer is not None]
    if not answered:
        return None
    best = max(answered, key=lambda answer: answer.inliers)
    final = refined(optical, sar, best.displacement, (LAST_ROUND,))
    return None if final is None else final.displacement


BASELINES: dict[str, Baseline] = {
    "sift": sift_ransac,
    "gradients": oriented_gradient_grid,
    "gradients-smooth": lambda optical, sar: oriented_gradient_grid(optical, sar, "smooth"),
    "exhaustive": exhaustive,
}


def unrivalled(features: MatLike, others: MatLike, ratio: float = 0.8) -> dict[int, int]:
    """Index of each (N, 128) feature's nearest other one, where the second is much further."""
    nearest_two = cv2.BFMatcher().knnMatch(features, others, k=2)
    return {
        first.queryIdx: first.trainIdx
        for first, second in nearest_two
        if first.distance < ratio * second.distance
    }


def refined(
    optical: Bytes,
    sar: Bytes,
    displacement: Floats,
    rounds: tuple[Round, ...],
    field: Literal["affine", "smooth"] = "affine",
) -> Answer | None:
    """The answer after some rounds from `displacement` (2, H, W)."""
    height, width = sar.shape[1:]
    target = oriented_gradients(grey(optical), covered(optical))
    inliers = 0
    for settings in rounds:
        sar_x, sar_y = displacement + pixel_xy(height, width)
        warped = cv2.remap(sar[0].astype(np.float32), sar_x, sar_y, cv2.INTER_LINEAR)
        inside = cv2.remap(covered(sar).astype(np.float32), sar_x, sar_y, cv2.INTER_LINEAR)
        moving = oriented_gradients(warped, inside > 0.99)
        optical_xy, offset_xy = window_offsets(target, moving, settings)
        warped_xy = optical_xy + offset_xy
        sar_xy = warped_xy + values_at(displacement, warped_xy)
        found = ransac_affine(optical_xy, sar_xy, settings.tolerance_px)
        if found is None:
            return None
        affine, agrees = found
        displacement, inliers = affine_displacement(affine, height, width), int(agrees.sum())
        if field == "smooth":
            known_xy = optical_xy[agrees]
            rest = sar_xy[agrees] - known_xy - values_at(displacement, known_xy)
            displacement = displacement + thin_plate(known_xy, rest, height, width)
    return Answer(displacement, inliers)


def window_offsets(target: Tensor, moving: Tensor, settings: Round) -> tuple[Doubles, Doubles]:
    """Where windows of one image lie in another, by normalised correlation over all offsets.

    A quarter of a window may hang over the border, so that the rim is matched too.

    Args:
        target, moving: (C, H, W) float32 channels, 0 where there is nothing.

    Returns:
        Centres and offsets of the windows, both (N, 2) pixels (x, y); without windows that are
        half empty and those whose best offset lies on the border of the search.
    """
    window, step, reach = settings.window_px, settings.step_px, settings.search_px
    side, lags, over = window + 2 * reach, 2 * reach + 1, window // 4
    target, moving = F.pad(target, [over] * 4), F.pad(moving, [over + reach] * 4)
    windows = target.unfold(1, window, step).unfold(2, window, step)
    searched = moving.unfold(1, side, step).unfold(2, side, step)
    spectrum = torch.fft.rfft2(searched) * torch.fft.rfft2(windows, s=(side, side)).conj()
    product = torch.fft.irfft2(spectrum.sum(dim=0), s=(side, side))[..., :lags, :lags]
    target_energy = box_sum(target.square().sum(dim=0), window)[::step, ::step, None, None]
    moving_energy = box_sum(moving.square().sum(dim=0), window)
    moving_energy = moving_energy.unfold(0, lags, step).unfold(1, lags, step)
    floor = 1e-3 * window**2
    score = product / (target_energy.clamp_min(floor) * moving_energy.clamp_min(floor)).sqrt()

    place_xy, inside = peaks(score.reshape(-1, lags, lags).numpy())
    row, column = np.indices(score.shape[:2]).reshape(2, -1)
    centre_xy = np.stack([column, row], axis=1) * step + (window - 1) / 2 - over
    filled = box_sum((target != 0).any(dim=0).float(), window)[::step, ::step] / window**2
    used = inside & (filled.numpy().ravel() > 0.5)
    return centre_xy[used], place_xy[used] - reach


def peaks(score: Floats) -> tuple[Doubles, Bools]:
    """Maxima of (N, h, w): (N, 2) sub-pixel places (x, y), and (N,) whether off the border."""
    count, height, width = score.shape
    row, column = np.divmod(score.reshape(count, -1).argmax(axis=1), width)
    inside = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
    y, x, n = row.clip(1, height - 2), column.clip(1, width - 2), np.arange(count)
    dx = parabola(score[n, y, x - 1], score[n, y, x], score[n, y, x + 1])
    dy = parabola(score[n, y - 1, x], score[n, y, x], score[n, y + 1, x])
    return np.stack([x + dx, y + dy], axis=1), inside


def parabola(before: Floats, peak: Floats, after: Floats) -> Doubles:
    """Sub-sample place of a maximum from three samples, within +-0.5."""
    curvature = np.minimum(before - 2 * peak + after, -1e-9).astype(np.float64)
    return np.asarray(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5))


def box_sum(image: Tensor, side_px: int) -> Tensor:
    """Sums of (H, W) over all whole squares: (H - side + 1, W - side + 1) float32."""
    total = F.pad(image.double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    rows = total[side_px:] - total[:-side_px]
    return (rows[:, side_px:] - rows[:, :-side_px]).float()


def search(optical: Bytes, sar: Bytes) -> list[Doubles]:
    """The best few (2, 3) `sar_from_optical` affines: all rotations, scales and translations.

    Translations reach half the image, at 128 px; the SAR is turned and scaled about its centre.
    """
    factor = max(sar.shape[1:]) / SEARCH_SIDE_PX
    height, width = (round(side / factor) for side in sar.shape[1:])
    optical_small, optical_inside, sar_small, sar_inside = (
        cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        for image in (grey(optical), covered(optical), sar[0], covered(sar))
    )
    size = (height * 3 // 2, width * 3 // 2)
    target = with_energy(oriented_gradients(optical_small, optical_inside > 0.99))
    target_spectra = torch.fft.rfft2(target, s=size).conj()
    found: list[tuple[float, Doubles]] = []
    for scale in SCALES:
        affines = [turned(scale, angle_deg, height, width) for angle_deg in ROTATIONS_DEG]
        moving = torch.stack([warped_channels(sar_small, sar_inside, a) for a in affines])
        best = overlap_correlation(target_spectra, moving, size).flatten(1).max(dim=1)
        for affine, score, place in zip(affines, best.values, best.indices, strict=True):
            dy, dx = (
                (int(lag) + length // 2) % length - length // 2
                for lag, length in zip(divmod(int(place), size[1]), size, strict=True)
            )
            found.append((float(score), np.column_stack([affine[:, :2], affine @ [dx, dy, 1]])))
    half = (factor - 1) / 2  # pixel centres are integers at both sizes
    return [
        np.column_stack([a[:, :2], factor * a[:, 2] + half - a[:, :2] @ [half, half]])
        for a in distinct(found, height, width)
    ]


def turned(scale: float, angle_deg: float, height: int, width: int) -> Doubles:
    """(2, 3) similarity about the centre of an image."""
    cos, sin = scale * np.cos(np.radians(angle_deg)), scale * np.sin(np.radians(angle_deg))
    linear = np.array([[cos, -sin], [sin, cos]])
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.column_stack([linear, centre - linear @ centre])


def warped_channels(sar: MatLike, inside: MatLike, sar_from_optical: Doubles) -> Tensor:
    """Channels and energy of the SAR image (H, W) as an affine brings it to the optical frame."""
    size, flags = sar.shape[::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(sar, sar_from_optical, size, flags=flags)
    inside = cv2.warpAffine(inside, sar_from_optical, size, flags=flags)
    return with_energy(oriented_gradients(warped, inside > 0.99))


def with_energy(channels: Tensor) -> Tensor:
    """(C, H, W) and two planes more: the channels' energy, and 1 where there is any."""
    energy = channels.square().sum(dim=0, keepdim=True)
    return torch.cat([channels, energy, (energy > 0).float()])


def overlap_correlation(target_spectra: Tensor, moving: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, *size) correlation by translation, normalised over the overlap, times its share.

    The share is what keeps chance agreement in small overlaps from winning.

    Args:
        target_spectra: (C + 2, ...) conjugate spectra. moving: (B, C + 2, H, W), `with_energy`.
    """
    spectra = torch.fft.rfft2(moving, s=size)
    target_energy, target_mask = target_spectra[-2:]
    products = [
        (spectra[:, :-2] * target_spectra[:-2]).sum(dim=1),
        spectra[:, -1] * target_energy,
        spectra[:, -2] * target_mask,
        spectra[:, -1] * target_mask,
    ]
    product, of_target, of_moving, overlap_px = torch.fft.irfft2(torch.stack(products), s=size)
    share = overlap_px / (moving.shape[-2] * moving.shape[-1])
    score: Tensor = share * product / (of_target.clamp_min(1) * of_moving.clamp_min(1)).sqrt()
    return score


def distinct(found: list[tuple[float, Doubles]], height: int, width: int) -> list[Doubles]:
    """The best affines out of (score, affine) that differ at the corners of the image."""
    corners = np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    kept: list[Doubles] = []
    for _, affine in sorted(found, key=lambda item: -item[0]):
        if all(np.hypot(*((affine - one) @ corners)).mean() > APART_PX for one in kept):
            kept.append(affine)
    return kept[:HYPOTHESES]


def oriented_gradients(image: MatLike, inside: Bools) -> Tensor:
    """(9, H, W) channels of an image (H, W), each less its mean; 0 where not `inside` (H, W)."""
    image = cv2.GaussianBlur(image, (0, 0), IMAGE_BLUR_PX)
    # Nodata is dark: the gradient at its border shows nothing of the ground.
    inner = cv2.erode(inside.astype(np.float32), np.ones((5, 5), np.uint8))
    gx, gy = (inner * cv2.Sobel(image, cv2.CV_32F, dx, 1 - dx) for dx in (1, 0))
    angle = np.arange(ORIENTATIONS, dtype=np.float32) * np.float32(np.pi / ORIENTATIONS)
    channels = np.abs(gx[..., None] * np.cos(angle) + gy[..., None] * np.sin(angle))
    channels = cv2.GaussianBlur(channels, (0, 0), CHANNEL_BLUR_PX)
    length = np.sqrt(np.einsum("ijk,ijk->ij", channels, channels))
    pixels = max(float(inner.sum()), 1.0)
    channels *= (inner / (length + FLOOR * length.sum() / pixels + 1e-6))[..., None]
    channels -= (channels.sum(axis=(0, 1)) / pixels) * inner[..., None]
    return torch.from_numpy(np.ascontiguousarray(channels.transpose(2, 0, 1)))


def grey(image: Bytes) -> Floats:
    """(H, W) mean of the bands."""
    return np.asarray(image.mean(axis=0), np.float32)


def covered(image: Bytes) -> Bools:
    """(H, W) where there is data: zeros in more than a dark speck are none."""
    brightest = np.asarray(image.max(axis=0), np.uint8)
    return cv2.morphologyEx(brightest, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0


def ransac_affine(
    optical_xy: Doubles, sar_xy: Doubles, tolerance_px: float
) -> tuple[Doubles, Bools] | None:
    """(2, 3) affine between (N, 2) points and its (N,) inliers; None with too few."""
    if len(optical_xy) < MIN_INLIERS:
        return None
    affine, inlier = cv2.estimateAffine2D(
        optical_xy, sar_xy, ransacReprojThreshold=tolerance_px, confidence=0.999, refineIters=20
    )
    if affine is None or inlier.sum() < MIN_INLIERS:
        return None
    return np.asarray(affine, np.float64), inlier[:, 0] > 0


def thin_plate(xy: Doubles, offset_xy: Doubles, height: int, width: int) -> Floats:
    """(2, H, W) smoothing thin-plate spline through (N, 2) offsets at (N, 2) points."""
    coarse_xy = pixel_xy(-(-height // FIELD_STEP_PX) + 1, -(-width // FIELD_STEP_PX) + 1)
    spline = RBFInterpolator(xy, offset_xy, smoothing=SMOOTHING)
    coarse = spline(coarse_xy.reshape(2, -1).T * FIELD_STEP_PX).T.reshape(coarse_xy.shape)
    places = pixel_xy(height, width)[::-1] / FIELD_STEP_PX
    return np.stack([map_coordinates(plane, places) for plane in coarse]).astype(np.float32)


def affine_displacement(sar_from_optical: Doubles, height: int, width: int) -> Floats:
    """(2, H, W) displacement of a (2, 3) affine."""
    xy = pixel_xy(height, width).reshape(2, -1)
    moved = sar_from_optical[:, :2] @ xy + sar_from_optical[:, 2:] - xy
    return moved.reshape(2, height, width).astype(np.float32)


def pixel_xy(height: int, width: int) -> Floats:
    """(2, H, W) pixel positions (x, y)."""
    return np.indices((height, width), dtype=np.float32)[::-1]


def values_at(displacement: Floats, xy: Doubles) -> Doubles:
    """(N, 2) values of (2, H, W) at (N, 2) positions (x, y), bilinear."""
    places = xy.T[::-1]
    values = [map_coordinates(d, places, order=1, mode="nearest") for d in displacement]
    return np.stack(values, axis=1).astype(np.float64)
