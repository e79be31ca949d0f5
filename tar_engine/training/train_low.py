"""What low-level features learn from: places of aligned pairs, moved by a shift that is known.

A window of SAR is correlated with the optical one at every shift in reach; the features that make
the true shift the likeliest are the ones to have. Pairs are never aligned to the sub-pixel, and one
shift for a whole patch is the larger part of what is wrong with them: structure, which needs no
training, measures that shift first, over the whole patch, and the truth is corrected by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tar_engine.config import RefineConfig
from tar_engine.coordinates import apply_affine, pixel_grid
from tar_engine.deformation import AffineRange, invert_affine, random_affines, sample
from tar_engine.matching.windows import correlation_surfaces, match_windows, subtract_mean
from tar_engine.network.model import TarNetwork
from tar_engine.network.msfl import normalise, normalise_with_nan, structure, valid_mask
from tar_engine.training.augment import apply_symmetry, sar_appearance
from tar_engine.training.losses import shift_loss
from tar_engine.training.patches import PatchPairs

CROP_PX = 128
REACH_PX = 4.5  # of the shifts that are drawn
WINDOWS = RefineConfig(cell_px=16, window_cells=3, search_px=6)
WHOLE = RefineConfig(
    cell_px=16, window_cells=7, search_px=6
)  # windows that measure a pair's own shift
APART = AffineRange((0.8, 1.25), 40.0, 0.0)  # SAR is resampled by this and back, as in matching
AS_IT_IS_SHARE = 0.35  # of pairs without that
SPECKLED_SHARE = 0.3
CLEAREST = 0.4  # of the windows of a patch, by confidence, that measure its own shift


@dataclass(frozen=True)
class LowBatch:
    """optical, sar: (B, bands, S, S) normalised, NaN for nodata. shift: (B, 2) pixels."""

    optical: Tensor
    sar: Tensor
    shift: Tensor


def measure_own_shifts(data: PatchPairs) -> Tensor:
    """(N, 2) how far each pair's SAR lies from its optical image, by structure alone, pixels."""
    found = []
    for index in range(len(data)):
        optical, sar = (
            structure(*normalise(images[index : index + 1])) for images in (data.optical, data.sar)
        )
        everywhere = torch.ones_like(optical[:, :1])
        windows = match_windows(
            subtract_mean(optical[:, :2]), subtract_mean(sar[:, :2]), everywhere, WHOLE
        )
        confidence = windows.confidence[0]
        clear = confidence >= confidence.quantile(1 - CLEAREST)
        found.append(windows.offset_xy[0][clear].median(dim=0).values)
    return torch.stack(found)


def draw_low_batch(data: PatchPairs, own: Tensor, batch: int, seed: int) -> LowBatch:
    """A random batch, fully determined by `seed`; `own` are the pairs' `measure_own_shifts`."""
    device, side = data.optical.device, data.optical.shape[-1]
    generator = torch.Generator(device).manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    chosen = torch.randint(len(data), (batch,), generator=generator, device=device)
    turn = torch.randint(8, (batch, 1, 1, 1), generator=generator, device=device)
    both = torch.cat([data.optical[chosen], data.sar[chosen]], dim=1).float() / 255
    both, own = apply_symmetry(both, turn), turn_shifts(own[chosen], turn[:, 0, 0, 0])
    optical, sar = both[:, :-1], both[:, -1:]
    speckled = sar_appearance(sar, generator).masked_fill(sar == 0, 0.0)
    sar = torch.where(uniform(batch, 1, 1, 1) < SPECKLED_SHARE, speckled, sar)

    crop_px = min(CROP_PX, side)
    corner = (uniform(batch, 1, 2) * (side - crop_px + 1)).floor()
    crop = pixel_grid(crop_px, crop_px, device).reshape(1, -1, 2) + corner
    shift = REACH_PX * (2 * uniform(batch, 2) - 1)
    apart = random_affines(APART, batch, side, generator).float()
    identity = torch.eye(2, 3, device=device).expand(batch, 2, 3)
    apart = torch.where(uniform(batch, 1, 1) < AS_IT_IS_SHARE, identity, apart)
    grid = pixel_grid(side, side, device).reshape(1, -1, 2).expand(batch, -1, 2)
    moved = sample(sar, apply_affine(invert_affine(apart), grid).view(batch, side, side, 2))
    back = apply_affine(apart, crop - shift[:, None] + own[:, None])
    shape = (batch, crop_px, crop_px, 2)
    return LowBatch(
        normalise_with_nan(sample(optical, crop.view(shape))),
        normalise_with_nan(sample(moved, back.view(shape))),
        shift,
    )


def low_loss(network: TarNetwork, batch: LowBatch) -> Tensor:
    """Negative log-likelihood of the true shifts, over windows that see both sensors."""
    optical = network.low_level(batch.optical, "optical")
    sar = network.low_level(batch.sar, "sar")
    surfaces = correlation_surfaces(subtract_mean(optical), subtract_mean(sar), WINDOWS)
    both = valid_mask(batch.optical) * valid_mask(batch.sar)
    cells = torch.nn.functional.avg_pool2d(both, WINDOWS.cell_px)[:, 0] > 0.9
    return shift_loss(surfaces, network.low_sharpness.exp(), batch.shift, cells)


def turn_shifts(shift: Tensor, turn: Tensor) -> Tensor:
    """Shifts (B, 2) in images that `augment.apply_symmetry` has turned by (B,)."""
    x = torch.where(turn // 2 % 2 == 1, -shift[:, 0], shift[:, 0])
    y = torch.where(turn % 2 == 1, -shift[:, 1], shift[:, 1])
    swapped = (turn // 4 == 1)[:, None]
    return torch.where(swapped, torch.stack([y, x], dim=1), torch.stack([x, y], dim=1))
