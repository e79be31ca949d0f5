"""Checkpoints: one safetensors file that carries weights, configuration, text bank and history.

safetensors holds no code, so loading one runs none. The shipped file's hash is pinned in
`weights/tar.sha256`; a file that differs is refused before it is parsed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tar_engine.config import model_config
from tar_engine.errors import WeightsError
from tar_engine.network.model import TarNetwork
from tar_engine.network.text import TextBank, hash_file

DEFAULT_WEIGHTS = Path(__file__).parents[1] / "weights" / "tar.safetensors"
METADATA_KEY = "tar"


@dataclass(frozen=True)
class Checkpoint:
    """A network ready to run, and what is known of it."""

    network: TarNetwork
    sha256: str
    text_provenance: str
    concepts: tuple[str, ...]
    history: dict[str, Any]


def save_checkpoint(
    path: Path, network: TarNetwork, bank: TextBank, history: dict[str, Any]
) -> str:
    """Write a checkpoint (half precision), put it in place whole, return its sha256."""
    tensors = {name: _to_stored(value) for name, value in network.state_dict().items()}
    about = {
        "model": asdict(network.config),
        "text_provenance": bank.provenance,
        "concepts": bank.names,
        "history": history,
    }
    # One metadata entry: safetensors writes several in no fixed order, and the hash would differ.
    content = save(tensors, {METADATA_KEY: json.dumps(about, sort_keys=True)})
    partial = path.with_suffix(".partial")
    partial.write_bytes(content)
    partial.replace(path)
    return hashlib.sha256(content).hexdigest()


def load_checkpoint(path: Path | None = None, sha256: str | None = None) -> Checkpoint:
    """Read a checkpoint after checking its hash.

    Args:
        path: None is the shipped file, whose hash is always checked.
        sha256: the hash it must have; None trusts the file as it is (never the shipped one).

    Raises:
        WeightsError: missing, damaged, made by another version, or not the expected file.
    """
    if path is None:
        path, sha256 = DEFAULT_WEIGHTS, sha256 or shipped_sha256()
    try:
        digest = hash_file(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    if sha256 is not None and digest != sha256:
        raise WeightsError(
            f"{path}: sha256 is {digest[:16]}…, expected {sha256[:16]}…; "
            "the file is damaged or another one, fetch it again"
        )
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[METADATA_KEY])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        network = TarNetwork(model_config(about["model"]), tensors["tafe.bank"])
        network.load_state_dict(tensors)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: no checkpoint of this engine ({error})") from error
    return Checkpoint(
        network.eval(),
        digest,
        about["text_provenance"],
        tuple(about["concepts"]),
        about["history"],
    )


def shipped_sha256() -> str:
    """The pinned hash of the shipped checkpoint."""
    return DEFAULT_WEIGHTS.with_suffix(".sha256").read_text(encoding="ascii").split()[0]


def _to_stored(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if value.is_floating_point() else value
