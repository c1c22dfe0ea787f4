"""What a model took is given back when it is gone."""

import platform
import subprocess
import sys

import pytest

# MiB in RAM that 64 MiB of small blocks leave behind when all but the last, at the end of the arena, are freed: before
# and after they are given back.
LEFT = """
import ctypes, os
from longtail.serving.model_server.runtime import memory
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
