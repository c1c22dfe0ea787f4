"""Deliveries of images as they come: which spans there are, and whether what lies there is whole."""

import glob
import hashlib
import os
import re
from collections.abc import Iterator

from longtail.components.data import glyphs
from longtail.components.data import sources
from longtail.models import errors

_SPAN = re.compile(r"\{SPAN(?::[^{}]*)?\}")


class Deliveries:
    """What lies on this machine where a path with `{SPAN}` in it points: a folder or an archive a span.

    Args:
      pattern: the path; `{SPAN}` or `{SPAN:04d}` in it stands for the span's number.
      marker: name of the file that whoever delivers writes last: in the folder, or behind the archive's own name
        (`span-1.zip` and `.done` make `span-1.zip.done`); "" where nobody writes one.

    Raises:
      errors.UsageError: no `{SPAN}` in the path, or it leads off this machine or to images that are made.
    """

    def __init__(self, pattern: str, marker: str = ""):
        if "://" in pattern or pattern.startswith((sources.TFRECORD, glyphs.SCHEME)):
            raise errors.UsageError(f"--data {pattern}: a watch takes folders and archives of this machine; name one")
        if sources.resolve(pattern, 1) == sources.resolve(pattern, 2):
            raise errors.UsageError(f"--data {pattern}: write {{SPAN}} where a delivery's number stands")
        if os.path.basename(marker) != marker:
            raise errors.UsageError(f"--marker {marker}: give the name of a file, without a folder")
        self.pattern = sources.absolute(pattern)
        self.marker = marker
        around = _SPAN.split(self.pattern)
        self._glob = "*".join(map(glob.escape, around))
        self._number = re.compile(r"(\d+)".join(map(re.escape, around)))

    def path(self, span: int) -> str:
        """Where a span's delivery is to lie."""
        return sources.resolve(self.pattern, span)

    def spans(self) -> list[int]:
        """Numbers of the spans of which anything is there, ascending."""
        paths = set(glob.iglob(self._glob))
        spans = {int(match.group(1)) for path in paths if (match := self._number.fullmatch(path))}
        return sorted(span for span in spans if span > 0 and self.path(span) in paths)

    def look(self, span: int) -> str:
        """A digest of what a delivery holds now; "" where there is nothing, or the marker is still missing.

        Of a delivery with a marker it is the marker's alone: whoever changes the one writes the other anew.

        Raises:
          errors.UsageError: it cannot be looked into.
        """
        path = self.path(span)
        if self.marker:
            path = os.path.join(path, self.marker) if os.path.isdir(path) else path + self.marker
        seen = list(_seen(path))
        return hashlib.sha256(repr(seen).encode()).hexdigest() if seen else ""


def _seen(path: str) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Name, size and time of a file, or of all files below a folder, in an order of their own."""
    if not os.path.isdir(path):
        yield from ((b"", mark) for mark in _mark(path))
        return
    for folder, folders, names in os.walk(path, onerror=_refuse):
        folders.sort()
        for name in sorted(names):
            full = os.path.join(folder, name)
            yield from ((os.fsencode(full.removeprefix(path)), mark) for mark in _mark(full))


def _mark(path: str) -> list[tuple[int, int]]:
    try:
        found = os.stat(path)
    except OSError:  # gone between two looks, or a link to nowhere: what is read of it, a run says
        return []
    return [(found.st_size, found.st_mtime_ns)]


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise errors.UsageError(f"{error.filename}: cannot be looked into ({error.strerror}); let this user read it")
