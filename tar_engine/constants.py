"""Small tensors that never change, made once for each device: an upload makes a GPU wait."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, cast

import torch
from torch import Tensor

Arguments = ParamSpec("Arguments")


def made_once(make: Callable[Arguments, Tensor]) -> Callable[Arguments, Tensor]:
    """The function, whose results are kept by its arguments; nobody may change them in place."""

    @functools.wraps(make)
    def made(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Tensor:
        with torch.inference_mode(False):  # training uses them too
            return make(*args, **kwargs)

    return cast(Callable[Arguments, Tensor], functools.cache(made))
