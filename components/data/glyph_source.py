"""The built-in glyphs as a source, and as a folder anyone can look into."""

import hashlib
import os
import shutil

from longtail.components.data import base
from longtail.components.data import glyphs
from longtail.components.data import layouts
from longtail.models import errors


class GlyphSource(base.Source):
    """Glyphs drawn when they are read. Opening takes about 1.5 s once a process: see the fonts."""

    def __init__(self, uri: str, layout: str, camera_pattern: str, span: int):
        """See `sources.open_source`."""
        if layout != "folder":
            raise errors.UsageError(f"{uri}: glyphs have layout 'folder', not '{layout}'")
        self._glyphs = glyphs.parse(uri)
        self._camera_pattern = camera_pattern
        self._span = span

    def listing(self, min_identities: int = 2) -> base.Listing:
        paths = [
            path_of(identity, index, self._glyphs.cameras)
            for identity, images in glyphs.identities(self._glyphs)
            for index in range(images)
        ]
        listing = layouts.arrange(paths, "folder", self._camera_pattern)
        return layouts.require(listing, self._glyphs.uri, "folder", min_identities)

    def read(self, item: base.Item, max_bytes: int | None = None) -> bytes:
        index = int(os.path.basename(item.path)[:4])
        png = glyphs.draw(self._glyphs, self._span, item.identity, index)
        if max_bytes is not None and len(png) > max_bytes:
            raise base.ReadError(f"{len(png)} bytes, more than {max_bytes}", base.TOO_LARGE)
        return png

    def fingerprint(self) -> str:
        text = f"{self._glyphs.uri} span={self._span} version={glyphs.VERSION}"
        return hashlib.sha256(text.encode()).hexdigest()


def path_of(identity: str, index: int, cameras: int = 1) -> str:
    """Where an image lies, in source and folder alike: `U+0041/0003.png`, of several cameras `U+0041/0003_c3.png`."""
    return f"{identity}/{index:04d}{f'_c{index % cameras}' if cameras > 1 else ''}.png"


def write_folder(glyph_set: glyphs.GlyphSet, span: int, folder: str) -> dict[str, int]:
    """Writes the images a `glyphs:` source would give, as a local folder that appears complete.

    Args:
      glyph_set: what to draw.
      span: number of the span.
      folder: its path; missing or empty.

    Returns:
      Counts: `identities`, `images`, `head_images`, `tail_images` (all head's, all tail's).

    Raises:
      errors.UsageError: bad parameters, or the folder has something in it or cannot be written.
    """
    listed = glyphs.identities(glyphs.checked(glyph_set))
    folder = os.path.abspath(folder)
    partial = f"{folder}.partial-{os.getpid()}"
    try:
        if os.path.lexists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
            raise errors.UsageError(f"{folder}: not an empty folder; name another or remove it")
        os.makedirs(partial)
        for identity, images in listed:
            os.mkdir(os.path.join(partial, identity))
            for index in range(images):
                with open(os.path.join(partial, path_of(identity, index, glyph_set.cameras)), "wb") as file:
                    file.write(glyphs.draw(glyph_set, span, identity, index))
        os.rename(partial, folder)
    except OSError as error:
        raise errors.UsageError(f"{folder}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    total = sum(images for _, images in listed)
    head = sum(images for _, images in listed[: glyph_set.head])
    return {
        "identities": len(listed),
        "images": total,
        "head_images": head,
        "tail_images": total - head,
    }
