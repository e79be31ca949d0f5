"""On a GPU a tile takes few launches and no waits: traced on the `meta` device, without values.

Whatever would wait for a value fails there by itself. What a CPU does strip by strip or feature by
feature is not taken, as on a GPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tar_engine import Registrar

PRIOR = {"max_offset_px": 32.0}
FROM_A_START = {"max_offset_px": 8.0, "start": (2, 40, 40)}
RADAR_TO_RADAR: dict[str, Any] = {"max_offset_px": 8.0, "of_reference": "sar"}
ANYWHERE: dict[str, Any] = {}
NO_WORK = ("aten.empty", "aten.detach", "aten.reshape", "aten.flatten", "aten.contiguous")


class Operators(TorchDispatchMode):
    """Counts operators that are more than another view, and names those that touch the host."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.on_host: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and note it."""
        result = func(*args, **(kwargs or {}))
        tensors = [part for part in tree_leaves((args, kwargs, result)) if isinstance(part, Tensor)]
        if any(tensor.device.type != "meta" for tensor in tensors):
            self.on_host.append(str(func))
        if not func.is_view and not str(func).startswith(NO_WORK):
            self.count += 1
        return result


@pytest.fixture(scope="module")
def registrar() -> Registrar:
    loaded = Registrar.load(device="cpu")
    return Registrar(loaded.checkpoint, torch.device("meta"))


def operators(registrar: Registrar, tiles: int, options: dict[str, Any]) -> int:
    """How many a batch of tiles takes, once what is kept for the device is made."""
    optical = torch.empty(tiles, 4, 640, 640, device="meta")
    sar = torch.empty(tiles, 2, 640, 640, device="meta")
    if "start" in options:
        options = options | {"start": torch.empty(tiles, *options["start"], device="meta")}
    registrar.match_batch(optical, sar, **options)
    with Operators() as traced:
        registrar.match_batch(optical, sar, **options)
    assert not traced.on_host
    return traced.count


@pytest.mark.parametrize(
    ("options", "most"),
    [(PRIOR, 2560), (FROM_A_START, 1540), (RADAR_TO_RADAR, 1310), (ANYWHERE, 4390)],
    ids=["prior", "start", "radar to radar", "anywhere"],
)
def test_a_batch_takes_as_few_launches_as_a_tile_and_none_waits(
    registrar: Registrar, options: dict[str, Any], most: int
) -> None:
    alone = operators(registrar, 1, options)
    assert alone <= most
    assert operators(registrar, 8, options) == alone
