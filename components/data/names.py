"""What a file's name says: whether a system made it, how a name is spelled, which names differ by letter case alone."""

import collections
import sys
import unicodedata
from collections.abc import Iterable

# Files so named are judged by their content and set aside with a reason where they are none.
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".bmp", ".dib", ".gif", ".webp", ".pgm", ".ppm", ".pnm", ".tif",
    ".tiff",
)  # fmt: skip

_THUMBNAILS, _BIN, _SNAPSHOTS = "a system's thumbnails", "a system's bin", "a system's snapshots"
# Folders that systems make, in lower case: Synology, QNAP, Windows, macOS, ext4, NetApp and tools of programmers.
_FOLDERS = {
    "@eadir": _THUMBNAILS, "#recycle": _BIN, "@recycle": _BIN, "recycled": _BIN, "recycler": _BIN,
    "$recycle.bin": _BIN, "#snapshot": _SNAPSHOTS, "@recently-snapshot": _SNAPSHOTS, "~snapshot": _SNAPSHOTS,
    "system volume information": "a system's own folder", "lost+found": "a system's own folder",
    "__macosx": "a system's own folder", "__pycache__": "a program's own folder", "@tmp": "a system's own folder",
    "@sharebin": _BIN, "network trash folder": _BIN, "temporary items": "a system's own folder",
}  # fmt: skip
_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}


def system_folder(name: str) -> str:
    """Why a folder of that name is no identity; "" where it may be one."""
    if name.startswith(".") and name not in (".", ".."):
        return "a hidden folder"
    return _FOLDERS.get(name.lower(), "")


def system_file(name: str) -> str:
    """Why a file of that name is no image; "" where it may be one."""
    if name.startswith("."):
        return "a hidden file"
    return "a system's own file" if name.lower() in _FILES else ""


def system_part(path: str) -> tuple[str, str]:
    """(path, reason) of what a system made and an image's path leads through or to; both empty where nothing."""
    parts = path.split("/")
    for count, folder in enumerate(parts[:-1], start=1):
        if reason := system_folder(folder):
            return "/".join(parts[:count]) + "/", reason
    reason = system_file(parts[-1])
    return (path, reason) if reason else ("", "")


def is_image(path: str) -> bool:
    """Whether a path ends as an image's does: see IMAGE_SUFFIXES."""
    return path.lower().endswith(IMAGE_SUFFIXES)


def spelled(name: str) -> str:
    """The one spelling of a name: in Unicode an accent may be a letter's part or a mark of its own (NFC, NFD).

    All images of an identity share the one text.
    """
    return sys.intern(unicodedata.normalize("NFC", name))


def same_but_for_case(identities: Iterable[str]) -> list[list[str]]:
    """Groups of identities whose names differ by letter case alone, sorted."""
    groups = collections.defaultdict(set)
    for identity in identities:
        groups[identity.casefold()].add(identity)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)
