"""The front door: two images in, a displacement or a refusal out.

images ─ normalise ─┬─ no prior: locate, by a search of rotations and scales ─┐
                    └─ prior: the identity ───────────────────────────────────┤
     refine, by low-level windows, each round on the pair as re-warped ───────┘
     └─ confirm: matches on a grid ─ fit ─ displacement, or why not
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.config import EngineConfig
from tar_engine.errors import InputError
from tar_engine.fields.fit import Fit, Verdict, fit
from tar_engine.fields.matches import BatchMatches, Matches
from tar_engine.fields.smoother import one_blas_thread
from tar_engine.matching.burnt import without_burnt
from tar_engine.matching.heights import Relief, beyond_plane
from tar_engine.matching.locate import locate
from tar_engine.matching.positions import ImagePair, SarPositions, pad_to_cells
from tar_engine.matching.refine import confirm_matches, refine
from tar_engine.network.model import TarNetwork
from tar_engine.network.msfl import Sensor, normalise_with_nan
from tar_engine.network.text import CLOUD_NAME
from tar_engine.network.weights import Checkpoint, load_checkpoint


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

    @classmethod
    def of(
        cls,
        matches: Matches,
        fitted: Fit,
        height: int,
        width: int,
        relief_m: npt.NDArray[np.float32] | None = None,
    ) -> Registration:
        """The answer for an optical image of that size, and of that relief where it is known."""
        field, verdict = fitted.field, fitted.verdict
        displacement = np.full((2, height, width), np.nan, np.float32)
        if verdict.accepted:
            displacement = field.displacement(0, 0, width, height, relief_m)
        return cls(
            accepted=verdict.accepted,
            reason=verdict.reason,
            kind=field.kind if verdict.accepted else "none",
            affine=field.best_affine(width, height),
            displacement=displacement,
            matches=matches,
            expected_error_px=verdict.expected_error_px,
            verdict=verdict,
        )


class Registrar:
    """A loaded engine. Not thread-safe; make one per process."""

    def __init__(
        self, checkpoint: Checkpoint, device: torch.device, config: EngineConfig | None = None
    ):
        """`load` reads a checkpoint; here is where another `config` than the default goes in."""
        self.checkpoint = checkpoint
        self.device = device
        self.network: TarNetwork = checkpoint.network.to(device)
        self.config = config or EngineConfig(model=self.network.config)
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
        return cls(load_checkpoint(path, sha256), choose_device(device))

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
        heights: npt.ArrayLike | None = None,
    ) -> Registration:
        """Register one pair.

        Args:
            optical, sar: (bands, H, W) or (H, W), any real dtype, sizes and bands may differ;
                NaN marks nodata. Decibels, linear power and 8-bit stretches are all understood.
            max_offset_px: for georeferenced pairs of one grid: no displacement is larger, so the
                global search is skipped.
            heights: (H, W) metres on the optical image's pixels, NaN where unknown, above anything.
                What relief displaces SAR by is then known in its pattern, and estimated as two
                numbers.

        Raises:
            InputError: an argument of wrong shape or type, all nodata, or constant.
        """
        least_px = self.config.min_side_px
        optical_image = check_image(optical, "optical", least_px)
        sar_image = check_image(sar, "sar", least_px)
        height, width = optical_image.shape[-2:]
        height_m = None if heights is None else check_heights(heights, (height, width))
        with one_blas_thread():
            matches, fitted = self._match_and_fit(optical_image, sar_image, max_offset_px, height_m)
            relief_m = None if height_m is None else beyond_plane(height_m[None])[0].numpy()
            return Registration.of(matches, fitted, height, width, relief_m)

    def _match_and_fit(
        self, optical: Tensor, sar: Tensor, max_offset_px: float | None, heights: Tensor | None
    ) -> tuple[Matches, Fit]:
        """Matches of (bands, H, W) and their fit. What the usual search does not find is searched
        under any rotation, then looked at closer, then with what was named cloud as ground."""
        for otherwise in ("", "any_rotation", "closer", "keeps_cloud"):
            batch = self.match_batch(
                optical[None],
                sar[None],
                max_offset_px=max_offset_px,
                any_rotation=otherwise == "any_rotation",
                closer=otherwise == "closer",
                keeps_cloud=otherwise == "keeps_cloud",
                heights=None if heights is None else heights[None],
            )
            matches, config = batch.of_pair(0), self.config.fit
            if otherwise == "any_rotation":
                config = replace(config, beyond_similarity=self.config.beyond_similarity_of_any)
            fitted = fit(matches, config)
            # Beyond what was searched, windows were bent to what lies near.
            is_found = fitted.verdict.accepted and (
                otherwise or self.config.search.is_usual(fitted.field.affine)
            )
            is_repeated = np.isfinite(fitted.verdict.rival_px)  # as much so however it is searched
            if is_found or max_offset_px is not None or is_repeated:
                break
        return matches, fitted

    @torch.inference_mode()
    def match_batch(
        self,
        optical: Tensor,
        sar: Tensor,
        *,
        max_offset_px: float | None = None,
        any_rotation: bool = False,
        closer: bool = False,
        keeps_cloud: bool = False,
        of_reference: Sensor = "optical",
        start: Tensor | None = None,
        heights: Tensor | None = None,
    ) -> BatchMatches:
        """Match a batch of pairs, without a fit and without a verdict: locate, refine, confirm.

        Args:
            optical, sar: (B, bands, H, W), any real dtype; NaN marks nodata. All optical images
                have one size and all SAR images have one size.
            max_offset_px: see `register`.
            any_rotation: without a prior, search every rotation and scale from 1/2 to 2, not only
                rotations to 45 degrees and scales from 2/3 to 3/2. More than three times as long.
            closer: without a prior, for what the usual search does not find: in smaller steps, and
                more by how dense edges are than by which way they run, for dunes, dots and houses
                have edges all ways. Twice as long.
            keeps_cloud: without a prior, search by all of the image, for bright sand may be named
                cloud too.
            of_reference: "sar" where the first images are SAR too, of the same orbit. Radar is then
                held to radar, which needs a prior.
            start: (B, 2, rows, columns) float32 displacement (dx, dy) that is known beforehand, at
                the centres of the cells of 16 px; the prior is then about what it leaves.
            heights: (B, H, W) float32 metres on the optical images' pixels, see `register`.

        Returns:
            One match for every cell of 16 px of the optical images whose centre lies in them.

        Raises:
            InputError: `max_offset_px` is no distance that a prior could have, or is missing
                where radar is held to radar or a start is given.
        """
        self._check_prior(max_offset_px)
        if max_offset_px is None and (of_reference == "sar" or start is not None):
            raise InputError("max_offset_px: is needed to hold radar to radar, or from a start on")
        height, width = optical.shape[-2:]
        optical, sar = optical.to(self.device).float(), sar.to(self.device).float()
        burnt = self.config.burnt
        if of_reference == "optical":  # radar of one orbit shares all of its texture
            optical, sar, shared = without_burnt(optical, sar, burnt)
        optical, sar = normalise_with_nan(optical), normalise_with_nan(sar)
        search, config = self.config.search, self.config.refine
        if max_offset_px is None:
            config = replace(config, least_covered=config.least_covered_searched)
            affine, optical = locate(
                self.network,
                optical,
                sar,
                self.cloud,
                replace(self.config, refine=config),
                any_rotation=any_rotation,
                closer=closer,
                keeps_cloud=keeps_cloud,
            )
            reach_px = search.error_px(max(height, width), any_rotation=any_rotation)
        else:
            affine = torch.eye(2, 3, device=self.device).repeat(len(optical), 1, 1)
            reach_px = max_offset_px
        factors = config.shrink_factors(reach_px)
        padded = pad_to_cells(optical, factors[0] * config.cell_px)
        is_near = max_offset_px is not None and reach_px <= config.near_share * max(height, width)
        pair = ImagePair(padded, sar, self.network, of_reference, is_near)
        rows, columns = (side // config.cell_px for side in padded.shape[-2:])
        begun = positions = SarPositions(affine)
        if start is not None:
            around = (0, columns - start.shape[-1], 0, rows - start.shape[-2])
            start = F.pad(start.to(self.device), around, mode="replicate")
            begun = positions = SarPositions(affine, start, config.cell_px)
        if heights is not None:
            relief = Relief.of(heights.to(self.device).float()).padded(*padded.shape[-2:])
            positions = replace(positions, relief=relief)
        # What is hard to find is seldom clear: it is looked at as exactly as can be.
        positions = refine(pair, positions, factors, config, exactly=any_rotation or closer)
        matches = confirm_matches(pair, positions, config, self.config.rivals)
        if of_reference == "optical":
            matches = matches.doubted_still(shared, burnt.still_px)
        inside = (count_cells(side, config.cell_px) for side in (height, width))
        matches = matches.first_cells((rows, columns), *inside)
        if max_offset_px is None:
            return matches
        return matches.within(max_offset_px, begun.at(matches.optical_xy))

    def _check_prior(self, max_offset_px: float | None) -> None:
        most_px = self.config.max_offset_px
        if max_offset_px is not None and not 0 < max_offset_px <= most_px:
            raise InputError(
                f"max_offset_px: {max_offset_px:g} is not between 0 and {most_px:g} px"
            )


def count_cells(side_px: int, cell_px: int) -> int:
    """How many cells from 0 on have their centre in an image of that side."""
    return math.ceil((side_px - cell_px / 2 + 0.5) / cell_px)


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device: {name!r} cannot be used here") from error


def check_image(image: npt.ArrayLike, name: str, min_side_px: int) -> Tensor:
    """(bands, H, W) float32 tensor of an image that can be matched.

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
    if min(array.shape[1:]) < min_side_px:
        raise InputError(
            f"{name}: {array.shape[2]} x {array.shape[1]} px is too small to match, "
            f"both sides need {min_side_px} px"
        )
    array = array.astype(np.float32)
    valid = np.isfinite(array).all(axis=0)
    if not valid.any():
        raise InputError(f"{name}: every pixel is nodata (NaN or infinite)")
    if all(np.ptp(band[valid]) == 0 for band in array):
        raise InputError(f"{name}: every pixel has the same value, there is nothing to match")
    return torch.from_numpy(array)


def check_heights(heights: npt.ArrayLike, size: tuple[int, int]) -> Tensor:
    """(H, W) float32 tensor of heights, NaN where unknown.

    Raises:
        InputError: they are no numbers, not of the optical image's size, or unknown everywhere.
    """
    array = np.asarray(heights)
    if array.dtype.kind not in "uif" or array.dtype.itemsize > 8:
        raise InputError(f"heights: dtype {array.dtype} is not a real number type")
    if array.shape != size:
        raise InputError(f"heights: shape {array.shape} is not {size}, the optical image's")
    if not np.isfinite(array).any():
        raise InputError("heights: every pixel is unknown (NaN or infinite)")
    return torch.from_numpy(array.astype(np.float32))
