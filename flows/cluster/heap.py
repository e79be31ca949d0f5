"""Memory that was freed, and that malloc keeps."""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8  # as glibc's malloc.h has it
HEAPS = 2


def share_heaps() -> None:
    """Let the threads of this process share two heaps, where glibc would give each its own.

    What a thread frees in its own heap no other can use: a driver, whose many threads decode chunks
    by turns, takes 300 MiB less so.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_ARENA_MAX, HEAPS)


def release_memory() -> None:
    """Hand freed memory back to the system, where glibc keeps it.

    For after a step that took much more than what follows: glibc keeps a heap for every thread that
    ever ran, and workers are told to keep theirs (`WORKER_SETTINGS`). A hundred milliseconds.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
