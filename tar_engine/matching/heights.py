"""Relief as a regressor: what ground of known height says of a radar's displacement.

A radar whose geocoding ignored the terrain shows a point nearer by its height over the tangent of
the incidence (Schreier, SAR Geocoding, 1993). Over an image that is one direction and one number
of pixels a metre: two coefficients, which all windows together know far better than each its own
offset. A plane of heights is an affine's; only what they have beyond their plane counts here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.config import HeightConfig
from tar_engine.coordinates import normalised_from_pixel
from tar_engine.deformation import shrink
from tar_engine.fields.robust import robust_weight
from tar_engine.matching.windows import sum_windows


@dataclass(frozen=True)
class Relief:
    """Relief and how far it displaces SAR.

    relief_m: (B, 1, H, W) float32 metres beyond a plane, 0 where unknown, on the optical image's
    pixels. px_per_m: (B, 2), of (dx, dy).
    """

    relief_m: Tensor
    px_per_m: Tensor

    @classmethod
    def of(cls, heights: Tensor) -> Relief:
        """Of heights (B, H, W) in metres, NaN where unknown; it displaces nothing yet."""
        return cls(beyond_plane(heights)[:, None], heights.new_zeros(len(heights), 2))

    def padded(self, height: int, width: int) -> Relief:
        """With flat ground to the right and below, up to that size."""
        held = self.relief_m.shape[-2:]
        around = (0, width - held[1], 0, height - held[0])
        return replace(self, relief_m=F.pad(self.relief_m, around))

    def metres_at(self, optical_xy: Tensor) -> Tensor:
        """(B, N) relief at optical pixels (N, 2) or (B, N, 2), metres."""
        batch, _, height, width = self.relief_m.shape
        places = normalised_from_pixel(optical_xy, height, width)
        places = places.expand(batch, *optical_xy.shape[-2:])[:, None]
        sampled = F.grid_sample(
            self.relief_m, places, mode="bilinear", padding_mode="border", align_corners=False
        )
        return sampled[:, 0, 0]

    def at(self, optical_xy: Tensor) -> Tensor:
        """(B, N, 2) displacement at optical pixels, pixels."""
        return self.metres_at(optical_xy)[..., None] * self.px_per_m[:, None]

    def on_grid(self, height: int, width: int) -> Tensor:
        """(B, 2, height, width): the displacement of the optical image shrunk to that size."""
        return shrink(self.relief_m, height, width) * self.px_per_m[..., None, None]

    def learn(
        self,
        beyond_px: Tensor,
        weight: Tensor,
        shape: tuple[int, int],
        cell_px: int,
        window_cells: int,
        config: HeightConfig,
    ) -> tuple[Relief, Tensor]:
        """What windows add to the coefficients, and what that leaves of what they found.

        Args:
            beyond_px: (B, N, 2), what each window finds beyond what is known: of its whole area.
            weight: (B, N), not negative.
            shape: rows and columns of the cells, of `cell_px`, that windows are made of.
        """
        metres = self.metres_of_windows(shape, cell_px, window_cells)
        plane = plane_over(*shape, metres.device).expand(len(metres), -1, -1)
        design = torch.cat([plane, metres[..., None] / config.noise_m], dim=-1)
        solution = solve_weighted(design, beyond_px, weight)
        for _ in range(config.reweightings):
            squared_px = (beyond_px - design @ solution).square().sum(dim=-1)
            trust = robust_weight(squared_px, config.tolerance_px, weight)
            solution = solve_weighted(design, beyond_px, trust)
        added = solution[:, 3] / config.noise_m
        left_px = beyond_px - metres[..., None] * added[:, None]
        return replace(self, px_per_m=self.px_per_m + added), left_px

    def metres_of_windows(self, shape: tuple[int, int], cell_px: int, window_cells: int) -> Tensor:
        """(B, N): the mean relief of windows of cells, tapered as they are."""
        rows, columns = shape
        cells = F.avg_pool2d(self.relief_m, cell_px)[:, 0, :rows, :columns, None, None]
        area = sum_windows(torch.ones_like(cells), window_cells)
        return (sum_windows(cells, window_cells) / area).flatten(1)


def beyond_plane(heights: Tensor) -> Tensor:
    """What heights (B, H, W), NaN where unknown, have beyond their plane; 0 where unknown."""
    height, width = heights.shape[1:]
    known = heights.isfinite().flatten(1).float()
    heights = heights.nan_to_num(0.0, 0.0, 0.0).flatten(1)
    count = known.sum(dim=1, keepdim=True).clamp_min(1)
    above = ((heights - (heights * known).sum(dim=1, keepdim=True) / count) * known)[..., None]
    plane = plane_over(height, width, heights.device).expand(len(heights), -1, -1)
    beyond = (above - plane @ solve_weighted(plane, above, known))[..., 0] * known
    return beyond.view(-1, height, width)


def plane_over(rows: int, columns: int, device: torch.device) -> Tensor:
    """(rows * columns, 3): what a plane over a grid is made of, each in [-1, 1]."""
    y = torch.linspace(-1, 1, rows, device=device)[:, None].expand(rows, columns)
    x = torch.linspace(-1, 1, columns, device=device).expand(rows, columns)
    return torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(0, 1)


def solve_weighted(design: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """(B, K, C) least squares of `wanted` (B, N, C) by `design` (B, N, K), weighted (B, N).

    The first three columns are a plane's; of a fourth, a part as small as 1 is not believed.
    """
    share = (weight / weight.sum(dim=1, keepdim=True).clamp_min(1e-12))[..., None]
    ridge = torch.tensor([1e-6, 1e-6, 1e-6, 1.0], device=design.device)[: design.shape[-1]]
    weighted = (design * share).transpose(1, 2)
    # The ridge keeps the system regular; `solve` would wait for the device to check that.
    system = weighted @ design + torch.diag(ridge)
    solution: Tensor = torch.linalg.solve_ex(system, weighted @ wanted)[0]
    return solution
