"""What a path says: whose image it is, from which camera, in which split."""

import abc
import re
from collections.abc import Callable
from collections.abc import Iterable

from longtail.components.data import base
from longtail.components.data import names
from longtail.models import errors
from longtail.models import pictures

DUPLICATE = "another file has the same path"
_LARGEST_CAMERA = 2**63 - 1  # it is stored as int64
_SHOWN = 2  # misplaced images that an error names

_SPLITS = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}  # of Market-1501 and Duke


class Rejected(Exception):  # noqa: N818 - no error of the program: the message is the reason
    """An image should have a place and has none."""


class Dropped(Exception):  # noqa: N818
    """The layout itself says to leave an image out."""


class Layout(abc.ABC):
    """A layout: made anew for each listing, and asked about each path.

    Attributes:
      hint: what an error tells a user to expect.
    """

    hint: str

    @abc.abstractmethod
    def place(self, path: str) -> base.Item:
        """The item of an image's path. Raises Rejected or Dropped, with the reason."""


def check(layout: str, camera_pattern: str) -> None:
    """Raises errors.UsageError for an unknown layout or a pattern without its one group."""
    if layout not in LAYOUTS:
        raise errors.UsageError(f"unknown layout '{layout}'; valid are {', '.join(LAYOUTS)}")
    check_pattern("camera_pattern", camera_pattern, "around digits")


def check_pattern(name: str, pattern: str, around: str) -> None:
    """Raises errors.UsageError, with the setting's name, for a pattern without its one group."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise errors.UsageError(f"{name} '{pattern}': {error}") from None
    if pattern and groups != 1:
        raise errors.UsageError(f"{name} '{pattern}' has {groups} groups; it needs one, {around}")


def system_part(path: str) -> tuple[str, str]:
    """(path, reason) of what a system made and an image's path leads through or to; both empty where nothing."""
    parts = path.split("/")
    for count, folder in enumerate(parts[:-1], start=1):
        if reason := names.system_folder(folder):
            return "/".join(parts[:count]) + "/", reason
    reason = names.system_file(parts[-1])
    return (path, reason) if reason else ("", "")


def arrange(
    paths: Iterable[str],
    layout: str,
    camera_pattern: str,
    troubled: Iterable[tuple[str, str]] = (),
    head: Callable[[str], bytes] = lambda path: b"",
) -> base.Listing:
    """Gives every path its place.

    Args:
      paths: relative, with forward slashes, in any order; systems' own folders end in a slash.
      layout: one of LAYOUTS.
      camera_pattern: see `sources.open_source`.
      troubled: (path, reason) of what is not to be opened: no files, or links that lead away.
      head: the first bytes of a file, which tell an image whose name does not.

    Raises:
      errors.UsageError: `camera_pattern` found something that is no number.
    """
    made = LAYOUTS[layout]()
    items: list[base.Item] = []
    rejected: list[tuple[str, str]] = []
    dropped: list[tuple[str, str]] = []
    ignored: dict[str, str] = {}
    previous = None
    for path, trouble in sorted([*((path, "") for path in paths), *troubled]):
        system, reason = system_part(path)
        if system:
            ignored[system] = reason
        elif path.startswith("../"):
            rejected.append((path, "leads out of the data's root"))
        elif path == previous:
            rejected.append((path, DUPLICATE))
        elif trouble:
            rejected.append((path, trouble))
        elif not names.is_image(path) and not pictures.kind_of(found := _head(head, path)):
            ignored[path] = pictures.stranger(found)
        else:
            try:
                items.append(made.place(path))
            except Rejected as no:
                rejected.append((path, str(no)))
            except Dropped as no:
                dropped.append((path, str(no)))
        previous = path
    if camera_pattern:
        items = [_with_camera(item, re.compile(camera_pattern)) for item in items]
    return base.Listing(tuple(items), tuple(rejected), tuple(dropped), tuple(ignored.items()))


def _head(head: Callable[[str], bytes], path: str) -> bytes:
    try:
        return head(path)
    except base.ReadError:
        return b"?"  # no image, and nobody took it for one


def require(listing: base.Listing, where: str, layout: str, min_identities: int) -> base.Listing:
    """Returns `listing`; raises errors.UsageError where there is too little in it to work with."""
    hint = LAYOUTS[layout].hint
    if not listing.items:
        found = f"{len(listing.rejected)} misplaced images" if listing.rejected else "no images"
        named = "; ".join(f"{path}: {reason}" for path, reason in listing.rejected[:_SHOWN])
        raise errors.UsageError(
            f"{where}: {found} and none to read; expected {hint}{f' ({named})' if named else ''}"
        )
    identities = {item.identity for item in listing.items}
    if len(identities) < min_identities:
        raise errors.UsageError(
            f"{where}: one identity only ('{identities.pop()}'), at least {min_identities} are"
            f" needed; expected {hint}"
        )
    return listing


class Folder(Layout):
    """An identity is the folders above the image."""

    hint = "one folder of images per identity"

    def place(self, path: str) -> base.Item:
        identity, _, _ = path.rpartition("/")
        if not identity:
            raise Rejected("lies at the top, in no identity's folder")
        return base.Item(path, names.spelled(identity))


class Market1501(Layout):
    """Identity and camera are in the file's name, the split is the folder."""

    hint = f"the folders {', '.join(_SPLITS)}"
    _NAME, _EXAMPLE = re.compile(r"(-1|\d+)_c(\d+)"), "0002_c1s1_000451_03.jpg"

    def place(self, path: str) -> base.Item:
        folder, _, name = path.partition("/")
        if folder not in _SPLITS:
            raise Dropped(f"in none of {', '.join(_SPLITS)}")
        match = self._NAME.match(name)
        if not match:
            raise Rejected(f"name is not like {self._EXAMPLE}")
        if match.group(1) == "-1":
            raise Dropped("junk by its name: identity -1")
        return base.Item(path, match.group(1), int(match.group(2)), _SPLITS[folder])


def _with_camera(item: base.Item, pattern: re.Pattern) -> base.Item:
    match = pattern.search(item.path.rpartition("/")[2])
    if not match:
        return item
    digits = match.group(1) or ""
    if not (digits.isascii() and digits.isdigit() and int(digits) <= _LARGEST_CAMERA):
        raise errors.UsageError(
            f"camera_pattern '{pattern.pattern}' finds '{digits}' in {item.path};"
            " its group must match digits"
        )
    return base.Item(item.path, item.identity, int(digits), item.split)


LAYOUTS = {"folder": Folder, "market1501": Market1501}
