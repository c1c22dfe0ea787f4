"""What every source of images has in common, whatever its images lie in."""

import abc
import dataclasses
from typing import NamedTuple

from longtail.models import config
from longtail.models import pictures
from longtail.models.export import signatures

MAX_BYTES = pictures.max_bytes(config.MAX_PIXELS)
TOO_LARGE = signatures.STATUS_TOO_LARGE


class ReadError(Exception):
    """One image cannot be read; its message is the reason. The others may be fine.

    Attributes:
      status: as a served model would answer, see `longtail.models.export.signatures.STATUS_MEANING`.
    """

    def __init__(self, reason: str, status: int = signatures.STATUS_UNDECODABLE):
        super().__init__(reason)
        self.status = status


@dataclasses.dataclass(frozen=True, slots=True)  # a listing holds one for every image
class Item:
    """An image that can be read.

    Attributes:
      path: below the source's root, unique in it, as it is spelled there.
      identity: whom or what it shows, in Unicode's form NFC, so that one name has one spelling.
      camera: -1 where unknown.
      split: "train", "query" or "gallery" where the layout says so, else None.
    """

    path: str
    identity: str
    camera: int = -1
    split: str | None = None


class Pair(NamedTuple):
    """Two images that a published list asks to compare.

    Attributes:
      first: its path.
      second: its path.
      same: whether they show the same identity.
      fold: which part of the list they are in, from 0.
    """

    first: str
    second: str
    same: bool
    fold: int = 0


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a source holds, each part sorted by path.

    Attributes:
      items: the images.
      rejected: (path, reason) of images that should have had a place but have none.
      dropped: (path, reason) of images that the layout itself says to leave out.
      ignored: (path, reason) of what is no image by its name and its content, and of systems' own folders, whose path
        ends in a slash and whose files are not listed.
      pairs: what a published list asks to compare, in its order.
    """

    items: tuple[Item, ...]
    rejected: tuple[tuple[str, str], ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    pairs: tuple["Pair", ...] = ()


class Source(abc.ABC):
    """Images that can be listed and read. Picklable: handles are opened lazily and stay behind."""

    @abc.abstractmethod
    def listing(self, min_identities: int = 2) -> Listing:
        """Lists everything, anew at every call: O(files) time and memory.

        Raises:
          errors.UsageError: nothing there, or fewer than `min_identities` identities.
        """

    @abc.abstractmethod
    def read(self, item: Item, max_bytes: int = MAX_BYTES) -> bytes:
        """The file as found.

        Raises:
          ReadError: it cannot be read, or has more than `max_bytes`.
        """

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Hex digest that changes when the data does; reads no image."""

    def items(self) -> list[Item]:
        """The images, sorted by path; raises as `listing` does."""
        return list(self.listing().items)


def read_local(path: str, most: int) -> bytes:
    """The first `most` bytes of a regular file of this machine. Raises ReadError."""
    try:
        return pictures.read_file(path, most)
    except FileNotFoundError as error:
        raise ReadError("cannot be read: no such file") from error
    except pictures.BadImage as error:
        raise ReadError(str(error)) from error
