"""The refinement: estimate, warp, estimate again, from coarse to full resolution; then confirm.

    affine ── windows, coarse to fine ── affine and beyond ── all windows together, as a field
        └── windows once more, on what the positions warp: do they see it too?

Each round warps the SAR image by the positions so far and updates them: one affine for the pair,
and on top of it a smooth displacement per cell, so that terrain is followed too. Large windows find
their way from far; small ones together (`dense.py`) say where exactly; and large ones, which know
nothing of their neighbours, bear witness.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tar_engine.config import RefineConfig, RivalConfig
from tar_engine.coordinates import apply_affine, cell_centres, rescale_affine
from tar_engine.fields.consensus import draw_similarities, msac_support, polish_affine
from tar_engine.fields.matches import BatchMatches
from tar_engine.fields.robust import msac_vote, robust_weight
from tar_engine.matching.dense import estimate_smooth_offsets
from tar_engine.matching.positions import ImagePair, SarPositions
from tar_engine.matching.rivals import fit_whole
from tar_engine.matching.windows import WindowMatches, match_windows
from tar_engine.network.filters import filter_separable, gaussian_kernel


def refine(
    pair: ImagePair,
    positions: SarPositions,
    factors: Sequence[int],
    config: RefineConfig,
    *,
    exactly: bool,
) -> SarPositions:
    """SAR positions by windows from coarse to fine, then by all small windows together.

    Args:
        positions: where to start. factors: how many times both images are shrunk, round by round
            of the large windows.
        exactly: every round of small windows on features of the warped image, not only the last.
    """
    for factor in factors:
        positions = update_by_windows(pair, positions, factor, config)
    for reach_px in config.dense_search_px:
        is_last = reach_px == config.dense_search_px[-1]
        positions = update_by_field(pair, positions, reach_px, config, exactly=exactly or is_last)
    return positions


def confirm_matches(
    pair: ImagePair, positions: SarPositions, config: RefineConfig, rivals: RivalConfig
) -> BatchMatches:
    """The positions at the cells of large windows, as far as these agree that they are right.

    And whether SAR as a whole would fit as well elsewhere; where it fits as a whole, what single
    windows say is worth more.
    """
    # Warped features have lost their finest details, which decide where windows are faint. A region
    # has other evidence: what lies around.
    features = pair.features_at(positions, 1, exactly=not pair.is_near)
    windows = match_windows(*features, config)
    squared_px = windows.offset_xy.square().sum(dim=-1)
    confidence = windows.confidence * msac_vote(squared_px, config.confirmed_px)
    error_px = squared_px.sqrt().masked_fill(~windows.covered.flatten(1), torch.inf)
    sar_xy = positions.at(windows.centre_xy)
    rival_px = prominence = torch.full_like(confidence, torch.nan)
    if pair.of_reference == "optical":  # radar of one orbit shares all of its texture
        whole = fit_whole(features.optical, features.sar, rivals)
        rival_px = whole.rival_px[:, None].expand_as(confidence)
        prominence = whole.prominence[:, None].expand_as(confidence)
        gain = (whole.sharpness / rivals.chance_sharpness).clamp(1, rivals.most_gain)
        confidence = (confidence * gain[:, None]).clamp_max(1)
    optical_xy = windows.centre_xy.expand_as(sar_xy)
    relief_m = torch.full_like(confidence, torch.nan)
    if positions.relief is not None:
        relief_m = positions.relief.metres_at(windows.centre_xy)
    return BatchMatches(optical_xy, sar_xy, confidence, error_px, rival_px, relief_m, prominence)


def window_support(pair: ImagePair, affine: Tensor, config: RefineConfig) -> Tensor:
    """How much windows agree with candidates, (B, K) of affines (B, K, 2, 3), at half size.

    The confidence of the windows that one affine near the candidate explains, per window. Windows
    know nothing of what led to the candidate, so a wrong one finds no support.
    """
    batch, kept = affine.shape[:2]
    positions = SarPositions(rescale_affine(affine.flatten(0, 1), 0.5, 0.5))
    windows = match_windows_at(pair.at_half_size(kept, config.cell_px), positions, 1, config)
    optical_xy, sar_xy, weight = window_positions(windows, positions)
    tolerance_px = config.tolerance_cells * config.cell_px
    _, share = consensus_affine(positions, optical_xy, sar_xy, weight, tolerance_px, config)
    return (share * weight.mean(dim=1)).view(batch, kept)


def match_windows_at(
    pair: ImagePair, positions: SarPositions, factor: int, config: RefineConfig
) -> WindowMatches:
    """What windows say at one resolution of the pair as `positions` warp it, full-size pixels."""
    return match_windows(*pair.features_at(positions, factor), config).at_full_size(factor)


def update_by_windows(
    pair: ImagePair, positions: SarPositions, factor: int, config: RefineConfig
) -> SarPositions:
    """A robust affine of what windows say, then what neighbours among them agree that it leaves."""
    windows = match_windows_at(pair, positions, factor, config)
    optical_xy, sar_xy, weight = window_positions(windows, positions.level())
    cell_px = config.cell_px * factor
    tolerance_px = config.tolerance_cells * cell_px
    start, _ = consensus_affine(positions, optical_xy, sar_xy, weight, tolerance_px, config)
    affine = polish_affine(start, optical_xy, sar_xy, weight, tolerance_px)
    residual = sar_xy - apply_affine(affine, optical_xy)
    (_, rows, columns), relief = windows.covered.shape, positions.relief
    if relief is not None:
        cells = cell_px, config.window_cells, config.heights
        relief, residual = relief.learn(residual, weight, (rows, columns), *cells)
    squared_px = residual.square().sum(dim=-1, keepdim=True)
    trust = robust_weight(squared_px, config.beyond_tolerance * tolerance_px, weight[..., None])
    stacked = torch.cat([residual * trust, trust], dim=-1).transpose(1, 2)
    kernel = gaussian_kernel(config.beyond_smoothing_cells, stacked.device)
    smooth = filter_separable(stacked.unflatten(2, (rows, columns)), kernel, kernel)
    typical = trust.mean(dim=1)[..., None, None]
    beyond = smooth[:, :2] / (smooth[:, 2:] + config.beyond_pull * typical + 1e-9)
    return SarPositions(affine, beyond, cell_px, relief)


def update_by_field(
    pair: ImagePair,
    positions: SarPositions,
    reach_px: int,
    config: RefineConfig,
    *,
    exactly: bool,
) -> SarPositions:
    """The positions moved by what all small windows together say of the pair as they warp it."""
    features = pair.features_at(positions, 1, exactly=exactly)
    offset, weight = estimate_smooth_offsets(features.optical, features.sar, reach_px, config)
    shape, cell_px = (offset.shape[-2], offset.shape[-1]), config.dense_cell_px
    centres = cell_centres(*shape, cell_px, offset.device)
    sar_xy = positions.level().at(centres + offset.flatten(2).transpose(1, 2))
    beyond = sar_xy - apply_affine(positions.affine, centres)
    relief = positions.relief
    if relief is not None:
        cells = cell_px, config.dense_window_cells, config.heights
        relief, beyond = relief.learn(beyond, weight.flatten(1), shape, *cells)
    beyond = beyond.transpose(1, 2).unflatten(2, shape)
    return SarPositions(positions.affine, beyond, cell_px, relief)


def window_positions(
    windows: WindowMatches, positions: SarPositions
) -> tuple[Tensor, Tensor, Tensor]:
    """Where windows point: optical_xy and sar_xy (B, N, 2) pixels, and their weight (B, N)."""
    sar_xy = positions.at(windows.centre_xy + windows.offset_xy)
    return windows.centre_xy.expand_as(sar_xy), sar_xy, windows.confidence + 1e-6


def consensus_affine(
    positions: SarPositions,
    optical_xy: Tensor,
    sar_xy: Tensor,
    weight: Tensor,
    tolerance_px: float,
    config: RefineConfig,
) -> tuple[Tensor, Tensor]:
    """The affine (B, 2, 3) with most support, that of `positions` included; and its share (B,)."""
    drawn = draw_similarities(optical_xy, sar_xy, weight, config.hypotheses)
    hypotheses = torch.cat([drawn, positions.affine[:, None]], dim=1)
    share, best = msac_support(hypotheses, optical_xy, sar_xy, weight, tolerance_px).max(dim=1)
    return hypotheses.take_along_dim(best[:, None, None, None], dim=1)[:, 0], share
