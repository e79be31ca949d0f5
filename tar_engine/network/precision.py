"""In which precision features are computed, and where."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

HALVED = ("cpu", "cuda")  # kinds of device that know half precision


def is_on_cpu(image: Tensor) -> bool:
    """Whether work is best cut to the size of a cache; elsewhere every call costs a launch."""
    return image.device.type == "cpu"


def half_precision(device: torch.device, *, enabled: bool) -> AbstractContextManager[object]:
    """Convolutions and products in bfloat16, or surely not, on devices that know it."""
    if device.type not in HALVED:
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def native_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Half precision where the hardware computes in bfloat16; emulated it costs three times."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        native = bool(able.get("amx_bf16") or able.get("avx512_bf16"))
    return half_precision(device, enabled=native)


def computed_in(features: Tensor) -> torch.dtype:
    """The precision in which convolutions of features compute here, see `half_precision`."""
    kind = features.device.type
    if kind not in HALVED or not torch.is_autocast_enabled(kind):
        return features.dtype
    return torch.get_autocast_dtype(kind)
