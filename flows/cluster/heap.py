"""Memory that was freed, and that malloc keeps."""

from __future__ import annotations

import ctypes


def release_memory() -> None:
    """Hand freed memory back to the system, where glibc keeps it.

    For after a step that took much more than what follows: glibc keeps a heap for every thread that
    ever ran, and workers are told to keep theirs (`WORKER_SETTINGS`). A hundred milliseconds.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
