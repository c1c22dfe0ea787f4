"""Threads share malloc's arenas, so that what a model took is there for the next."""

import os
import platform
import subprocess
import sys

import pytest

# How many arenas there are after twenty threads have each taken memory, all of them at work at once.
COUNT = """
import ctypes, sys, threading
from pipeline import memory
if sys.argv[1] != "-":
    memory.share_arenas(int(sys.argv[1]))
libc, together = ctypes.CDLL(None), threading.Barrier(20)
def take():
    together.wait()
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
print(open(sys.argv[2]).read().count("<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_threads_share_as_many_arenas_as_they_are_given(tmp_path):
    def count(most, **environment):
        command = [sys.executable, "-c", COUNT, most, str(tmp_path / "info")]
        return int(subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}).stdout)

    assert count("2") <= 2 < count("-")
    assert count("2", MALLOC_ARENA_MAX="6") > 2
