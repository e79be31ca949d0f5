"""One affine from many uncertain matches, for a whole batch at once.

Hypotheses are similarities through two matches (RANSAC, Fischler and Bolles 1981), drawn by weight
with one fixed set of random numbers for every pair, so that a pair's answer depends neither on its
neighbours in the batch nor on the run. The best by MSAC (Torr and Zisserman 2000) is polished to an
affine by reweighted least squares.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tar_engine.constants import made_once
from tar_engine.coordinates import apply_affine
from tar_engine.fields.robust import msac_vote, robust_weight


@made_once
def _fixed_uniform(count: int, device: torch.device) -> Tensor:
    """(2 count,) float32 in [0, 1)."""
    drawn = torch.rand(count, 2, generator=torch.Generator().manual_seed(20))
    return drawn.clamp_max(0.999999).flatten().to(device)


def draw_similarities(optical_xy: Tensor, sar_xy: Tensor, weight: Tensor, count: int) -> Tensor:
    """(B, count, 2, 3) similarities, each through two matches drawn in proportion to weight.

    Args:
        optical_xy, sar_xy: (B, N, 2). weight: (B, N), not negative.
    """
    ladder = weight.cumsum(dim=1)
    ladder = ladder / ladder[:, -1:].clamp_min(1e-12)
    uniform = (
        _fixed_uniform(count, weight.device).to(weight).expand(weight.shape[0], -1).contiguous()
    )
    drawn = torch.searchsorted(ladder.contiguous(), uniform).clamp_max(weight.shape[1] - 1)
    drawn = drawn[..., None].expand(-1, -1, 2)
    first, second = optical_xy.gather(1, drawn).view(-1, count, 2, 2).unbind(2)
    first_sar, second_sar = sar_xy.gather(1, drawn).view(-1, count, 2, 2).unbind(2)
    along, along_sar = second - first, second_sar - first_sar
    length = along.square().sum(-1, keepdim=True).clamp_min(1e-6)
    cosine = (along * along_sar).sum(-1, keepdim=True) / length
    sine = (along[..., :1] * along_sar[..., 1:] - along[..., 1:] * along_sar[..., :1]) / length
    linear = torch.cat([cosine, -sine, sine, cosine], dim=-1).view(-1, count, 2, 2)
    shift = first_sar - (linear @ first[..., None])[..., 0]
    return torch.cat([linear, shift[..., None]], dim=-1)


def msac_support(
    affine: Tensor, optical_xy: Tensor, sar_xy: Tensor, weight: Tensor, inlier_px: float
) -> Tensor:
    """(B, H) share of the weight that agrees with each affine of (B, H, 2, 3), by MSAC.

    Args:
        optical_xy, sar_xy: (B, N, 2) pixels. weight: (B, N), not negative.
        inlier_px: from this residual on a match does not agree at all.
    """
    residual = apply_affine(affine, optical_xy[:, None]) - sar_xy[:, None]
    vote = msac_vote(residual.square().sum(-1), inlier_px)
    return (vote * weight[:, None]).sum(-1) / weight.sum(-1, keepdim=True).clamp_min(1e-12)


def polish_affine(
    affine: Tensor,
    optical_xy: Tensor,
    sar_xy: Tensor,
    weight: Tensor,
    inlier_px: float,
    rounds: int = 5,
) -> Tensor:
    """Reweighted least squares from a start (B, 2, 3); the tolerance falls to `inlier_px` / 3.

    A small pull towards the start keeps the answer defined where few matches agree. Matches as in
    `msac_support`.
    """
    centre = optical_xy.mean(dim=1, keepdim=True)
    spread = (optical_xy - centre).square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1.0)
    ones = torch.ones_like(weight)[..., None]
    design = torch.cat([(optical_xy - centre) / spread, ones], dim=-1)
    ridge = 1e-3 * torch.eye(3, dtype=design.dtype, device=design.device)
    for step in range(rounds):
        tolerance = inlier_px * (1 - (2 / 3) * step / max(1, rounds - 1))
        predicted = apply_affine(affine, optical_xy)
        residual = sar_xy - predicted
        pull = robust_weight(residual.square().sum(-1), tolerance, weight)
        pull = pull / pull.sum(dim=1, keepdim=True).clamp_min(1e-12)
        weighted = design * pull[..., None]
        # The ridge keeps the system regular; `solve` would wait for the device to check that.
        correction, _ = torch.linalg.solve_ex(
            weighted.transpose(1, 2) @ design + ridge, weighted.transpose(1, 2) @ residual
        )
        linear = correction[:, :2].transpose(1, 2) / spread
        shift = correction[:, 2] - (linear @ centre.transpose(1, 2))[..., 0]
        affine = affine + torch.cat([linear, shift[..., None]], dim=-1)
    return affine
