"""Keeps the memory of a server that runs for months from creeping, where malloc is glibc's."""

import ctypes
import functools
import os
import platform

_M_ARENA_MAX = -8  # of glibc's malloc.h


@functools.cache
def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def share_arenas(most: int) -> None:
    """Lets threads share `most` of malloc's arenas, where MALLOC_ARENA_MAX does not say it.

    Each thread has one of its own else, and keeps what a model took of it after the model is gone: a server whose
    versions are swapped grows with every swap. Call it before threads are started.
    """
    if _is_glibc() and "MALLOC_ARENA_MAX" not in os.environ:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, most)


def give_back() -> None:
    """Gives memory that was freed back to the system; takes some 10 ms an arena, in which others wait for it.

    malloc does so by itself at the end of an arena alone, and a model is freed from the middle of it.
    """
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)
