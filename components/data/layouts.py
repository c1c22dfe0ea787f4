"""What a path says: whose image it is, from which camera, in which split."""

import abc
import re
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from longtail.components.data import base
from longtail.components.data import names
from longtail.models import errors
from longtail.models import pictures

DUPLICATE = "another file has the same path"
_LARGEST_CAMERA = 2**63 - 1  # it is stored as int64
_SHOWN = 2  # misplaced images that an error names
_MOST_LIST = 2**28  # bytes of a list of images

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

    def __init__(self, read: Callable[[str], bytes]):
        """Takes what reads a file of the source, or raises base.ReadError. Raises errors.UsageError for a bad list."""
        del read
        self.lists: set[str] = set()  # files of the layout's own, which are no images

    @abc.abstractmethod
    def place(self, path: str) -> base.Item:
        """The item of an image's path. Raises Rejected or Dropped, with the reason."""

    def missing(self) -> Iterable[tuple[str, str]]:
        """(path, reason) of images that a list names and that are not there; asked last."""
        return ()

    def pairs(self, items: Iterable[base.Item]) -> tuple[base.Pair, ...]:
        """The pairs that a list asks to compare. Raises errors.UsageError where it names what is not there."""
        del items
        return ()


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


def arrange(
    paths: Iterable[str],
    layout: str,
    camera_pattern: str,
    troubled: Iterable[tuple[str, str]] = (),
    read: Callable[[str, int], bytes] = lambda path, most: b"",
) -> base.Listing:
    """Gives every path its place.

    Args:
      paths: relative, with forward slashes, in any order; systems' own folders end in a slash.
      layout: one of LAYOUTS.
      camera_pattern: see `sources.open_source`.
      troubled: (path, reason) of what is not to be opened: no files, or links that lead away.
      read: the first so many bytes of a file: they tell an image whose name does not, and a layout's lists.

    Raises:
      errors.UsageError: `camera_pattern` found something that is no number, or a list of the layout is bad.
    """
    made = LAYOUTS[layout](lambda path: read(path, _MOST_LIST))
    items: list[base.Item] = []
    rejected: list[tuple[str, str]] = []
    dropped: list[tuple[str, str]] = []
    ignored: dict[str, str] = {}
    previous = None
    for path, trouble in sorted([*((path, "") for path in paths), *troubled]):
        system, reason = names.system_part(path)
        if system:
            ignored[system] = reason
        elif path.startswith("../"):
            rejected.append((path, "leads out of the data's root"))
        elif path in made.lists:
            continue
        elif path == previous:
            rejected.append((path, DUPLICATE))
        elif trouble:
            rejected.append((path, trouble))
        elif not names.is_image(path) and not pictures.kind_of(found := _head(read, path)):
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
    rejected = sorted([*rejected, *made.missing()])
    return base.Listing(tuple(items), tuple(rejected), tuple(dropped), tuple(ignored.items()), made.pairs(items))


def _head(read: Callable[[str, int], bytes], path: str) -> bytes:
    try:
        return read(path, pictures.HEAD)
    except base.ReadError:
        return b"?"  # no image, and nobody took it for one


def require(listing: base.Listing, where: str, layout: str, min_identities: int) -> base.Listing:
    """Returns `listing`; raises errors.UsageError where there is too little in it to work with.

    `layout` is one of LAYOUTS, or what to expect in words.
    """
    hint = LAYOUTS[layout].hint if layout in LAYOUTS else layout
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


class DukeMtmcReid(Market1501):
    """As Market-1501, with frames in the names."""

    _NAME, _EXAMPLE = re.compile(r"(\d+)_c(\d+)_f\d+"), "0005_c2_f0046985.jpg"


_MSMT_LISTS = {"train": "train", "val": "train", "query": "query", "gallery": "gallery"}


class Msmt17(Layout):
    """Lists say which images of the folders train and test are trained on, ask and answer; cameras are in the names."""

    _LISTS = {f"list_{name}.txt": split for name, split in _MSMT_LISTS.items()}
    _FOLDERS = {"train": "train", "mask_train_v2": "train", "test": "test", "mask_test_v2": "test"}
    _LINE = re.compile(r"(\d+)/\d+_\d+_(\d+)_\S+")
    hint = f"{', '.join(_LISTS)} (the second may lack) beside the folders train and test"

    def __init__(self, read: Callable[[str], bytes]):
        """Reads the lists."""
        super().__init__(read)
        self._items: dict[tuple[str, str], tuple[str, int, str, str]] = {}
        self._placed: set[tuple[str, str]] = set()
        for name, split in self._LISTS.items():
            lines = _lines(read, name, self.hint, optional=name == "list_val.txt")
            side = "train" if split == "train" else "test"
            for number, line in enumerate(lines, start=1):
                path, match = line.rpartition(" ")[0] or line, self._LINE.match(line)
                if not match:
                    expected = "0000/0000_000_01_0303morning_0008_0.jpg 0"
                    raise errors.UsageError(f"{name}, line {number}: {line!r} is not like {expected!r}")
                # A number stands for another person in train than in test.
                self._items[side, path] = f"{side}/{match.group(1)}", int(match.group(2)), split, name
        self.lists = set(self._LISTS)

    def place(self, path: str) -> base.Item:
        folder, _, rest = path.partition("/")
        key = self._FOLDERS.get(folder, ""), rest
        if key not in self._items:
            raise Dropped("in none of the lists")
        self._placed.add(key)
        identity, camera, split, _ = self._items[key]
        return base.Item(path, identity, camera, split)

    def missing(self) -> Iterable[tuple[str, str]]:
        for side, path in self._items.keys() - self._placed:
            yield f"{side}/{path}", f"named in {self._items[side, path][3]}, but not there"


class Lfw(Folder):
    """A folder a person, and pairs.txt, which says whom to compare."""

    hint = "one folder of images per person, with names like Ann_Lee/Ann_Lee_0001.jpg, and pairs.txt"

    def __init__(self, read: Callable[[str], bytes]):
        """Reads the pairs."""
        super().__init__(read)
        self._lines = _lines(read, "pairs.txt", self.hint)
        self.lists = {"pairs.txt"}

    def pairs(self, items: Iterable[base.Item]) -> tuple[base.Pair, ...]:
        paths = {names.spelled(item.path.rpartition("/")[2].rpartition(".")[0]): item.path for item in items}
        begin, size = 0, len(self._lines)
        head = self._lines[0].split() if self._lines else []
        if len(head) in (1, 2) and all(word.isdigit() for word in head):
            begin, size = 1, 2 * int(head[-1])  # folds, and pairs of each kind in one
        found = []
        for number, line in enumerate(self._lines[begin:], start=begin + 1):
            words = line.split("\t") if "\t" in line else line.split()
            if len(words) == 3:
                words = [words[0], words[1], words[0], words[2]]
            if len(words) != 4 or not (words[1].isdigit() and words[3].isdigit()):
                expected = "'Ann_Lee 1 4' or 'A_B 1 C_D 2'"
                raise errors.UsageError(f"pairs.txt, line {number}: {line!r} is not like {expected}")
            both = [names.spelled(f"{words[at]}_{int(words[at + 1]):04d}") for at in (0, 2)]
            if lacking := [name for name in both if name not in paths]:
                where = f"pairs.txt, line {number}"
                raise errors.UsageError(f"{where}: no image {lacking[0]}; put it in its person's folder")
            same = words[0] == words[2]
            found.append(base.Pair(paths[both[0]], paths[both[1]], same, (number - begin - 1) // max(1, size)))
        return tuple(found)


def _lines(read: Callable[[str], bytes], name: str, hint: str, optional: bool = False) -> list[str]:
    """The lines of a layout's list that say something. Raises errors.UsageError where there is none to read."""
    try:
        text = read(name).decode()
    except (base.ReadError, UnicodeDecodeError) as error:
        if optional:
            return []
        raise errors.UsageError(f"{name}: {error}; expected {hint}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


LAYOUTS: dict[str, Any] = {
    "folder": Folder, "market1501": Market1501, "dukemtmc": DukeMtmcReid, "msmt17": Msmt17, "lfw": Lfw,
}  # fmt: skip
