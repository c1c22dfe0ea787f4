"""What is in a source of images, without a run: who, how many, what would be set aside and what is there twice."""

import collections
import concurrent.futures
import dataclasses
import hashlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator

from longtail.components.data import base
from longtail.components.data import images
from longtail.components.data import names
from longtail.components.data import splits
from longtail.models import errors

_READERS, _READ_AHEAD = 8, 64
_NAMED = 3  # examples in a warning


@dataclasses.dataclass(frozen=True)
class Seen:
    """An image that would be ingested; about 300 bytes of memory each.

    Attributes:
      item: where it lies and whose it is.
      sha256: of the file.
      format: "jpeg" or "png", as it is kept.
      size: width and height, pixels.
    """

    item: base.Item
    sha256: bytes
    format: str
    size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Inspection:
    """All that was found.

    Attributes:
      seen: images that would be ingested, by path.
      quarantined: (path, reason) of files that would be set aside.
      dropped: (path, reason) of what the layout leaves out.
      ignored: (path, reason) of what is no image, and of systems' own folders.
      pairs: how many pairs a published list names.
    """

    seen: list[Seen]
    quarantined: list[tuple[str, str]]
    dropped: tuple[tuple[str, str], ...]
    ignored: tuple[tuple[str, str], ...]
    pairs: int

    def census(self) -> dict[str, int]:
        """Identity -> its images, those with the most first; the same file twice is one image."""
        distinct = {(one.item.identity, one.sha256) for one in self.seen}
        counts = collections.Counter(identity for identity, _ in distinct)
        return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))

    def copies(self) -> list[list[Seen]]:
        """Groups of the same file within an identity."""
        return [group for group in self._repeated() if len({one.item.identity for one in group}) == 1]

    def contradictions(self) -> list[list[Seen]]:
        """Groups of the same file under more than one identity."""
        return [group for group in self._repeated() if len({one.item.identity for one in group}) > 1]

    def _repeated(self) -> Iterator[list[Seen]]:
        groups = collections.defaultdict(list)
        for one in self.seen:
            groups[one.sha256].append(one)
        return (group for group in groups.values() if len(group) > 1)

    def warnings(self, eval_fraction: float, seed: int, max_quarantine_fraction: float) -> list[str]:
        """What a run with these settings would refuse, or a person should look at."""
        said = []
        if len(self.census()) > 1:
            items = [one.item for one in self.seen]
            held_out = splits.held_out_of(items, eval_fraction, seed)
            if why := splits.lacking(items, held_out):
                said.append(f"a run is refused: {why}")
        else:
            said.append("fewer than two identities: nothing to tell apart")
        files = len(self.seen) + len(self.quarantined)
        if len(self.quarantined) > max_quarantine_fraction * files:
            said.append(f"{len(self.quarantined)} of {files} files would be set aside, which stops a run")
        for group in names.same_but_for_case(self.census()):
            said.append(f"identities that differ by letter case alone: {', '.join(group)}")
        if groups := self.contradictions():
            shown = "; ".join(" = ".join(one.item.path for one in group) for group in groups[:_NAMED])
            said.append(f"the same file under more than one identity, {len(groups)} times: {shown}")
        if strange := [path for path, reason in self.ignored if "convert it" in reason]:
            said.append(f"pictures of formats that are not read, {len(strange)}: {', '.join(strange[:_NAMED])}")
        return said


def inspect(
    source: base.Source, max_pixels: int, progress: Callable[[int, int], None] = lambda done, all_: None
) -> Inspection:
    """Reads and judges every file of a source, as ingestion does. Holds one image a thread at a time.

    Args:
      source: what to look at.
      max_pixels: larger images would be set aside.
      progress: is told after each image how many of how many are done.

    Raises:
      errors.UsageError: there is no image to read.
    """
    listing = source.listing(min_identities=1)
    seen, quarantined = [], list(listing.rejected)
    for done, (item, found) in enumerate(_judged(source, listing.items, max_pixels), start=1):
        if isinstance(found, str):
            quarantined.append((item.path, found))
        else:
            seen.append(found)
        progress(done, len(listing.items))
    return Inspection(seen, sorted(quarantined), listing.dropped, listing.ignored, len(listing.pairs))


def _judged(
    source: base.Source, items: Iterable[base.Item], max_pixels: int
) -> Iterator[tuple[base.Item, Seen | str]]:
    """Each item and what it is, or the reason why it would be set aside; in order, while the next ones are read."""

    def judge(item: base.Item) -> tuple[base.Item, Seen | str]:
        try:
            data = source.read(item)
            image = images.check(data, max_pixels)
        except (base.ReadError, images.BadImage) as error:
            return item, errors.shown(str(error))
        height, width, _ = image.pixels.shape
        return item, Seen(item, hashlib.sha256(data).digest(), image.format.decode(), (width, height))

    ahead: collections.deque[concurrent.futures.Future] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        for item in items:
            ahead.append(pool.submit(judge, item))
            if len(ahead) == _READ_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
