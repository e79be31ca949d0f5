"""What the network is taught by."""

from __future__ import annotations

import torch
from torch import Tensor

from tar_engine.network.cfdm import dual_softmax
from tar_engine.training.patches import UNKNOWN

SPREAD_PX = 0.45  # of a true shift over whole offsets: the narrowest that does not favour them


def find_true_cells(sar_xy: Tensor, cells: int, cell_px: float) -> tuple[Tensor, Tensor]:
    """The SAR cell in which each optical cell's centre truly falls.

    Args:
        sar_xy: (B, N, 2) true places, in pixels of the images the network sees.
        cells: SAR cells along a side. cell_px: their size in those pixels.

    Returns:
        index (B, N) int64 and inside (B, N) bool; index is 0 where the place is outside.
    """
    sar_cell = torch.floor((sar_xy + 0.5) / cell_px).long()
    inside = ((sar_cell >= 0) & (sar_cell < cells)).all(dim=-1)
    return (sar_cell[..., 1] * cells + sar_cell[..., 0]).where(inside, 0), inside


def matching_loss(similarity: Tensor, index: Tensor, inside: Tensor) -> Tensor:
    """Mean negative log-likelihood of the true matches under the dual softmax of (B, N, N)."""
    doubled, rows, columns = dual_softmax(similarity)
    chosen = (
        doubled.gather(2, index[..., None])[..., 0] - rows[..., 0] - columns[:, 0].gather(1, index)
    )
    weight = inside.float()
    return -(chosen * weight).sum() / weight.sum().clamp_min(1.0)


def agreement_loss(
    optical_concepts: Tensor, sar_concepts: Tensor, index: Tensor, inside: Tensor
) -> Tensor:
    """Both sensors should take matching cells for the same concept, and use all concepts.

    Cross-entropy of one sensor's concepts under the other's, both ways, less the entropy of the
    batch's mean concept, which keeps the answer from collapsing onto one word.

    Args:
        optical_concepts, sar_concepts: (B, M, K) log-probabilities on the token grid.
        index, inside: (B, M) true cells on that grid.
    """
    matched = sar_concepts.gather(1, index[..., None].expand(-1, -1, sar_concepts.shape[-1]))
    weight = inside.float()
    both = (optical_concepts.exp() * matched + matched.exp() * optical_concepts).sum(dim=-1)
    agreement = -(both * weight).sum() / (2 * weight.sum().clamp_min(1.0))
    mean = torch.cat([optical_concepts, sar_concepts]).exp().mean(dim=(0, 1))
    return agreement - 2.0 * -(mean * (mean + 1e-9).log()).sum()


def naming_loss(concepts: Tensor, cover: Tensor, concept_of_cover: Tensor) -> Tensor:
    """Cross-entropy of tokens' concepts where the cover under them is known.

    The last cover is cloud. It is known everywhere, since clouds were drawn: where the cover is
    UNKNOWN, the token is called anything but cloud.

    Args:
        concepts: (B, M, K) log-probabilities. cover: (B, M) index of a cover, or UNKNOWN.
        concept_of_cover: (covers,) index of each cover's concept in the text bank.
    """
    known = cover != UNKNOWN
    wanted = concept_of_cover[cover.where(known, 0)]
    named = concepts.gather(2, wanted[..., None])[..., 0]
    cloud = concepts[..., concept_of_cover[-1]].exp()
    clear = torch.log1p(-cloud.clamp_max(0.999))
    return -torch.where(known, named, clear).mean()


def window_loss(
    logits: Tensor, nowhere: Tensor, shift: Tensor, found: Tensor, not_found: Tensor
) -> Tensor:
    """Mean negative log-likelihood of what is true of windows: one shift per pair, or none at all.

    The true shift falls between whole offsets; it is spread over those around it as a Gaussian.
    What is found nowhere has a logit of its own (the dustbin of SuperGlue, Sarlin et al. 2020).

    Args:
        logits: (B, rows, columns, 2R+1, 2R+1) by offset. nowhere: (), the logit of no offset.
        shift: (B, 2) pixels (dx, dy). found, not_found: (B, rows, columns) bool, the windows that
            show what lies at `shift`, and those that do not; others do not count.
    """
    lags = logits.shape[-1]
    lag = torch.arange(lags, device=logits.device) - (lags - 1) // 2
    offset = torch.stack([lag.expand(lags, lags), lag[:, None].expand(lags, lags)], dim=-1)
    distance = (offset.view(1, -1, 2) - shift[:, None]).square().sum(dim=-1)
    wanted = (-distance / (2 * SPREAD_PX**2)).softmax(dim=-1)[:, None, None]
    none = nowhere.expand(*logits.shape[:3], 1)
    likely = torch.cat([logits.flatten(3), none], dim=-1).log_softmax(dim=-1)
    lost = -(likely[..., :-1] * wanted).sum(dim=-1) * found - likely[..., -1] * not_found
    return lost.sum() / (found | not_found).sum().clamp_min(1)
