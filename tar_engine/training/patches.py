"""Folders of aligned patch pairs: `NAME_optical.{webp,png}` beside `NAME_sar.{png,webp}`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from tar_engine.errors import InputError

UNKNOWN = 255


@dataclass(frozen=True)
class PatchPairs:
    """Aligned pairs of one size, in memory.

    names: one per pair. optical: (N, 3, S, S) uint8. sar: (N, 1, S, S) uint8.
    cover: (N, S, S) uint8 index into `synthesis.COVER_NAMES`, UNKNOWN where no one knows; None
        where no pair has any.
    """

    names: tuple[str, ...]
    optical: Tensor
    sar: Tensor
    cover: Tensor | None = None

    def __len__(self) -> int:
        return len(self.names)

    def save(self, path: Path) -> None:
        """Pack into one file: images as lossless WebP.

        Lossy images are a quarter of the size, and useless: features learn their smoothed speckle
        and match real speckle worse than before.
        """
        images = [
            _webp(image.permute(1, 2, 0).numpy().squeeze()) for image in (*self.optical, *self.sar)
        ]
        arrays = {} if self.cover is None else {"cover": self.cover.numpy()}
        np.savez_compressed(
            path,
            allow_pickle=False,
            names=np.array(self.names),
            sizes=np.array([len(image) for image in images]),
            images=np.frombuffer(b"".join(images), np.uint8),
            **arrays,
        )


def joined(parts: Sequence[PatchPairs]) -> PatchPairs:
    """Several sets as one; their pairs must have one size."""
    if len({part.optical.shape[-2:] for part in parts}) != 1:
        raise InputError("pairs: the sets have patches of different sizes")
    cover = None
    if any(part.cover is not None for part in parts):
        cover = torch.cat([_cover_or_unknown(part) for part in parts])
    return PatchPairs(
        tuple(name for part in parts for name in part.names),
        torch.cat([part.optical for part in parts]),
        torch.cat([part.sar for part in parts]),
        cover,
    )


def _cover_or_unknown(part: PatchPairs) -> Tensor:
    return torch.full_like(part.sar[:, 0], UNKNOWN) if part.cover is None else part.cover


def load_pairs(path: Path) -> PatchPairs:
    """Read a folder of pairs, or a file that `PatchPairs.save` packed.

    Raises:
        InputError: nothing there, a partner is missing, a file is no image, or sizes differ.
    """
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as packed:
                return _unpacked(dict(packed))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
            raise InputError(f"{path}: no file of packed pairs ({error})") from error
    optical_paths = sorted(path.glob("*_optical.*")) if path.is_dir() else []
    if not optical_paths:
        raise InputError(f"{path}: no files named NAME_optical.webp or NAME_optical.png there")
    names = tuple(file.name.split("_optical.")[0] for file in optical_paths)
    optical = [_read(file, "RGB") for file in optical_paths]
    sar = [_read(_partner(path, name), "L")[:, :, None] for name in names]
    for name, one, other in zip(names, optical, sar, strict=True):
        if one.shape[:2] != optical[0].shape[:2] or other.shape[:2] != optical[0].shape[:2]:
            raise InputError(
                f"{path}: pair {name} is {one.shape[:2]} optical and {other.shape[:2]} SAR, "
                f"but all pairs must be {optical[0].shape[:2]} as the first"
            )
    return PatchPairs(names, _stack(optical), _stack(sar))


def _unpacked(packed: dict[str, np.ndarray]) -> PatchPairs:
    names = tuple(packed["names"].tolist())
    blobs = np.split(packed["images"], np.cumsum(packed["sizes"])[:-1])
    images = [np.asarray(Image.open(io.BytesIO(blob.tobytes())).convert("RGB")) for blob in blobs]
    optical, sar = images[: len(names)], [image[..., :1] for image in images[len(names) :]]
    cover = torch.from_numpy(packed["cover"]) if "cover" in packed else None
    return PatchPairs(names, _stack(optical), _stack(sar), cover)


def _webp(image: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "WEBP", lossless=True)
    return packed.getvalue()


def _partner(folder: Path, name: str) -> Path:
    for suffix in (".png", ".webp"):
        if (partner := folder / f"{name}_sar{suffix}").exists():
            return partner
    raise InputError(f"{folder}: {name}_optical has no partner {name}_sar.png")


def _read(file: Path, mode: str) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert(mode))
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{file}: cannot be read as an image ({error})") from error


def _stack(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
