"""Keeps the memory of a process that runs for months from creeping."""

import ctypes
import os
import platform

_M_ARENA_MAX = -8  # of glibc's malloc.h


def share_arenas(most: int) -> None:
    """Lets threads share `most` of malloc's arenas, where malloc is glibc's and MALLOC_ARENA_MAX does not say it.

    Each thread has one of its own else, and keeps what a model took of it after the model is gone: a server whose
    versions are swapped grows with every swap. Call it before threads are started.
    """
    if platform.libc_ver()[0] == "glibc" and "MALLOC_ARENA_MAX" not in os.environ:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, most)
