"""Images in a folder: a local one, whose links and special files are seen for what they are, or a remote one."""

import os
import posixpath
import stat
from collections.abc import Iterator

import tensorflow as tf

from longtail.components.data import base
from longtail.components.data import file_sources
from longtail.components.data import names
from longtail.models import errors

_AWAY = "a link that leads out of the data's folder"
_SPECIAL = "not a regular file"


class RemoteFolder(file_sources.FileSource):
    """A folder in a bucket or the like. Listing costs one request a folder and entry, a fingerprint one stat a file."""

    def _found(self, marks: bool) -> Iterator[file_sources.Found]:
        ahead = [""]
        while ahead:
            folder = ahead.pop()
            for name in file_sources.entries_of(posixpath.join(self._uri, folder)):
                path = posixpath.join(folder, name)
                if not tf.io.gfile.isdir(posixpath.join(self._uri, path)):
                    yield file_sources.Found(path, self._mark(path) if marks else ())
                elif names.system_folder(name):
                    yield file_sources.Found(path + "/")
                else:
                    ahead.append(path)

    def _mark(self, path: str) -> tuple:
        try:
            found = tf.io.gfile.stat(posixpath.join(self._uri, path))
        except tf.errors.OpError:  # reading says so, of this file alone
            return ()
        return found.length, found.mtime_nsec

    def _read(self, path: str, most: int) -> bytes:
        return file_sources.read_remote(posixpath.join(self._uri, path), most)


class LocalFolder(file_sources.FileSource):
    """A folder of this machine.

    Links are followed as far as they stay in it, but no folder is listed twice: a link to a folder that lies in the
    source already, or to one above it, adds nothing. What is no regular file is never opened.
    """

    def _found(self, marks: bool) -> Iterator[file_sources.Found]:
        root = os.path.realpath(self._uri)
        ahead, seen = [""], set()
        links: list[str] = []
        while ahead or links:
            # Links last, so that of two ways to a folder the one without a link is taken.
            folder = ahead.pop() if ahead else links.pop(0)
            real = os.path.realpath(os.path.join(root, folder))
            if real in seen:
                continue
            seen.add(real)
            for entry in _scan(os.path.join(root, folder), os.path.join(self._uri, folder)):
                path = posixpath.join(folder, entry.name)
                if entry.is_symlink() and os.path.commonpath([os.path.realpath(entry.path), root]) != root:
                    yield file_sources.Found(path, (), _AWAY)
                elif not _is_folder(entry):
                    yield _judged(path, entry, marks)
                elif names.system_folder(entry.name):
                    yield file_sources.Found(path + "/")
                elif entry.is_symlink():
                    links.append(path)
                else:
                    ahead.append(path)

    def _read(self, path: str, most: int) -> bytes:
        return base.read_local(os.path.join(self._uri, path), most)


def _scan(folder: str, shown: str) -> list[os.DirEntry]:
    """What lies in a folder, by name."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise errors.UsageError(f"{shown}: cannot be read: {error.strerror}") from error
    for entry in entries:
        try:
            entry.name.encode()
        except UnicodeEncodeError:
            raise errors.UsageError(
                f"{shown}: the name of a file in it is not UTF-8 ({os.fsencode(entry.name)!r}); rename the file"
            ) from None
    return entries


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _judged(path: str, entry: os.DirEntry, marks: bool) -> file_sources.Found:
    """A file, or what is taken for one."""
    try:
        if not marks and entry.is_file(follow_symlinks=False):
            return file_sources.Found(path)  # the directory said so: no stat
        found = entry.stat()
    except OSError as error:
        trouble = "a link to nowhere" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        return file_sources.Found(path, (), trouble)
    if not stat.S_ISREG(found.st_mode):
        return file_sources.Found(path, (), _SPECIAL)
    return file_sources.Found(path, (found.st_size, found.st_mtime_ns))
