"""Images in a .zip or a plain .tar of a folder: a single folder at its top that holds the others is looked through."""

import abc
import posixpath
import stat
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from longtail.components.data import base
from longtail.components.data import file_sources
from longtail.components.data import names
from longtail.models import errors

# What an archive raises whose list of entries is damaged: beside its own errors, a place before the first byte or a
# name that is not UTF-8 (ValueError), or a version of the format that does not exist. TensorFlow's files refuse to seek
# before the first byte of one too short to be an archive.
_UNREADABLE = (
    zipfile.BadZipFile, tarfile.TarError, ValueError, NotImplementedError, EOFError, tf.errors.InvalidArgumentError,
    tf.errors.OutOfRangeError,
)  # fmt: skip
# And what an entry raises: one of its kind, an unknown compression (RuntimeError).
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError, tf.errors.OpError)

_ONE_AT_A_TIME = threading.Lock()  # threads share a .tar's file and its position; a .zip sees to that itself
_LINK, _SPECIAL = "a link in an archive", "not a regular file"


class _Archive(file_sources.FileSource):
    """A file of files. The open archive stays behind where the source travels to a worker."""

    def __init__(self, uri: str, layout: str, camera_pattern: str):
        """See `sources.open_source`."""
        super().__init__(uri, layout, camera_pattern)
        self._opened: tuple[Any, dict[str, Any]] | None = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_opened": None}

    @abc.abstractmethod
    def _open(self) -> Any:
        """The archive."""

    @abc.abstractmethod
    def _entries(self, archive: Any) -> Iterator[tuple[str, file_sources.Found, Any]]:
        """(path as stored, Found with that path, entry) of what is no folder, in the archive's order."""

    @abc.abstractmethod
    def _size(self, entry: Any) -> int:
        """Bytes of an entry, as the archive states them."""

    def read(self, item: base.Item, max_bytes: int = base.MAX_BYTES) -> bytes:
        size = self._size(self._entry(item.path)[1])
        if size > max_bytes:
            raise base.ReadError(f"{size} bytes, more than {max_bytes}", base.TOO_LARGE)
        return super().read(item, max_bytes)

    def _found(self, marks: bool) -> Iterator[file_sources.Found]:
        for path, found, _ in self._listed(self._archive()):
            yield found._replace(path=path, mark=found.mark if marks else ())

    def _entry(self, path: str) -> tuple[Any, Any]:
        """The archive and an entry of it. Raises base.ReadError."""
        if self._opened is None:
            archive = self._archive()
            by_path: dict[str, Any] = {}
            for name, _, entry in self._listed(archive):
                by_path.setdefault(name, entry)  # of two that share a path the first, as listed
            self._opened = archive, by_path  # whole: another thread may be waiting for it
        archive, entries = self._opened
        if path not in entries:
            raise base.ReadError(f"no longer in {self._uri}")
        return archive, entries[path]

    def _archive(self) -> Any:
        try:
            return self._open()
        except _UNREADABLE as error:
            kind = "a readable .zip" if isinstance(self, ZipSource) else "a readable, uncompressed .tar"
            raise errors.UsageError(f"{self._uri}: not {kind}: {error}") from error
        except tf.errors.OpError as error:
            raise errors.UsageError(f"{self._uri}: cannot be read: {error.message}") from error

    def _listed(self, archive: Any) -> list[tuple[str, file_sources.Found, Any]]:
        """(path, Found, entry), without the top folder."""
        entries = [
            (posixpath.normpath(name.replace("\\", "/")).lstrip("/"), found, entry)
            for name, found, entry in self._entries(archive)
        ]
        paths = [path for path, _, _ in entries if not names.system_part(path)[0]]
        images = [path.split("/") for path in paths if names.is_image(path)] or [path.split("/") for path in paths]
        if len({parts[0] for parts in images}) == 1 and all(len(parts) > 2 for parts in images):
            top = images[0][0] + "/"
            entries = [(path.removeprefix(top), found, entry) for path, found, entry in entries]
        return entries


class ZipSource(_Archive):
    """A .zip. Its entries are stored or deflated: of the other methods a few bytes may unpack without bound."""

    def _open(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(tf.io.gfile.GFile(self._uri, "rb"))

    def _entries(self, archive: zipfile.ZipFile) -> Iterator[tuple[str, file_sources.Found, zipfile.ZipInfo]]:
        for info in archive.infolist():
            if not info.is_dir():
                found = file_sources.Found(info.filename, (info.CRC, info.file_size), _trouble(info))
                yield info.filename, found, info

    def _size(self, entry: zipfile.ZipInfo) -> int:
        return entry.file_size

    def _read(self, path: str, most: int) -> bytes:
        archive, info = self._entry(path)
        try:
            with archive.open(info) as file:
                data = file.read(min(most, info.file_size))
                if len(data) == info.file_size:
                    file.read(1)  # at its end its checksum is looked at
                elif len(data) < most:
                    raise base.ReadError(f"cannot be unpacked: ends after {len(data)} of {info.file_size} bytes")
        except _DAMAGED as error:
            raise base.ReadError(f"cannot be unpacked: {error or type(error).__name__}") from error
        return data


def _trouble(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if stat.S_ISLNK(kind):
        return _LINK
    if kind and not stat.S_ISREG(kind):
        return _SPECIAL
    if info.flag_bits & 1:
        return "needs a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "compressed by a method that is not read; pack it with deflate"
    return ""


class TarSource(_Archive):
    """A .tar without compression, so that every file in it can be read by itself."""

    def _open(self) -> tarfile.TarFile:
        archive = tarfile.open(fileobj=tf.io.gfile.GFile(self._uri, "rb"), mode="r:")  # noqa: SIM115
        archive.getmembers()  # all headers are read here, so that damage shows
        return archive

    def _entries(self, archive: tarfile.TarFile) -> Iterator[tuple[str, file_sources.Found, tarfile.TarInfo]]:
        for info in archive.getmembers():
            if not info.isdir():
                trouble = _LINK if info.issym() or info.islnk() else "" if info.isreg() else _SPECIAL
                trouble = trouble or ("a file with holes, which is not read" if info.issparse() else "")
                yield info.name, file_sources.Found(info.name, (info.size, info.mtime, info.chksum), trouble), info

    def _size(self, entry: tarfile.TarInfo) -> int:
        return entry.size

    def _read(self, path: str, most: int) -> bytes:
        archive, info = self._entry(path)
        try:
            with _ONE_AT_A_TIME:
                archive.fileobj.seek(info.offset_data)
                data = archive.fileobj.read(min(most, info.size))
        except _DAMAGED as error:
            raise base.ReadError(f"cannot be unpacked: {error}") from error
        if len(data) < min(most, info.size):
            raise base.ReadError(f"cannot be unpacked: ends after {len(data)} of {info.size} bytes")
        return data
