"""Images in files: a folder, or a .zip of one, on any file system TensorFlow reads."""

import abc
import hashlib
import lzma
import os
import posixpath
import zipfile
import zlib
from collections.abc import Iterator

import tensorflow as tf

from longtail.components.data import base
from longtail.components.data import layouts
from longtail.models import errors

# What a .zip raises whose list of entries is damaged: beside its own errors, a place before the first byte or a name
# that is not UTF-8 (ValueError), or a version of the format that does not exist.
_UNREADABLE = (zipfile.BadZipFile, ValueError, NotImplementedError)
# And what an entry raises: its decompressor's errors (bz2's are OSErrors); a RuntimeError says that a password is
# needed; one of its kind, an unknown compression.
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError, tf.errors.OpError,
)  # fmt: skip


def open_files(uri: str, layout: str, camera_pattern: str) -> base.Source:
    """Opens a folder or .zip; raises errors.UsageError where there is neither."""
    uri = uri.rstrip("/") or "/"
    try:
        is_folder, is_there = tf.io.gfile.isdir(uri), tf.io.gfile.exists(uri)
    except tf.errors.UnimplementedError as error:  # a scheme TensorFlow has no file system for
        raise errors.UsageError(f"{uri}: {error.message}") from error
    if is_folder:
        return FolderSource(uri, layout, camera_pattern)
    if not is_there:
        raise errors.UsageError(f"{uri}: no such folder or .zip; check the path of the data")
    if not uri.lower().endswith(".zip"):
        raise errors.UsageError(f"{uri}: neither a folder nor a .zip of one")
    return ZipSource(uri, layout, camera_pattern)


class _FileSource(base.Source):
    """What a folder and a .zip share: paths, a layout, and marks that change with a file."""

    def __init__(self, uri: str, layout: str, camera_pattern: str):
        """See `sources.open_source`."""
        self._uri = uri
        self._layout = layout
        self._camera_pattern = camera_pattern

    @abc.abstractmethod
    def _paths(self) -> list[str]:
        """Every file's path below the root."""

    @abc.abstractmethod
    def _marks(self) -> Iterator[tuple]:
        """(path, ...) a file, in a fixed order, equal only while the file is unchanged."""

    def listing(self, min_identities: int = 2) -> base.Listing:
        listing = layouts.arrange(self._paths(), self._layout, self._camera_pattern)
        return layouts.require(listing, self._uri, self._layout, min_identities)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for mark in self._marks():
            digest.update(repr(mark).encode())
        return digest.hexdigest()


class FolderSource(_FileSource):
    """A folder. Listing costs one request a folder and entry, a fingerprint one stat a file.

    Links are followed, but no local folder is listed twice: a link to a folder that lies in the
    source already, or to one above it, adds nothing.
    """

    def _paths(self) -> list[str]:
        paths, ahead, seen = [], [self._uri], set()
        links: list[str] = []
        while ahead or links:
            # Links last, so that of two ways to a folder the one without a link is taken.
            folder = ahead.pop() if ahead else links.pop(0)
            if "://" not in folder:
                real = os.path.realpath(folder)
                if real in seen:
                    continue
                seen.add(real)
            for path in _entries_of(folder):
                if not tf.io.gfile.isdir(path):
                    paths.append(path[len(self._uri) :].strip("/"))
                elif os.path.islink(path):
                    links.append(path)
                else:
                    ahead.append(path)
        return paths

    def _marks(self) -> Iterator[tuple]:
        for path in sorted(path for path in self._paths() if not layouts.is_hidden(path)):
            try:
                stat = tf.io.gfile.stat(posixpath.join(self._uri, path))
            except tf.errors.OpError:  # such as a link to nowhere; reading says so, of this file alone
                yield path, None
            else:
                yield path, stat.length, stat.mtime_nsec

    def read(self, item: base.Item, max_bytes: int | None = None) -> bytes:
        try:
            with tf.io.gfile.GFile(posixpath.join(self._uri, item.path), "rb") as file:
                data = file.read(-1 if max_bytes is None else max_bytes + 1)
        except tf.errors.OpError as error:
            raise base.ReadError(f"cannot be read: {error.message}") from error
        if max_bytes is not None and len(data) > max_bytes:
            raise base.ReadError(f"more than {max_bytes} bytes")
        return data


def _entries_of(folder: str) -> list[str]:
    """Paths of what lies in a folder, sorted."""
    try:
        names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    except tf.errors.OpError as error:
        raise errors.UsageError(f"{folder}: cannot be read: {error.message}") from error
    except UnicodeDecodeError as error:
        raise errors.UsageError(
            f"{folder}: the name of a file in it is not UTF-8 ({error.object!r}); rename the file"
        ) from error
    return [posixpath.join(folder, name) for name in names]


class ZipSource(_FileSource):
    """A .zip of a folder. A single folder at its top that holds the others is looked through."""

    def __init__(self, uri: str, layout: str, camera_pattern: str):
        """See `sources.open_source`."""
        super().__init__(uri, layout, camera_pattern)
        self._opened: tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]] | None = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_opened": None}

    def _paths(self) -> list[str]:
        return [path for path, _ in self._entries(self._archive())]

    def _marks(self) -> Iterator[tuple]:
        for path, info in sorted(self._entries(self._archive()), key=lambda entry: entry[0]):
            yield path, info.CRC, info.file_size

    def read(self, item: base.Item, max_bytes: int | None = None) -> bytes:
        if self._opened is None:
            archive = self._archive()
            self._opened = archive, {}
            for path, entry in self._entries(archive):
                self._opened[1].setdefault(path, entry)  # of two that share a path the first, as listed
        archive, infos = self._opened
        info = infos.get(item.path)
        if info is None:
            raise base.ReadError(f"no longer in {self._uri}")
        if max_bytes is not None and info.file_size > max_bytes:
            raise base.ReadError(f"{info.file_size} bytes, more than {max_bytes}")
        try:
            return archive.read(info)
        except _DAMAGED as error:
            raise base.ReadError(f"cannot be unpacked: {error}") from error

    def _archive(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(tf.io.gfile.GFile(self._uri, "rb"))
        # TensorFlow's files refuse to seek before the first byte of one too short to be a .zip.
        except (*_UNREADABLE, tf.errors.InvalidArgumentError) as error:
            raise errors.UsageError(f"{self._uri}: not a readable .zip: {error}") from error
        except tf.errors.OpError as error:
            raise errors.UsageError(f"{self._uri}: cannot be read: {error.message}") from error

    @staticmethod
    def _entries(archive: zipfile.ZipFile) -> list[tuple[str, zipfile.ZipInfo]]:
        """(path, entry) in the archive's order, without the top folder."""
        entries = [
            (posixpath.normpath(info.filename.replace("\\", "/")).lstrip("/"), info)
            for info in archive.infolist()
            if not info.is_dir()
        ]
        images = [
            path.split("/")
            for path, _ in entries
            if layouts.is_image(path) and not layouts.is_hidden(path)
        ]
        if len({parts[0] for parts in images}) == 1 and all(len(parts) > 2 for parts in images):
            top = images[0][0] + "/"
            entries = [(path.removeprefix(top), info) for path, info in entries]
        return entries
