"""Records on disk while they are on their way, so that what is shuffled are their places and not their bytes."""

import os
import uuid
from typing import NamedTuple

import tensorflow as tf


class Place(NamedTuple):
    """Where a record lies: in which file, from which byte on, and how many bytes."""

    file: str
    begin: int
    length: int


class Writer:
    """Appends records to a file of its own, which can be read once the writer is closed.

    Args:
      folder: where the file is made; every worker must reach it.
    """

    def __init__(self, folder: str):
        self._path = os.path.join(folder, f"spool-{uuid.uuid4().hex}")
        self._file = tf.io.gfile.GFile(self._path, "wb")
        self._end = 0

    def write(self, record: bytes) -> Place:
        """Appends a record."""
        self._file.write(record)
        begin, self._end = self._end, self._end + len(record)
        return Place(self._path, begin, len(record))

    def close(self) -> None:
        """Makes what was written readable."""
        self._file.close()


class Reader:
    """Reads records where they lie; keeps the few files open that were read last."""

    _OPEN = 32

    def __init__(self):
        self._files: dict[str, tf.io.gfile.GFile] = {}

    def read(self, place: Place) -> bytes:
        """The record. Raises one of TensorFlow's errors where it is not there."""
        file = self._files.pop(place.file, None) or tf.io.gfile.GFile(place.file, "rb")
        self._files[place.file] = file  # the last used is the last
        if len(self._files) > self._OPEN:
            self._files.pop(next(iter(self._files))).close()
        file.seek(place.begin)
        record = file.read(place.length)
        if len(record) != place.length:
            said = f"{place.file}: {place.length} bytes from {place.begin} on are not there"
            raise tf.errors.DataLossError(None, None, said)
        return record

    def close(self) -> None:
        """Closes the files."""
        while self._files:
            self._files.popitem()[1].close()
