"""Training: one visible loop for both halves of the network, resumable, deterministic by seed.

    tar-pipeline train train.npz --out high.safetensors --pairs 30000
    tar-pipeline train train.npz --out tar.safetensors --part low --initial high.safetensors
    tar-pipeline train train.npz --out clip.safetensors --part text --initial tar.safetensors \
        --text-encoder RemoteCLIP-ViT-B-32.pt --pairs 16

The halves share no weights and see different things. For the high level batches are drawn here,
from aligned pairs: a random symmetry of both, a random appearance of each (drawn ground may be
painted in random colours), a random part of the patch, terrain along range, a random affine of the
SAR image. For the low level see `train_low.py`. Batches are drawn on the device that trains.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from tar_engine.config import ModelConfig
from tar_engine.coordinates import apply_affine, cell_centres, pixel_grid
from tar_engine.deformation import AffineRange, invert_affine, random_affines, sample
from tar_engine.errors import TextError
from tar_engine.network.model import CoarseMatches, TarNetwork, with_bank
from tar_engine.network.precision import native_autocast
from tar_engine.network.text import CLOUD_NAME, TextBank
from tar_engine.network.weights import Checkpoint, save_checkpoint
from tar_engine.register import Registrar, choose_device
from tar_engine.training import losses
from tar_engine.training.augment import (
    apply_symmetry,
    draw_terrain,
    optical_appearance,
    paint_labels,
    sar_appearance,
)
from tar_engine.training.patches import UNKNOWN, PatchPairs
from tar_engine.training.synthesis import COVER_NAMES
from tar_engine.training.train_low import draw_low_batch, low_loss, measure_misalignment
from tar_engine.training.training_set import manifest

Part = Literal["high", "low", "text"]
LOW_PREFIX = "low"  # of the names of the low-level features' weights
TEXT_PREFIXES = ("tafe.key", "tafe.value")  # of those that read the text bank


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast to learn, and from what."""

    pairs: int = 30_000  # pairs seen in all
    batch: int = 16
    peak_rate: float = 1.5e-3  # AdamW, after warm-up; cosine to a hundredth at the end
    warmup_pairs: int = 800
    weight_decay: float = 0.02
    gradient_norm: float = 1.0  # clipped above
    agreement_weight: float = 0.02  # pull of both sensors towards the same concepts; 0 = off
    naming_weight: float = 1.0  # of calling drawn land cover and clouds by their names; 0 = off
    residual_share: float = 0.2  # of warps small, as georeferenced pairs are; 0 = off
    wide_share: float = 0.35  # of warps any rotation, scale 0.5 to 2, shear, far shifts; 0 = off
    whole_share: float = 0.15  # of patches seen whole, frame and all; the others in part
    painted_share: float = 0.5  # of drawn pairs in random colours; 0 = off
    terrain_px: float = 6.0  # largest displacement along range, full-size pixels; 0 = off
    seed: int = 0
    save_every_batches: int = 25


@dataclass(frozen=True)
class Batch:
    """What the network sees, and the truth.

    optical, sar: (B, bands, P, P). optical_cover, sar_cover: (B, P, P) int64, UNKNOWN where no
    one knows. sar_from_optical: (B, 2, 3) in their pixels, acting on what `terrain` (B, 2, P, P)
    has displaced.
    """

    optical: Tensor
    sar: Tensor
    optical_cover: Tensor
    sar_cover: Tensor
    sar_from_optical: Tensor
    terrain: Tensor

    def sar_xy(self, cells: int) -> Tensor:
        """(B, cells * cells, 2) true SAR positions of the centres of optical cells."""
        side = self.optical.shape[-1]
        centres = cell_centres(cells, cells, side // cells, self.optical.device)
        column, row = centres.long().unbind(-1)
        moved = centres + self.terrain[:, :, row, column].transpose(1, 2)
        return apply_affine(self.sar_from_optical, moved)


def train(
    data: PatchPairs,
    bank: TextBank,
    out: Path,
    config: TrainConfig,
    model: ModelConfig,
    *,
    device: str = "auto",
    part: Part = "high",
    initial: Checkpoint | None = None,
    report: Callable[[str], None] = print,
) -> TarNetwork:
    """Train, saving `out` (the checkpoint) and `out`.resume (the optimiser) as it goes.

    If `out`.resume exists, training continues from it.

    Args:
        part: the half that learns; the other stays as `initial` has it. "text": only what reads the
            bank, so that a trained network comes to know the words of another encoder.
        initial: where to start, with its history, which the checkpoint goes on telling. If `bank`
            is another one, the network begins by taking it for its own.

    Raises:
        TextError: `initial` knows other concepts than `bank`.
    """
    where = choose_device(device)
    torch.manual_seed(config.seed)
    network = start_network(initial, model, bank).to(where).train()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    learning = [weight for name, weight in network.named_parameters() if part_of(name, part)]
    optimiser = torch.optim.AdamW(learning, lr=config.peak_rate, weight_decay=config.weight_decay)
    seen = _resume(out, network, optimiser)
    about: dict[str, Any] = {
        "train": asdict(config),
        "data": manifest(data),
        "device": where.type,
    }
    history = (initial.history if initial else {}) | {part: about}
    loss_of = make_loss(part, network, move_to_device(data, where), config, bank)
    running, started, seen_before = torch.zeros(2), time.perf_counter(), seen
    while seen < config.pairs:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(config, seen)
        # Each batch has its own seed, so that a resumed run draws what an unbroken one would.
        matching, total = loss_of(config.seed * 1_000_003 + seen)
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(learning, config.gradient_norm)
        optimiser.step()
        seen += config.batch
        running += torch.stack([matching.detach(), total.detach() - matching.detach()]).cpu()
        if seen // config.batch % config.save_every_batches == 0:
            steps = config.save_every_batches
            rate = (seen - seen_before) / (time.perf_counter() - started)
            match, text = (running / steps).tolist()
            report(f"{seen} pairs  loss: matching {match:.3f}, text {text:.3f}  {rate:.1f} pairs/s")
            running = torch.zeros(2)
            about["pairs_seen"] = seen
            save_checkpoint(out, network, bank, history)
            _save_resume(out, network, optimiser, seen)
    about["pairs_seen"] = seen
    save_checkpoint(out, network, bank, history)
    network.eval()
    return network


def start_network(initial: Checkpoint | None, model: ModelConfig, bank: TextBank) -> TarNetwork:
    """The initial network, knowing `bank`; or a new one of shape `model`."""
    if initial is None:
        return TarNetwork(model, bank.embeddings)
    if initial.concepts != bank.names:
        raise TextError("bank: its concepts are not those of the initial checkpoint")
    if initial.text_provenance == bank.provenance:
        return initial.network
    return with_bank(initial.network, bank.embeddings)


def part_of(name: str, part: Part) -> bool:
    """Whether the weights of that name learn when `part` does."""
    if part == "text":
        return name.startswith(TEXT_PREFIXES)
    return name.startswith(LOW_PREFIX) == (part == "low")


def make_loss(
    part: Part, network: TarNetwork, data: PatchPairs, config: TrainConfig, bank: TextBank
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """The loss of the batch with a given seed: the matching part alone, and the total."""
    device = data.optical.device
    if part == "low":
        known = measure_misalignment(data, Registrar.load(device=device.type))

        def low(seed: int) -> tuple[Tensor, Tensor]:
            loss = low_loss(network, draw_low_batch(data, known, config.batch, seed))
            return loss, loss

        return low
    forward = torch.compile(network) if device.type == "cuda" else network
    concept_of_cover = find_cover_concepts(bank, device)

    def high(seed: int) -> tuple[Tensor, Tensor]:
        batch = draw_batch(data, config, network.config.seen_px, seed)
        with native_autocast(device):
            return batch_loss(forward, batch, config, concept_of_cover)

    return high


def learning_rate(config: TrainConfig, seen: int) -> float:
    """Linear warm-up, then a cosine down to a hundredth of the peak."""
    if seen < config.warmup_pairs:
        return config.peak_rate * (seen + config.batch) / config.warmup_pairs
    done = (seen - config.warmup_pairs) / max(1, config.pairs - config.warmup_pairs)
    return config.peak_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def move_to_device(data: PatchPairs, device: torch.device) -> PatchPairs:
    """The pairs on the device that draws batches from them, with a cover map for each."""
    cover = torch.full_like(data.sar[:, 0], UNKNOWN) if data.cover is None else data.cover
    return PatchPairs(data.names, data.optical.to(device), data.sar.to(device), cover.to(device))


def find_cover_concepts(bank: TextBank, device: torch.device) -> Tensor | None:
    """(covers,) each cover's and at last cloud's concept in the bank; None if it lacks any."""
    names = (*COVER_NAMES, CLOUD_NAME)
    if not set(names) <= set(bank.names):
        return None
    return torch.tensor([bank.names.index(name) for name in names], device=device)


def draw_batch(data: PatchPairs, config: TrainConfig, side_px: int, seed: int) -> Batch:
    """A random batch, fully determined by `seed`, shrunk to the size that the network sees.

    `data` must have a cover map, see `move_to_device`.
    """
    device = data.optical.device
    generator = torch.Generator(device).manual_seed(seed)
    chosen = torch.randint(len(data), (config.batch,), generator=generator, device=device)
    if data.cover is None:
        raise ValueError("data: no cover map, see move_to_device")
    optical, sar, cover = draw_colours(
        data.optical[chosen], data.sar[chosen], data.cover[chosen], config, generator
    )
    turn = torch.randint(8, (config.batch, 1, 1, 1), generator=generator, device=device)
    patch = apply_symmetry(torch.cat([optical, sar, cover[:, None].float()], dim=1), turn)
    window, px_per_seen = draw_windows(config, patch.shape[-1], side_px, generator)
    # Seen pixels may be larger than the patch's; averaging first keeps them from aliasing.
    blurred = F.avg_pool2d(F.pad(patch, (0, 1, 0, 1), mode="replicate"), 2, stride=1)
    patch = torch.where((px_per_seen > 1.3)[:, None, None, None], blurred, patch)

    affine = draw_affines(config, side_px, generator)
    displaced = draw_terrain(config.batch, side_px, config.terrain_px / 2, generator)
    grid = pixel_grid(side_px, side_px, device).reshape(-1, 2)
    before = apply_affine(invert_affine(affine), grid).view(config.batch, side_px, side_px, 2)
    # Where terrain was before it moved: good to a fraction of a pixel, as it is smooth.
    before = before - sample(displaced, before).nan_to_num(0.0).permute(0, 2, 3, 1)
    shape = (config.batch, side_px, side_px, 2)
    optical_at = apply_affine(window, grid.expand(config.batch, -1, 2)).view(shape)
    sar_at = apply_affine(window, before.flatten(1, 2)).view(shape)

    seen_optical = sample(patch[:, :-2], optical_at).nan_to_num(0.0)
    seen_optical, cloudy = optical_appearance(seen_optical, generator)
    optical_cover = sample(patch[:, -1:], optical_at, mode="nearest")[:, 0].nan_to_num(UNKNOWN)
    seen_sar = sample(sar_appearance(patch[:, -2:-1], generator), sar_at)
    return Batch(
        seen_optical,
        fill_empty(seen_sar, generator),
        optical_cover.long().masked_fill(cloudy, len(COVER_NAMES)),
        sample(patch[:, -1:], sar_at, mode="nearest")[:, 0].nan_to_num(UNKNOWN).long(),
        affine,
        displaced,
    )


def draw_windows(
    config: TrainConfig, patch_px: int, side_px: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What part of its patch the optical sensor sees: (B, 2, 3) seen pixel -> patch pixel, (B,).

    Were it always the whole patch, the network would learn to match frames: those of the optical
    image and of the area that the warp leaves empty in the other. On real scenes there is none.
    """

    def uniform(low: float, high: float) -> Tensor:
        draw = torch.rand(config.batch, generator=generator, device=generator.device)
        return low + (high - low) * draw

    whole = uniform(0, 1) < config.whole_share
    width = torch.where(whole, 1.0, uniform(0.5, 0.9)) * patch_px
    per_seen = width / side_px
    left, top = (uniform(0, 1) * (patch_px - width) for _ in "xy")
    # Corners, not centres of pixels, coincide: -1/2 is the left edge of both.
    shift = torch.stack([left, top], dim=-1) + per_seen[:, None] / 2 - 0.5
    linear = per_seen[:, None, None] * torch.eye(2, device=generator.device)
    return torch.cat([linear, shift[..., None]], dim=-1), per_seen


def fill_empty(sar: Tensor, generator: torch.Generator) -> Tensor:
    """Areas that the warp left empty (NaN): in some pairs they show another place."""
    draw = torch.rand(len(sar), 1, 1, 1, generator=generator, device=sar.device)
    elsewhere = sar.flip(3).roll(1, dims=0)
    return torch.where((draw > 0.6) & ~sar.isfinite(), elsewhere, sar)


def draw_colours(
    optical: Tensor, sar: Tensor, cover: Tensor, config: TrainConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Both images in [0, 1] and the cover; some drawn pairs repainted, whose names are void."""
    optical, sar = optical.float() / 255, sar.float() / 255
    draw = torch.rand(len(cover), generator=generator, device=cover.device)
    repaint = (draw < config.painted_share) & (cover != UNKNOWN).flatten(1).all(dim=1)
    repaint_pixels = repaint[:, None, None, None]
    optical = torch.where(repaint_pixels, paint_labels(cover, optical.shape[1], generator), optical)
    sar = torch.where(repaint_pixels, paint_labels(cover, 1, generator), sar)
    return optical, sar, cover.masked_fill(repaint[:, None, None], UNKNOWN)


def draw_affines(config: TrainConfig, side_px: int, generator: torch.Generator) -> Tensor:
    """(batch, 2, 3) float32: a little beyond the paper's range, some small, some wide."""
    paper = AffineRange((0.65, 1.4), 40.0, 0.13 * side_px, shear_deg=4.0)
    small = AffineRange((0.94, 1.06), 6.0, 0.04 * side_px, shear_deg=2.0)
    wide = AffineRange((0.5, 2.0), 180.0, 0.2 * side_px, shear_deg=10.0)
    draw = torch.rand(config.batch, generator=generator, device=generator.device)[:, None, None]
    drawn = random_affines(paper, config.batch, side_px, generator)
    for chosen, ranges in (
        (draw < config.residual_share, small),
        (draw > 1 - config.wide_share, wide),
    ):
        other = random_affines(ranges, config.batch, side_px, generator)
        drawn = torch.where(chosen, other, drawn)
    return drawn.float()


def batch_loss(
    network: Callable[[Tensor, Tensor], CoarseMatches],
    batch: Batch,
    config: TrainConfig,
    concept_of_cover: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The matching loss alone, and the total that is minimised."""
    side = batch.optical.shape[-1]
    out = network(batch.optical, batch.sar)
    cells = math.isqrt(out.similarity.shape[1])
    index, inside = losses.find_true_cells(batch.sar_xy(cells), cells, side / cells)
    matching = total = losses.matching_loss(out.similarity, index, inside)
    tokens = math.isqrt(out.optical_concepts.shape[1])
    if config.agreement_weight:
        token_index, token_inside = losses.find_true_cells(
            batch.sar_xy(tokens), tokens, side / tokens
        )
        total = total + config.agreement_weight * losses.agreement_loss(
            out.optical_concepts, out.sar_concepts, token_index, token_inside
        )
    if config.naming_weight and concept_of_cover is not None:
        step = side // tokens
        for concepts, cover in (
            (out.optical_concepts, batch.optical_cover),
            (out.sar_concepts, batch.sar_cover),
        ):
            seen = cover[:, step // 2 :: step, step // 2 :: step].flatten(1)
            total = total + config.naming_weight * losses.naming_loss(
                concepts, seen, concept_of_cover
            )
    return matching, total


def _save_resume(
    out: Path, network: TarNetwork, optimiser: torch.optim.Optimizer, seen: int
) -> None:
    partial = out.with_suffix(".resume.partial")
    state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "seen": seen}
    torch.save(state, partial)
    partial.replace(out.with_suffix(".resume"))


def _resume(out: Path, network: TarNetwork, optimiser: torch.optim.Optimizer) -> int:
    resume = out.with_suffix(".resume")
    if not resume.exists():
        return 0
    state = torch.load(resume, map_location="cpu", weights_only=True)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["seen"])
