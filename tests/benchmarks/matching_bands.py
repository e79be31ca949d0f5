"""Which optical bands and which polarisations make the image that the engine matches.

    .venv/bin/python -m tests.benchmarks.matching_bands ../shared/data

Real aligned pairs with true radiometry (chips, BigEarthNet patches): the SAR image is moved by a
drawn shift, rotation and scale, and the engine looks for it. One thing is varied at a time from
red, green, blue, nir against VV, VH. The error is that of the engine's best guess, the mean over a
grid, also where it then refuses: a few pairs tell more that way. The products themselves lie up to
2.5 px apart, whatever is matched, so what all variants agree on (their median) is taken off each
pair first: the table compares variants, and is no accuracy. Scenes of three bands and VH are
cropped and left as they are; there the truth is a quadratic fit, itself good to about 1 px.

Some pairs hold little to match (snow, sea), and pairs are few: differences of a tenth of a pixel,
or of one pair, mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray

from catalog.pixels.resample import resample
from tar_engine import Registrar
from tar_engine.errors import InputError
from tar_engine.training.evaluate import align_columns

Floats = NDArray[np.float32]
L2A = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
RGB, NIR, SWIR = ("B04", "B03", "B02"), ("B08",), ("B11",)
OPTICAL = {
    "red": RGB[:1],
    "nir": NIR,
    "swir16": SWIR,
    "red green blue": RGB,
    "red green blue nir": RGB + NIR,
    "red green blue nir swir16": RGB + NIR + SWIR,
    "all twelve": L2A,
}
SAR = {"VV": ("VV",), "VH": ("VH",), "VV VH": ("VV", "VH")}
USUAL_OPTICAL, USUAL_SAR = "red green blue nir", "VV VH"
OFFSET_PX = 16.0  # prior; drawn shifts are half of it at most
GRID_STEP_PX = 16
CROP_PX = 256
COARSE = {"B01": 6, "B09": 6, "B05": 2, "B06": 2, "B07": 2, "B8A": 2, "B11": 2, "B12": 2}


@dataclass(frozen=True)
class Place:
    """An aligned pair by band: (H, W) each, SAR in decibels; and what moves the SAR image."""

    name: str
    optical: dict[str, Floats]
    sar: dict[str, Floats]
    truth: NDArray[np.float64]
    """(2, H, W): SAR position minus optical position once it is moved."""


@dataclass(frozen=True)
class Answer:
    """off: (2, h, w), the guess less the truth on a grid. accepted: the engine stood by it."""

    off: NDArray[np.float64]
    accepted: bool


def main() -> None:
    """Print both tables."""
    args = arguments()
    torch.set_num_threads(args.threads)
    registrar = Registrar.load(device="cpu")
    rng = np.random.default_rng(3)
    places = [moved(*place, rng) for place in (*chips(args.data), *patches(args.data))]
    places = places[:: args.every]
    variants = [(optical, USUAL_SAR, "dB") for optical in OPTICAL]
    variants += [(USUAL_OPTICAL, sar, "dB") for sar in SAR if sar != USUAL_SAR]
    variants += [(USUAL_OPTICAL, USUAL_SAR, "power")]
    found: dict[tuple[str, str, str], list[Answer]] = {}
    seconds: list[float] = []
    for variant in variants:
        started = time.process_time()
        found[variant] = [answer(registrar, place, *variant) for place in places]
        seconds.append((time.process_time() - started) / len(places))
        print(f"\r{len(found)} of {len(variants)} ", end="", file=sys.stderr, flush=True)
    agreed = [agreement([answers[at] for answers in found.values()]) for at in range(len(places))]
    lines = [["optical", "SAR", "as", "median px", "px<1", "px<2", "accepted", "CPU s/pair"]]
    for (variant, answers), spent in zip(found.items(), seconds, strict=True):
        lines.append([*variant, *cells(answers, agreed), f"{spent:.2f}"])
    print(f"{len(places)} chips and patches, {args.threads} threads")
    print(align_columns(lines))
    apart = np.hypot(*np.array(agreed).T)
    print(f"products apart: median {np.median(apart):.2f} px, at most {apart.max():.2f} px")
    if args.scenes:
        print(f"\n{args.scenes} scenes, against fits good to about 1 px")
        print(align_columns(scene_lines(registrar, args.data / "scenes", args.scenes)))


def answer(registrar: Registrar, place: Place, optical: str, sar: str, scale: str) -> Answer:
    """What the engine says of a place that it is shown as bands and polarisations by name."""
    image = np.stack([place.sar[name] for name in SAR[sar]])
    if scale == "power":
        image = 10 ** (image / 10)
    seen = np.stack([place.optical[name] for name in OPTICAL[optical]])
    return judged(registrar, seen, image, place.truth)


def judged(
    registrar: Registrar, optical: Floats, sar: Floats, truth: NDArray[np.float64]
) -> Answer:
    """The engine's best guess on a grid, less the truth."""
    rows, columns = (np.arange(GRID_STEP_PX, side, GRID_STEP_PX) for side in truth.shape[1:])
    x, y = np.meshgrid(columns, rows)
    try:
        found = registrar.register(optical, sar, max_offset_px=OFFSET_PX)
    except InputError:  # a band without any contrast
        return Answer(np.full((2, *x.shape), np.inf), False)
    guess = np.einsum("ij,jhw->ihw", found.affine, np.stack([x, y, np.ones_like(x)]))
    if found.accepted:
        guess = found.displacement[:, y, x] + np.stack([x, y])
    return Answer(guess - np.stack([x, y]) - truth[:, y, x], found.accepted)


def agreement(answers: Sequence[Answer]) -> NDArray[np.float64]:
    """(2,): the offset from the truth that answers for one place have in common."""
    return np.median(np.concatenate([a.off.reshape(2, -1) for a in answers], axis=1), axis=1)


def cells(answers: Sequence[Answer], agreed: Sequence[NDArray[np.float64]]) -> list[str]:
    errors = np.array(
        [
            np.hypot(*(each.off - offset.reshape(2, 1, 1))).mean()
            for each, offset in zip(answers, agreed, strict=True)
        ]
    )
    accepted = np.mean([each.accepted for each in answers])
    return [
        f"{np.median(errors):.2f}",
        *(f"{(errors < limit).mean():.0%}" for limit in (1, 2)),
        f"{accepted:.0%}",
    ]


def chips(data: Path) -> Iterator[tuple[str, dict[str, Floats], dict[str, Floats]]]:
    """224 px, RTC in decibels."""
    for path in sorted((data / "chips").glob("*_S1RTC.tif")):
        sar = dict(zip(("VV", "VH"), read(path), strict=True))
        optical = read(path.with_name(path.name.replace("S1RTC", "S2L2A")))
        yield path.name, dict(zip(L2A, optical, strict=True)), sar


def patches(data: Path) -> Iterator[tuple[str, dict[str, Floats], dict[str, Floats]]]:
    """120 px, terrain-corrected GRD in decibels; coarse bands repeat their pixels."""
    folder = data / "bigearthnet"
    for path in sorted((folder / "BigEarthNet-S1-Example").iterdir()):
        (labels,) = path.glob("*_labels_metadata.json")
        partner = json.loads(labels.read_text())["corresponding_s2_patch"]
        there = folder / "BigEarthNet-S2-Example" / partner
        optical = {name: read(there / f"{partner}_{name}.tif")[0] for name in L2A}
        optical = {
            name: np.kron(band, np.ones((COARSE.get(name, 1),) * 2, np.float32))
            for name, band in optical.items()
        }
        sar = {name: read(path / f"{path.name}_{name}.tif")[0] for name in ("VV", "VH")}
        yield path.name, optical, sar


def read(path: Path) -> Floats:
    with rasterio.open(path) as source:
        values: Floats = source.read(out_dtype="float32")
    return values


def moved(
    name: str, optical: dict[str, Floats], sar: dict[str, Floats], rng: np.random.Generator
) -> Place:
    """Up to 8 px, 1.5 degrees and 2 %, about the middle."""
    height, width = sar["VV"].shape
    angle, scale = np.radians(rng.uniform(-1.5, 1.5)), 1 + rng.uniform(-0.02, 0.02)
    shift = rng.uniform(-OFFSET_PX / 2, OFFSET_PX / 2, 2) / np.sqrt(2)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    xy = np.stack(np.meshgrid(np.arange(width), np.arange(height))).astype(float)
    out = xy - middle.reshape(2, 1, 1)
    there = np.einsum("ij,jhw->ihw", turn, out) + (middle + shift).reshape(2, 1, 1)
    back = np.einsum("ij,jhw->ihw", np.linalg.inv(turn), out - shift.reshape(2, 1, 1))
    back += middle.reshape(2, 1, 1)
    stack = resample(np.stack(list(sar.values())), back)
    return Place(name, optical, dict(zip(sar, stack, strict=True)), there - xy)


def scene_lines(registrar: Registrar, folder: Path, count: int) -> list[list[str]]:
    """Optical bands of the middle of some scenes against VH, as misregistered as they are."""
    fits = json.loads((folder / "residual_fits.json").read_text())
    chosen = sorted(fits)[:: max(1, len(fits) // count)][:count]
    lines = [["optical", "SAR", "median px", "px<1", "px<2", "accepted"]]
    for label, bands in (
        ("red", [0]),
        ("green", [1]),
        ("blue", [2]),
        ("red green blue", [0, 1, 2]),
    ):
        found = []
        for name in chosen:
            optical, sar = read(folder / f"{name}_S2.tif"), read(folder / f"{name}_S1.tif")
            start = (optical.shape[1] - CROP_PX) // 2
            part = slice(start, start + CROP_PX)
            truth = fitted(fits[name]["quadratic_fit"]["coefficients_dx_dy"], start)
            seen = optical[bands, part, part]
            found.append(judged(registrar, seen, sar[:, part, part], truth))
        lines.append([label, "VH", *cells(found, [np.zeros(2)] * len(found))])
    return lines


def fitted(coefficients: Sequence[Sequence[float]], start: int) -> NDArray[np.float64]:
    """(2, H, W) of a crop; the basis is that of the scenes' notes."""
    u, v = np.meshgrid(*[(np.arange(start, start + CROP_PX) - 511.5) / 512] * 2)
    basis = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)
    field: NDArray[np.float64] = np.moveaxis(basis @ np.array(coefficients), -1, 0)
    return field


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with chips, bigearthnet and scenes")
    parser.add_argument("--every", type=int, default=1, help="of chips and patches, each n-th")
    parser.add_argument("--scenes", type=int, default=6, help="how many; 0 leaves them out")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
