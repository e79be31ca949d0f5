"""Every number the engine is built from: its unit and its "off" value beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network. Stored in the checkpoint; weights fit one ModelConfig only."""

    seen_px: int = 128  # side of the square image that the network sees, pixels
    stem_channels: int = 32  # at 1/2 of seen_px
    middle_channels: int = 64  # at 1/4: lateral input of the descriptors
    token_channels: int = 128  # at 1/8: the tokens of TAFE
    match_channels: int = 32  # at 1/4: the descriptors
    low_channels: int = 32  # inside the learned low-level features, at half the resolution ...
    around_channels: int = 64  # ... and at a quarter
    low_features: int = 8  # of them at full resolution, what windows compare
    low_windows: int = 3  # sizes of windows that they learn by
    text_channels: int = 384  # width of the text bank's embeddings
    text_mode: str = "bank"  # "bank", or for ablations "shuffled", "random", "none" = off


@dataclass(frozen=True)
class SearchConfig:
    """The global search over rotations, scales and shifts."""

    cloud_probability: float = 0.25  # of a pixel, above which it is nodata, so that the edges of
    # clouds go too; 1 = off
    least_cloud: float = 0.2  # share of the image that has to be so, for any to be nodata; 0 = off
    seen_px: int = 256  # side of the square image whose gradients are taken, pixels
    field_px: int = 64  # side of the field that they are averaged to and correlated on
    density_weight: float = 0.7  # of how dense edges are, beside which way they run; 0 = off ...
    density_weight_closer: float = 1.5  # ... at a closer look, for dunes, dots and houses ...
    density_weight_of_any: float = 1.0  # ... and where windows decide between the candidates
    density_sigma_px: float = 2.5  # of what lies around, pixels of the field
    faint: float = 0.1  # of the mean square gradient; weaker edges count as hardly any
    padded: float = 1.5  # side of the correlation over the field's: shifts of half a side; 1 = off
    usual_turn_deg: float = 45.0  # rotations tried first, either way ...
    usual_scale: float = 1.5  # ... and scales, either way: the paper's deformation with a margin
    turn_step_deg: float = 5.0
    largest_scale: float = 2.0  # tried with any rotation if the usual ones give no answer
    scales_per_octave: int = 6
    tried_whole: float = 0.25  # of the usual ones, those best at half the resolution; 1 = all
    closer_steps: int = 2  # at a closer look, for each of the usual ones; fine patterns need it
    kept: int = 8  # candidates looked at closer; 1 = off
    kept_of_any: int = 32  # the same where any rotation is tried; windows decide between them
    stretch: float = 0.08  # of those tried near a candidate; shear of 10 degrees is 0.09; 0 = off
    near_px: int = 3  # largest shift of those, each way, pixels of the field
    descriptor_weight: float = 0.006  # of the network's descriptors in their ranking; 0 = off
    error_field_px: float = 2.0  # how far off the answer may be, pixels of the field ...
    error_field_px_of_any: float = 4.0  # ... and where any rotation and large scales are tried

    def grid(self, *, any_rotation: bool, closer: bool = False) -> tuple[Tensor, Tensor]:
        """Rotations (T,) float32 in radians and scales (S,) float32, evenly spaced (by ratio)."""
        steps = self.closer_steps if closer else 1
        per_octave, step_deg = self.scales_per_octave * steps, self.turn_step_deg / steps
        largest = self.largest_scale if any_rotation else self.usual_scale
        octaves = math.ceil(math.log2(largest) * per_octave)
        scales = 2 ** (torch.arange(-octaves, octaves + 1) / per_octave)
        reach = 180.0 - step_deg if any_rotation else self.usual_turn_deg
        turns = torch.arange(-reach, reach + 1e-3, step_deg)
        if any_rotation:
            turns = torch.cat([turns, torch.tensor([180.0])])
        return turns.deg2rad(), scales

    def is_usual(self, affine: npt.NDArray[np.float64]) -> bool:
        """Whether the usual search could have led to an affine (2, 3), to a step."""
        across, down = affine[0, 0] + affine[1, 1], affine[1, 0] - affine[0, 1]
        turn_deg, scale = math.degrees(math.atan2(down, across)), math.hypot(across, down) / 2
        most = self.usual_scale * 2 ** (1 / self.scales_per_octave)
        is_near = abs(turn_deg) <= self.usual_turn_deg + self.turn_step_deg
        return is_near and 1 / most <= scale <= most

    def error_px(self, side_px: int, *, any_rotation: bool) -> float:
        """How far off the answer may be in an image of `side_px`, full-size pixels."""
        off = self.error_field_px_of_any if any_rotation else self.error_field_px
        return off * side_px / self.field_px


@dataclass(frozen=True)
class BurntConfig:
    """What in pixels is no ground."""

    thick_px: int = 5  # a drawn line is thinner than so many pixels, an odd number ...
    run_px: int = 9  # ... and at least so long, likewise
    detail_correlation: float = 0.3  # of single pixels, from which on both images share a pattern:
    # 0.23 at most on 819 real pairs; 2 = off
    smoothing_px: float = 2.5  # sigma, of images that do
    still_px: float = 2.0  # SAR that is found closer to the same pixels may be the pattern's


@dataclass(frozen=True)
class RivalConfig:
    """When another shift explains a pair as well. Chosen on 36 places of patches/train."""

    cell_px: int = 4  # that features are averaged over
    near_px: float = 16.0  # a shift closer to the answer is no rival
    least_overlap: float = 0.3  # of the answer's, in which a rival is compared
    least_correlation: float = 0.06  # of a rival; 2 = off
    plain_share: float = 0.6  # of the answer's correlation: a rival's is 0.45 at most on clear
    # pairs, and 0.65 at least between places under one lattice
    # With each frequency alike: two images that are one have 1, and on clear pairs an answer has
    # 0.12 at least, on one place under a lattice 0.14; on unrelated ones 0.1 at most, because it
    # was bent to fit.
    least_sharpness: float = 0.13
    sharp_share: float = 0.3  # of it, a rival's: 0.34 at most on one place, 0.31 at least on two
    blur_cells: float = 0.7  # sigma, of the latter
    # Where little of the ground shows anything, or is free of cloud, windows are faint and the sum
    # of all is not: their confidence grows in the measure that the answer is sharper than chance.
    chance_sharpness: float = 0.09  # of unrelated images, hardly ever more: 0.08 at most of 71
    most_gain: float = 2.0  # 1 = off
    faint: float = 0.05  # of the mean amplitude; weaker frequencies are not raised


@dataclass(frozen=True)
class HeightConfig:
    """What windows say of a known relief's displacement."""

    noise_m: float = 0.3  # of heights in whole metres; relief that is not above it tells nothing
    tolerance_px: float = 2.0  # residual that leaves a quarter of a window's weight
    reweightings: int = 5


@dataclass(frozen=True)
class RefineConfig:
    """The refinement on low-level features: windows correlated in a neighbourhood."""

    cell_px: int = 16  # spacing of the matches, pixels
    window_cells: int = 5  # side of the window that a match compares, cells (tapered)
    search_px: int = 8  # largest offset searched each way in one round, pixels
    rival_px: int = 3  # a score further than this from the peak is a rival's, pixels
    least_covered: float = 0.5  # share of a cell that both sensors must have seen; 0 = off ...
    least_covered_searched: float = 0.1  # ... without a prior, for clouds leave ground in pieces
    hypotheses: int = 128  # similarities drawn from the windows of a round, each through two
    tolerance_cells: float = 0.25  # a window this close to the affine agrees with it, cells
    beyond_tolerance: float = 1.5  # tolerance of what is added to the affine, times the affine's
    beyond_smoothing_cells: float = 1.0  # sigma of its smoothing over neighbouring windows
    beyond_pull: float = 0.3  # towards the affine alone, in the pair's mean weights; 0 = off
    dense_search_px: tuple[int, ...] = (4, 2)  # largest offset of each dense round; () = off
    dense_cell_px: int = 8  # spacing of the dense field's cells, pixels
    dense_window_cells: int = 3  # side of its windows, cells (tapered)
    coupling: tuple[float, ...] = (0.005, 0.01, 0.02, 0.04)  # correlation lost per px² off it ...
    coupling_y: float = 10.0  # ... and so many times that along y: relief displaces SAR along
    # range, which on maps is nearly x, and chance all ways; 1 = off
    smoothing_cells: tuple[float, ...] = (2.0, 1.3, 1.0, 0.6)  # sigma of the field's smoothing
    heights: HeightConfig = field(default_factory=HeightConfig)
    near_share: float = 0.125  # of the longer side: within a smaller prior, which lets SAR turn by
    # 14 degrees at most, its features are made once and warped; 0 = off
    confirmed_px: float = 2.5  # a window that would move the answer by more does not confirm it

    def shrink_factors(self, reach_px: float) -> tuple[int, ...]:
        """How many times each round of windows shrinks the images, to find what is so far off."""
        factors = [1]
        while factors[0] * self.search_px < reach_px:
            factors.insert(0, factors[0] * 2)
        return tuple(factors)


@dataclass(frozen=True)
class FitConfig:
    """How a field is fitted and when it is believed."""

    hypotheses: int = 192  # similarities drawn from the matches, each through two
    voters: int = 4000  # about so many of the matches choose between them
    start_tolerance_px: float = 8.0  # matches this far from an affine may still be terrain
    tolerance_px: float = 1.5  # scale of a good match's residual in the final weights
    reweightings: int = 5  # steps in which the one tolerance falls to the other
    agree_px: float = 2.0  # an unseen match this close to the field agrees with it
    far_px: float = 4.0  # a residual beyond that counts as that, and not in the stated error
    block_px: float = 80.0  # side of the blocks held out; the width of a window
    folds: int = 4
    spacing_px: float = 24.0  # between control points of the smooth field
    # A part of the smooth field solves so many control points, and so many more on every side. Long
    # and narrow: its work grows with the square of its columns.
    core_rows: int = 128
    core_columns: int = 40
    overlap_points: int = 24
    # So much confidence comes by chance, and a fit weighs what is above: this share of that of the
    # best matches, but no more than so much. 0 = off
    chance_share: float = 0.0
    chance_confidence: float = 0.08
    unconfirmed: float = 0.01  # weight of a match that nothing around it confirms; 0 = off
    ridge: float = 1e-6  # of a control point's usual weight, by which a smooth field keeps to the
    # affine where nothing is known; not 0
    stiffness: tuple[float, ...] = (1.0, 0.1, 0.01)  # bending penalties tried; () = no smooth rung
    gain: float = 0.1  # a richer rung must predict unseen matches better by this share
    # Neighbours are wrong together, further than the blocks held out reach, and a smooth field
    # follows them. So it has to bend by so many times the error of a window, below, over the root
    # of how many windows there are beyond those that it takes up. 0 = off
    least_bend: float = 1.9
    bend_windows: float = 8.0
    min_matches: int = 12  # with fewer there is no evidence
    doubted_share: float = 0.5  # of matches with rivals; with more the pair is refused; 1 = off
    # Evidence is the share of the confidence on unseen matches that agrees, times the mean
    # confidence of the most confident quarter, where what does not agree counts nothing. In the
    # confidence of `Registrar`. Chosen, like the numbers below, on 24 places of patches/train under
    # every protocol.
    best_share: float = 0.25  # of the matches, the most confident, whose mean counts
    min_evidence: float = 0.028  # 0 = off
    # More is needed of few matches, divided by the root of their number: chance averages out.
    chance_evidence: float = 0.45  # 0 = off
    # And of all matches, those that windows confirm at all: of unrelated images about 0.45 are, by
    # chance; a street grid confirms the wrong street strongly, but not what lies around it.
    min_confirmed: float = 0.6  # 0 = off
    # And the confidence that agrees, summed over the unseen: a smooth field can follow a few.
    min_amount: float = 3.0  # 0 = off
    # Where the pair as a whole stands out so many times its spread from what it is when shifted,
    # windows need to say less, and need not confirm one another: they are faint there, or little
    # of the ground shows anything.
    outstanding: float = 17.0  # infinite = off
    outstanding_share: float = 0.4  # of the evidence needed
    # The stated error is the root of the squares of a floor, which all matches of a pair may share
    # and none can tell, and of so many times the median unseen residual; 98 % of the true errors
    # were below twice that.
    error_floor_px: float = 0.7
    error_factor: float = 2.5  # of a smooth field ...
    error_factor_stiff: float = 2.5  # ... and of a shift or an affine
    # So many pixels are the error of a window by which an affine is extrapolated, which is in it
    # too: what is seen in one corner says little of the others. 0 = off, as for a region, whose
    # windows are so many that chance bends nothing.
    extrapolation_px: float = 0.0
    # Sigma of an affine's stretch and shear, weighed against windows of that error, which must not
    # be 0 then; infinite = off
    beyond_similarity: float = math.inf
    cells_a_window: float = 6.0  # of overlapping windows, so many say the same
    largest_error_px: float = 3.0  # stated; with more the pair is refused; infinite = off
    max_scale: float = 2.2  # of the affine, either way; more is no satellite pair


@dataclass(frozen=True)
class EngineConfig:
    """All of the above, and what the front door lets in."""

    model: ModelConfig = field(default_factory=ModelConfig)
    burnt: BurntConfig = field(default_factory=BurntConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    rivals: RivalConfig = field(default_factory=RivalConfig)
    # Of a pair by itself. In a region what lies around says which faint matches are right; here
    # they are as good as chance, and far from all others the affine says more. What an affine
    # averages out is no error of it; that files lie off by themselves is most of the floor.
    fit: FitConfig = field(
        default_factory=lambda: FitConfig(
            chance_share=0.3,
            unconfirmed=1e-5,
            ridge=1e-3,
            error_floor_px=0.9,
            error_factor_stiff=1.5,
            extrapolation_px=1.4,
            beyond_similarity=0.01,
        )
    )
    beyond_similarity_of_any: float = 0.1  # what is found under any rotation may be sheared too
    min_side_px: int = 64  # of an image; smaller ones hold too little to match
    max_offset_px: float = 1024.0  # of a prior; what may lie anywhere is searched without one


def model_config(values: dict[str, Any]) -> ModelConfig:
    """A ModelConfig from a checkpoint's plain values; an unknown name is an error, not ignored."""
    known = {item.name for item in fields(ModelConfig)}
    if unknown := set(values) - known:
        raise ValueError(
            f"checkpoint was made by another version: unknown fields {sorted(unknown)}"
        )
    return ModelConfig(**values)
