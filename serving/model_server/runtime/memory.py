"""Gives the memory of an unloaded model back to the system, where malloc is glibc's."""

import ctypes
import functools
import gc
import platform
from collections.abc import Callable


@functools.cache
def _trim() -> Callable[[int], int] | None:
    return ctypes.CDLL(None).malloc_trim if platform.libc_ver()[0] == "glibc" else None


def give_back() -> None:
    """Collects what Python kept of a model, then gives what was freed back; some 10 ms each, in which others wait.

    malloc gives back by itself at the end of an arena alone, and a model is freed from the middle of it: a server
    whose versions are swapped would grow with every swap.
    """
    gc.collect()
    if (trim := _trim()) is not None:
        trim(0)
