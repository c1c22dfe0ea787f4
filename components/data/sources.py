"""One way to list and open images, whatever they are in: a folder, a .zip, the built-in glyphs.

Example: `source = sources.open_source("glyphs:identities=300", span=1)`, then
`[source.read(item) for item in source.items()]`.
"""

import re

from longtail.components.data import base
from longtail.components.data import glyph_source
from longtail.components.data import glyphs
from longtail.components.data import layouts
from longtail.models import errors

Item = base.Item
Listing = base.Listing
ReadError = base.ReadError
Source = base.Source

_SPAN = re.compile(r"\{SPAN(?::([^{}]*))?\}")


def open_source(
    uri: str, layout: str = "folder", camera_pattern: str = "", span: int = 0
) -> base.Source:
    """Opens a source; nothing is listed yet.

    Args:
      uri: a folder or .zip (local, or whatever tf.io.gfile reads), or `glyphs:head=60,...`;
        `{SPAN}` in it, or `{SPAN:04d}`, stands for the span's number.
      layout: how paths tell identities: one of `layouts.LAYOUTS`.
      camera_pattern: regular expression with one group of digits, searched in the file name;
        "" for none.
      span: number of this span of the data.

    Raises:
      errors.UsageError: no such folder or .zip, unknown layout, bad pattern or parameters.
    """
    layouts.check(layout, camera_pattern)
    uri = resolve(uri, span)
    if uri.startswith(glyphs.SCHEME):
        return glyph_source.GlyphSource(uri, layout, camera_pattern, span)
    # Here, since TensorFlow takes seconds to import and glyphs do not need it.
    from longtail.components.data import file_sources

    return file_sources.open_files(uri, layout, camera_pattern)


def fingerprint(uri: str, layout: str = "folder", span: int = 0) -> str:
    """Hex digest for cache keys: changes when a file is added, removed or rewritten.

    No image is read: a folder costs one stat a file, a .zip its central directory, glyphs nothing.

    Raises:
      errors.UsageError: as `open_source`.
    """
    return open_source(uri, layout, span=span).fingerprint()


def resolve(uri: str, span: int) -> str:
    """Puts the span's number where `{SPAN}` or `{SPAN:04d}` stands.

    Raises:
      errors.UsageError: a format that numbers do not have.
    """
    try:
        return _SPAN.sub(lambda match: format(span, match.group(1) or ""), uri)
    except ValueError as error:
        raise errors.UsageError(f"{uri}: {error}; write {{SPAN}} or {{SPAN:04d}}") from None
