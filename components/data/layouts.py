"""What a path says: whose image it is, from which camera, in which split."""

import re

from longtail.components.data import base
from longtail.models import errors

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm", ".tif", ".tiff",
)  # fmt: skip

DUPLICATE = "another file has the same path"
_LARGEST_CAMERA = 2**63 - 1  # it is stored as int64

_MARKET_SPLITS = {
    "bounding_box_train": "train",
    "query": "query",
    "bounding_box_test": "gallery",
}
_MARKET_NAME = re.compile(
    r"^(-1|\d+)_c(\d+)"
)  # 0002_c1s1_000451_03.jpg; -1 is junk, 0000 a distractor


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


def is_hidden(path: str) -> bool:
    """Whether a path is a system's own: a part begins with a dot, or is __MACOSX."""
    return any(
        part == "__MACOSX" or (part.startswith(".") and part != "..") for part in path.split("/")
    )


def is_image(path: str) -> bool:
    """Whether a path names an image that is read: see IMAGE_SUFFIXES."""
    return path.lower().endswith(IMAGE_SUFFIXES)


def arrange(paths: list[str], layout: str, camera_pattern: str) -> base.Listing:
    """Gives every path its place. Paths are relative, with forward slashes, in any order.

    Raises:
      errors.UsageError: `camera_pattern` found something that is no number.
    """
    items: list[base.Item] = []
    rejected: list[tuple[str, str]] = []
    dropped: list[tuple[str, str]] = []
    other_files = 0
    previous = None
    for path in sorted(path for path in paths if not is_hidden(path)):
        if not is_image(path):
            other_files += 1
        elif path.startswith("../"):
            rejected.append((path, "leads out of the data's root"))
        elif path == previous:
            rejected.append((path, DUPLICATE))
        else:
            LAYOUTS[layout](path, items, rejected, dropped)
        previous = path
    if camera_pattern:
        items = [_with_camera(item, re.compile(camera_pattern)) for item in items]
    return base.Listing(tuple(items), tuple(rejected), tuple(dropped), other_files)


def require(listing: base.Listing, where: str, layout: str, min_identities: int) -> base.Listing:
    """Returns `listing`; raises errors.UsageError where there is too little in it to work with."""
    hint = _HINTS[layout]
    if not listing.items:
        found = f"{len(listing.rejected)} misplaced images" if listing.rejected else "no images"
        raise errors.UsageError(f"{where}: {found} and none to read; expected {hint}")
    identities = {item.identity for item in listing.items}
    if len(identities) < min_identities:
        raise errors.UsageError(
            f"{where}: one identity only ('{identities.pop()}'), at least {min_identities} are"
            f" needed; expected {hint}"
        )
    return listing


def _folder(path, items, rejected, dropped) -> None:
    del dropped
    identity, _, _ = path.rpartition("/")
    if identity:
        items.append(base.Item(path, identity))
    else:
        rejected.append((path, "lies at the top, in no identity's folder"))


def _market1501(path, items, rejected, dropped) -> None:
    folder, _, name = path.partition("/")
    if folder not in _MARKET_SPLITS:
        dropped.append((path, f"in none of {', '.join(_MARKET_SPLITS)}"))
        return
    match = _MARKET_NAME.match(name)
    if not match:
        rejected.append((path, "name is not like 0002_c1s1_000451_03.jpg"))
    elif match.group(1) == "-1":
        dropped.append((path, "junk by its name: identity -1"))
    else:
        items.append(base.Item(path, match.group(1), int(match.group(2)), _MARKET_SPLITS[folder]))


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


LAYOUTS = {"folder": _folder, "market1501": _market1501}
_HINTS = {
    "folder": "one folder of images per identity",
    "market1501": f"the folders {', '.join(_MARKET_SPLITS)}",
}
