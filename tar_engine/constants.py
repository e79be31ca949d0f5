"""Small tensors that never change, made once for each device: an upload makes a GPU wait."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def made_once(make: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, whose results are kept by its arguments; nobody may change them in place."""

    @functools.wraps(make)
    def made(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with torch.inference_mode(False):  # training uses them too
            return make(*args, **kwargs)

    return cast(Callable[Arguments, Result], functools.cache(made))
