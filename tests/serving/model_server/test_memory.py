"""Threads share malloc's arenas, and what a model took is given back when it is gone."""

import os
import platform
import subprocess
import sys

import pytest

# How many arenas there are after twenty threads have each taken memory, all of them at work at once.
COUNT = """
import ctypes, sys, threading
from longtail.serving.model_server import memory
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


# MiB in RAM that 64 MiB of small blocks leave behind when all but the last, at the end of the arena, are freed: before
# and after they are given back.
LEFT = """
import ctypes, os
from longtail.serving.model_server import memory
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
begun = resident()
blocks = [libc.malloc(65536) for _ in range(1024)]
for block in blocks:
    ctypes.memset(block, 1, 65536)
for block in blocks[:-1]:
    libc.free(block)
before = resident() - begun
memory.give_back()
print(before, resident() - begun)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_what_is_freed_is_given_back():
    done = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 50 and after < 10
