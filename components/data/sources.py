"""One way to list and open images, whatever they are in: a folder, an archive, the built-in glyphs.

Example: `source = sources.open_source("glyphs:identities=300", span=1)`, then
`[source.read(item) for item in source.items()]`.
"""

import os
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

TFRECORD = "tfrecord:"  # how the uri of TFRecord files begins

_SPAN = re.compile(r"\{SPAN(?::([^{}]*))?\}")


def open_source(
    uri: str, layout: str = "folder", camera_pattern: str = "", span: int = 0
) -> base.Source:
    """Opens a source; nothing is listed yet.

    Args:
      uri: a folder, .zip or .tar, a manifest (.csv or .parquet), InsightFace's .rec (local, or whatever tf.io.gfile
        reads), `tfrecord:FILES,image=KEY,label=KEY`, or `glyphs:head=60,...`;
        `{SPAN}` in it, or `{SPAN:04d}`, stands for the span's number.
      layout: how paths tell identities: one of `layouts.LAYOUTS`.
      camera_pattern: regular expression with one group of digits, searched in the file name;
        "" for none.
      span: number of this span of the data.

    Raises:
      errors.UsageError: no such folder or archive, unknown layout, bad pattern or parameters.
    """
    layouts.check(layout, camera_pattern)
    uri = resolve(uri, span)
    if uri.startswith(glyphs.SCHEME):
        return glyph_source.GlyphSource(uri, layout, camera_pattern, span)
    from longtail.components.data import manifests
    from longtail.components.data import record_sources

    told_by_itself = {".rec": record_sources.RecSource, **dict.fromkeys(manifests.SUFFIXES, manifests.ManifestSource)}
    kind = next((kind for suffix, kind in told_by_itself.items() if uri.lower().endswith(suffix)), None)
    if uri.startswith(TFRECORD):
        kind = record_sources.TfRecordSource
    if kind is None:
        return _open_files(uri.rstrip("/") or "/", layout, camera_pattern)
    if layout != "folder" or camera_pattern:
        raise errors.UsageError(f"{uri}: says itself whose images they are; leave layout and camera_pattern out")
    if kind is not record_sources.TfRecordSource and not _is_there(uri):
        raise errors.UsageError(f"{uri}: no such file; check the path of the data")
    return kind(uri)


def _open_files(uri: str, layout: str, camera_pattern: str) -> base.Source:
    # Here, since TensorFlow takes seconds to import and glyphs do not need it.
    import tensorflow as tf

    from longtail.components.data import archives
    from longtail.components.data import folders

    is_there = _is_there(uri)
    if tf.io.gfile.isdir(uri):
        return (folders.RemoteFolder if "://" in uri else folders.LocalFolder)(uri, layout, camera_pattern)
    if not is_there:
        raise errors.UsageError(f"{uri}: no such folder, .zip or .tar; check the path of the data")
    if uri.lower().endswith(".zip"):
        return archives.ZipSource(uri, layout, camera_pattern)
    if uri.lower().endswith(".tar"):
        return archives.TarSource(uri, layout, camera_pattern)
    raise errors.UsageError(f"{uri}: neither a folder nor a .zip or .tar of one, nor a .csv, .parquet or .rec")


def _is_there(uri: str) -> bool:
    import tensorflow as tf

    try:
        return tf.io.gfile.exists(uri)
    except tf.errors.UnimplementedError as error:  # a scheme TensorFlow has no file system for
        raise errors.UsageError(f"{uri}: {error.message}") from error


def fingerprint(uri: str, layout: str = "folder", span: int = 0) -> str:
    """Hex digest for cache keys: changes when a file is added, removed or rewritten.

    No image is read: a folder costs one stat a file, a .zip its central directory, glyphs nothing.

    Raises:
      errors.UsageError: as `open_source`.
    """
    return open_source(uri, layout, span=span).fingerprint()


def absolute(uri: str) -> str:
    """A source's uri that means the same wherever it is opened from."""
    if "://" in uri or uri.startswith(glyphs.SCHEME):
        return uri
    scheme = TFRECORD if uri.startswith(TFRECORD) else ""
    path, comma, features = uri.removeprefix(scheme).partition(",") if scheme else (uri, "", "")
    return f"{scheme}{os.path.abspath(path)}{comma}{features}"


def resolve(uri: str, span: int) -> str:
    """Puts the span's number where `{SPAN}` or `{SPAN:04d}` stands.

    Raises:
      errors.UsageError: a format that numbers do not have.
    """
    try:
        return _SPAN.sub(lambda match: format(span, match.group(1) or ""), uri)
    except ValueError as error:
        raise errors.UsageError(f"{uri}: {error}; write {{SPAN}} or {{SPAN:04d}}") from None
