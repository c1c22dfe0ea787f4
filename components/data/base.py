"""What every source of images has in common, whatever its images lie in."""

import abc
import dataclasses


class ReadError(Exception):
    """One image cannot be read; its message is the reason. The others may be fine."""


@dataclasses.dataclass(frozen=True)
class Item:
    """An image that can be read.

    Attributes:
      path: below the source's root, unique in it.
      identity: whom or what it shows.
      camera: -1 where unknown.
      split: "train", "query" or "gallery" where the layout says so, else None.
    """

    path: str
    identity: str
    camera: int = -1
    split: str | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a source holds, each part sorted by path.

    Attributes:
      items: the images.
      rejected: (path, reason) of images that should have had a place but have none.
      dropped: (path, reason) of images that the layout itself says to leave out.
      other_files: how many files are no images by their name.
    """

    items: tuple[Item, ...]
    rejected: tuple[tuple[str, str], ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    other_files: int = 0


class Source(abc.ABC):
    """Images that can be listed and read. Picklable: handles are opened lazily and stay behind."""

    @abc.abstractmethod
    def listing(self, min_identities: int = 2) -> Listing:
        """Lists everything, anew at every call: O(files) time and memory.

        Raises:
          errors.UsageError: nothing there, or fewer than `min_identities` identities.
        """

    @abc.abstractmethod
    def read(self, item: Item, max_bytes: int | None = None) -> bytes:
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
