"""Images in files: a folder, or an archive of one, on any file system TensorFlow reads."""

import abc
import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf

from longtail.components.data import base
from longtail.components.data import layouts
from longtail.components.data import names
from longtail.models import errors


class Found(NamedTuple):
    """What lies in a source.

    Attributes:
      path: below its root; of a system's own folder, which is not looked into, with a slash at its end.
      mark: equal only while the file is unchanged.
      trouble: why it is not to be opened; "" where it may be.
    """

    path: str
    mark: tuple = ()
    trouble: str = ""


class FileSource(base.Source):
    """What folders and archives share: paths, a layout, and marks that change with a file."""

    def __init__(self, uri: str, layout: str, camera_pattern: str):
        """See `sources.open_source`."""
        self._uri = uri
        self._layout = layout
        self._camera_pattern = camera_pattern

    @abc.abstractmethod
    def _found(self, marks: bool) -> Iterator[Found]:
        """Everything that lies in it, in any order; with marks where they are asked for."""

    @abc.abstractmethod
    def _read(self, path: str, most: int) -> bytes:
        """The first `most` bytes of a file. Raises base.ReadError."""

    def listing(self, min_identities: int = 2) -> base.Listing:
        found = list(self._found(marks=False))
        sound = (one.path for one in found if not one.trouble)
        troubled = ((one.path, one.trouble) for one in found if one.trouble)
        listing = layouts.arrange(sound, self._layout, self._camera_pattern, troubled, self._read)
        return layouts.require(listing, self._uri, self._layout, min_identities)

    def read(self, item: base.Item, max_bytes: int = base.MAX_BYTES) -> bytes:
        data = self._read(item.path, max_bytes + 1)
        if len(data) > max_bytes:
            raise base.ReadError(f"more than {max_bytes} bytes", base.TOO_LARGE)
        return data

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path, mark, trouble in sorted(self._found(marks=True)):
            if not names.system_part(path)[0]:
                digest.update(repr((path, mark, trouble)).encode())
        return digest.hexdigest()


def read_remote(path: str, most: int) -> bytes:
    """The first `most` bytes of a file on any of TensorFlow's file systems. Raises base.ReadError."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read(most)
    except tf.errors.OpError as error:
        raise base.ReadError(f"cannot be read: {error.message}") from error


def entries_of(folder: str) -> list[str]:
    """Names of what lies in a folder on any of TensorFlow's file systems, sorted.

    Raises:
      errors.UsageError: it cannot be read, or holds a name that is not UTF-8.
    """
    try:
        return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    except tf.errors.OpError as error:
        raise errors.UsageError(f"{folder}: cannot be read: {error.message}") from error
    except UnicodeDecodeError as error:
        raise errors.UsageError(
            f"{folder}: the name of a file in it is not UTF-8 ({error.object!r}); rename the file"
        ) from error
