"""What can go wrong in the engine.

    EngineError
    ├── InputError      an image that cannot be matched: wrong shape, type, all nodata, constant
    ├── WeightsError    a checkpoint that is missing, damaged, or not the one that was asked for
    └── TextError       a text encoder that cannot be loaded

A pair that does not match is none of these: it is a result whose `accepted` is False.
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of everything the engine raises on purpose."""


class InputError(EngineError, ValueError):
    """An argument that the engine cannot work on; the message names the argument and the cause."""


class WeightsError(EngineError):
    """A checkpoint that cannot be trusted or read; the message names the file."""


class TextError(EngineError):
    """A text encoder that cannot be loaded; the message names the checkpoint and what is needed."""
