"""Encoded images on a local disk, read by their numbers: of each image 16 bytes are in memory, whatever its size."""

import os
import tempfile
from collections.abc import Iterable
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np


class Records:
    """Byte strings in an unnamed file of the temporary folder, which goes with the process; like an array of them.

    Slices and masks are other views of the same file. Any number of threads may read.

    Args:
      file: holds them.
      begins: int64 [N], first byte of each.
      ends: int64 [N], byte behind the last of each.
    """

    def __init__(self, file: BinaryIO, begins: np.ndarray, ends: np.ndarray):
        self._file = file
        self._begins = begins
        self._ends = ends

    @classmethod
    def write(cls, records: Iterable[bytes]) -> "Records":
        """Writes byte strings down, one at a time."""
        file = tempfile.TemporaryFile(prefix="longtail-")  # noqa: SIM115 - it stays open as long as it is read
        lengths = np.fromiter((file.write(record) for record in records), np.int64)
        file.flush()
        ends = np.cumsum(lengths)
        return cls(file, ends - lengths, ends)

    @property
    def memory(self) -> int:
        """Bytes that say where the records are."""
        return self._begins.nbytes + self._ends.nbytes

    @property
    def disk(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._file.fileno()).st_size

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, rows: slice | np.ndarray) -> "Records":
        return Records(self._file, self._begins[rows], self._ends[rows])

    def __iter__(self) -> Iterator[bytes]:
        for begin, end in zip(self._begins.tolist(), self._ends.tolist(), strict=True):
            yield os.pread(self._file.fileno(), end - begin, begin)

    def __array__(self, dtype=None) -> np.ndarray:
        """The bytes themselves, object [N]: what NumPy and TensorFlow make of it where they are handed it."""
        return np.fromiter(self, object, len(self))
