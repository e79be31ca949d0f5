"""The front door: two images in, a displacement or a refusal out.

images ─ normalise ─ what TAFE names cloud is nodata ─┬─ no prior: search of rotations and scales ─┐
                                                      └─ prior: the identity ────────────────────┤
              low-level windows, from coarse to full resolution, each on the re-warped pair ─────┘
              └─ matches on a grid ─ fit ─ displacement, or why not
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from threadpoolctl import ThreadpoolController
from torch import Tensor

from tar_engine.config import EngineConfig
from tar_engine.errors import InputError
from tar_engine.fields.fit import FitConfig, Verdict, fit
from tar_engine.fields.matches import Matches
from tar_engine.matching.refine import ImagePair, confirmation, refine, whole_cells
from tar_engine.matching.search import Cells, ranked, search, to_square
from tar_engine.network.model import Described, TarNetwork, native_autocast
from tar_engine.network.msfl import Sensor, as_seen, valid_of
from tar_engine.network.text import CLOUD_NAME
from tar_engine.network.weights import Checkpoint, load_checkpoint

MIN_SIDE_PX = 64
CLOUD_PROBABILITY = 0.25  # of a token's concept; low, so that the edges of clouds go too
MAX_OFFSET_PX = 1024.0  # of a prior; what may lie anywhere is searched without one


class BatchMatches(NamedTuple):
    """Matches of a batch of pairs on a grid of cells, row by row.

    optical_xy, sar_xy: (B, N, 2) float32 pixels. confidence, error_px: (B, N) float32, see
    `Matches`.
    """

    optical_xy: Tensor
    sar_xy: Tensor
    confidence: Tensor
    error_px: Tensor

    def of_pair(self, index: int) -> Matches:
        """One pair's matches as arrays on the host."""
        return Matches(*(part[index].double().cpu().numpy() for part in self))


@dataclass(frozen=True)
class Registration:
    """The answer for one pair.

    accepted, reason: a refusal is a result; `reason` says what the evidence was either way.
    kind: "shift", "affine" or "smooth"; "none" when refused.
    affine: (2, 3) float64, optical (x, y) -> sar (x, y), pixel centres at integers: the affine
        closest to the field, whatever its kind. When refused, the best guess that was not enough.
    displacement: (2, H, W) float32, sar position minus optical position (dx, dy), pixels, at
        every optical pixel. NaN when refused.
    expected_error_px: infinite when refused.
    """

    accepted: bool
    reason: str
    kind: str
    affine: npt.NDArray[np.float64]
    displacement: npt.NDArray[np.float32]
    matches: Matches
    expected_error_px: float
    verdict: Verdict


class Registrar:
    """A loaded engine. Not thread-safe; make one per process."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        config: EngineConfig | None = None,
        fit_config: FitConfig | None = None,
    ):
        self.checkpoint = checkpoint
        self.device = device
        self.network: TarNetwork = checkpoint.network.to(device)
        self.config = config or EngineConfig(model=self.network.config)
        self.fit_config = fit_config or FitConfig()
        self.cloud = checkpoint.concepts.index(CLOUD_NAME)

    @classmethod
    def load(
        cls, path: Path | None = None, device: str = "auto", sha256: str | None = None
    ) -> Registrar:
        """Load a checkpoint, the shipped one by default.

        Args:
            device: "auto" picks CUDA where there is one, else the CPU.
            sha256: the hash the file must have.

        Raises:
            WeightsError: the file is missing, damaged or not the expected one.
            InputError: there is no such device here.
        """
        return cls(load_checkpoint(path, sha256), chosen_device(device))

    @property
    def weights_sha256(self) -> str:
        """Hash of the checkpoint file."""
        return self.checkpoint.sha256

    @property
    def text_provenance(self) -> str:
        """Which frozen text encoder made the checkpoint's text bank."""
        return self.checkpoint.text_provenance

    def register(
        self,
        optical: npt.ArrayLike,
        sar: npt.ArrayLike,
        *,
        max_offset_px: float | None = None,
    ) -> Registration:
        """Register one pair.

        Args:
            optical, sar: (bands, H, W) or (H, W), any real dtype, sizes and bands may differ;
                NaN marks nodata. Decibels, linear power and 8-bit stretches are all understood.
            max_offset_px: for georeferenced pairs of one grid: no displacement is larger, so the
                global search is skipped.

        Raises:
            InputError: an argument of wrong shape or type, all nodata, or constant.
        """
        optical_image, sar_image = as_image(optical, "optical"), as_image(sar, "sar")
        # Threads of NumPy's products go on spinning while torch needs the cores.
        with linear_algebra().limit(limits=1, user_api="blas"):
            return self._registered(optical_image, sar_image, max_offset_px)

    def _registered(
        self, optical: Tensor, sar: Tensor, max_offset_px: float | None
    ) -> Registration:
        """Registration of (bands, H, W) images; any rotation is tried if the usual ones fail."""
        for any_rotation in (False, True):
            found = self.match_batch(
                optical[None],
                sar[None],
                max_offset_px=max_offset_px,
                any_rotation=any_rotation,
            )
            matches = found.of_pair(0)
            answer = fit(matches, self.fit_config)
            if answer.verdict.accepted or max_offset_px is not None:
                break
        height, width = optical.shape[-2:]
        displacement = np.full((2, height, width), np.nan, np.float32)
        if answer.verdict.accepted:
            displacement = answer.field.displacement(0, 0, width, height)
        return Registration(
            answer.verdict.accepted,
            answer.verdict.reason,
            answer.field.kind if answer.verdict.accepted else "none",
            answer.field.best_affine(width, height),
            displacement,
            matches,
            answer.verdict.expected_error_px,
            answer.verdict,
        )

    @torch.inference_mode()
    def match_batch(
        self,
        optical: Tensor,
        sar: Tensor,
        *,
        max_offset_px: float | None = None,
        any_rotation: bool = False,
    ) -> BatchMatches:
        """Match a batch of pairs, without a fit and without a verdict.

        Args:
            optical, sar: (B, bands, H, W), any real dtype; NaN marks nodata. All optical images
                have one size and all SAR images have one size.
            max_offset_px: see `register`.
            any_rotation: without a prior, search every rotation and scale from 1/2 to 2, not only
                rotations to 45 degrees and scales from 2/3 to 3/2. More than three times as long.
        """
        if max_offset_px is not None and not 0 < max_offset_px <= MAX_OFFSET_PX:
            raise InputError(
                f"max_offset_px: {max_offset_px:g} is not between 0 and {MAX_OFFSET_PX:g} px"
            )
        seen_optical = as_seen(optical.to(self.device))
        seen_sar = as_seen(sar.to(self.device))
        cell_px, search_px = self.config.refine.cell_px, self.config.refine.search_px
        if max_offset_px is None:
            config = self.config.search
            # Only the search needs it: near the right place, windows do not confirm a cloud.
            seen_optical, optical_cells = self.without_cloud(seen_optical)
            candidates = search(seen_optical, seen_sar, config, any_rotation=any_rotation)
            sar_cells = cells_of(self.described(seen_sar, "sar"), seen_sar)
            candidates = ranked(candidates, optical_cells, sar_cells, config.descriptor_weight)
            affine = candidates.affine[:, 0]
            if any_rotation:  # among so many, chance comes first often enough to ask windows too
                pair = ImagePair(seen_optical, seen_sar, self.network)
                told = confirmation(pair, candidates.affine, self.config.refine)
                best = told.argmax(dim=1)[:, None, None, None].expand(-1, 1, 2, 3)
                affine = candidates.affine.gather(1, best)[:, 0]
            # The global answer is good to a pixel or two of its field; at large scales twice that.
            off_px = 4.0 if any_rotation else 2.0
            start_px = off_px * max(optical.shape[-2:]) / self.config.search.field_px
        else:
            affine = torch.eye(2, 3, device=self.device).repeat(len(optical), 1, 1)
            start_px = max_offset_px
        factors = [1]
        while factors[0] * search_px < start_px:
            factors.insert(0, factors[0] * 2)
        height, width = optical.shape[-2:]
        padded = whole_cells(seen_optical, factors[0] * cell_px)
        pair = ImagePair(padded, seen_sar, self.network)
        found = refine(pair, affine, factors, self.config.refine)
        # Cells that padding added are cut off by shape: a mask would wait for the device.
        rows, columns = (side // cell_px for side in padded.shape[-2:])
        kept = [math.ceil((side - cell_px / 2 + 0.5) / cell_px) for side in (height, width)]

        def cut(part: Tensor) -> Tensor:
            cells: Tensor = part.unflatten(1, (rows, columns))[:, : kept[0], : kept[1]]
            return cells.flatten(1, 2)

        optical_xy = found.optical_xy.expand(len(optical), -1, 2)
        confidence = found.confidence
        if max_offset_px is not None:  # what lies further off is no match, however alike
            offset = (found.sar_xy - optical_xy).norm(dim=-1)
            confidence = confidence.masked_fill(offset > max_offset_px, 0.0)
        return BatchMatches(*map(cut, (optical_xy, found.sar_xy, confidence, found.error_px)))

    def described(self, image: Tensor, sensor: Sensor) -> Described:
        """What the network says of (B, bands, H, W), padded to a square and shrunk."""
        square, _ = to_square(image, self.network.config.seen_px)
        with native_autocast(self.device):
            return self.network.describe(square, sensor)

    def without_cloud(self, optical: Tensor) -> tuple[Tensor, Cells]:
        """(B, bands, H, W) with what TAFE names cloud as nodata, and the cells of the rest.

        The text enhancement gives every token a concept; edges of cloud are no edges of the ground.
        Without text (the ablation "none") nothing has a name, and cloud stays.
        """
        said = self.described(optical, "optical")
        if self.network.tafe.mode == "none":
            return optical, cells_of(said, optical)
        side = math.isqrt(said.concepts.shape[1])
        cloud = said.concepts[..., self.cloud].exp().float().view(-1, 1, side, side)
        height, width = optical.shape[-2:]
        longest = max(height, width)
        cloud = F.interpolate(cloud, size=(longest, longest), mode="bilinear")
        clear = optical.masked_fill(cloud[..., :height, :width] > CLOUD_PROBABILITY, torch.nan)
        return clear, cells_of(said, clear)


@functools.cache
def linear_algebra() -> ThreadpoolController:
    """The threads of the libraries behind NumPy and SciPy."""
    return ThreadpoolController()


def cells_of(said: Described, image: Tensor) -> Cells:
    """The descriptors of (B, bands, H, W) with what of them is valid."""
    side = said.descriptors.shape[-1]
    square, factor = to_square(image, side)
    return Cells(said.descriptors.float(), valid_of(square), factor)


def chosen_device(name: str) -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device: {name!r} cannot be used here") from error


def as_image(image: npt.ArrayLike, name: str) -> Tensor:
    """(bands, H, W) tensor of an image that can be matched.

    Raises:
        InputError: names the argument and what is wrong with it.
    """
    array = np.asarray(image)
    if array.dtype.kind not in "uifb" or array.dtype.itemsize > 8:
        raise InputError(f"{name}: dtype {array.dtype} is not a real number type")
    if array.ndim == 2:
        array = array[None]
    if array.ndim != 3 or array.shape[0] == 0:
        raise InputError(f"{name}: shape {np.shape(image)} is not (bands, H, W) or (H, W)")
    if min(array.shape[1:]) < MIN_SIDE_PX:
        raise InputError(
            f"{name}: {array.shape[2]} x {array.shape[1]} px is too small to match, "
            f"both sides need {MIN_SIDE_PX} px"
        )
    array = array.astype(np.float32)
    valid = np.isfinite(array).all(axis=0)
    if not valid.any():
        raise InputError(f"{name}: every pixel is nodata (NaN or infinite)")
    if all(np.ptp(band[valid]) == 0 for band in array):
        raise InputError(f"{name}: every pixel has the same value, there is nothing to match")
    return torch.from_numpy(array)
