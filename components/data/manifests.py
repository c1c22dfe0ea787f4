"""Images that a table names: CSV or Parquet with the columns path and label, and camera and split where known."""

import csv
import hashlib
import io
import os
import posixpath
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from longtail.components.data import base
from longtail.components.data import file_sources
from longtail.components.data import layouts
from longtail.components.data import names
from longtail.models import errors

SUFFIXES = (".csv", ".parquet")
_NEEDED, _KNOWN = ("path", "label"), ("path", "label", "camera", "split")
_SPLITS = ("train", "query", "gallery")


class ManifestSource(base.Source):
    """A table of images, their paths relative to its own folder. Costs a read of the table a listing."""

    def __init__(self, uri: str):
        """Takes the table's path."""
        self._uri = uri
        self._folder = posixpath.dirname(uri) or "."

    def listing(self, min_identities: int = 2) -> base.Listing:
        items: list[base.Item] = []
        rejected: list[tuple[str, str]] = []
        paths: set[str] = set()
        for number, row in self._rows():
            item = self._item(number, row)
            if posixpath.normpath(item.path).startswith(("../", "/")):
                rejected.append((item.path, "leads out of the data's root"))
            elif item.path in paths:
                rejected.append((item.path, layouts.DUPLICATE))
            else:
                items.append(item)
            paths.add(item.path)
        listing = base.Listing(tuple(sorted(items, key=lambda item: item.path)), tuple(sorted(rejected)))
        return layouts.require(listing, self._uri, "a row an image: path,label[,camera][,split]", min_identities)

    def read(self, item: base.Item, max_bytes: int = base.MAX_BYTES) -> bytes:
        data = self._read(item.path, max_bytes + 1)
        if len(data) > max_bytes:
            raise base.ReadError(f"more than {max_bytes} bytes", base.TOO_LARGE)
        return data

    def _read(self, path: str, most: int) -> bytes:
        whole = posixpath.join(self._folder, path)
        if "://" in whole:
            return file_sources.read_remote(whole, most)
        root = os.path.realpath(self._folder)
        if os.path.commonpath([os.path.realpath(whole), root]) != root:
            raise base.ReadError("a link that leads out of the data's folder")
        return base.read_local(whole, most)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self._bytes())
        for _, row in self._rows():
            try:
                found = tf.io.gfile.stat(posixpath.join(self._folder, row["path"]))
            except (tf.errors.OpError, TypeError, KeyError):  # reading says so
                continue
            digest.update(repr((row["path"], found.length, found.mtime_nsec)).encode())
        return digest.hexdigest()

    def _bytes(self) -> bytes:
        try:
            with tf.io.gfile.GFile(self._uri, "rb") as file:
                return file.read()
        except tf.errors.OpError as error:
            raise errors.UsageError(f"{self._uri}: cannot be read: {error.message}") from error

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number of the row from 1, the row) of the table."""
        read = _csv if self._uri.lower().endswith(".csv") else _parquet
        columns, rows = read(self._bytes(), self._uri)
        if lacking := [name for name in _NEEDED if name not in columns]:
            raise errors.UsageError(
                f"{self._uri}: no column {' and '.join(lacking)} among {', '.join(columns) or 'none'}; expected "
                "path,label[,camera][,split]"
            )
        yield from enumerate(rows, start=1)

    def _item(self, number: int, row: dict[str, Any]) -> base.Item:
        path, label, camera, split = (row.get(name) for name in _KNOWN)
        where = f"{self._uri}, row {number}"
        if path in (None, "") or label in (None, ""):
            raise errors.UsageError(f"{where}: no path or no label; give both, or remove the row")
        if camera in (None, ""):
            camera = -1
        if not str(camera).lstrip("-").isdigit():
            raise errors.UsageError(f"{where}: camera {camera!r} is no whole number")
        if split not in (None, "", *_SPLITS):
            raise errors.UsageError(f"{where}: split {split!r}; valid are {', '.join(_SPLITS)}, or nothing")
        return base.Item(str(path), names.spelled(str(label)), int(camera), split or None)


def _csv(data: bytes, uri: str) -> tuple[list[str], Iterator[dict[str, Any]]]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        return list(reader.fieldnames or ()), reader
    except (UnicodeDecodeError, csv.Error) as error:
        raise errors.UsageError(f"{uri}: no CSV in UTF-8: {error}") from error


def _parquet(data: bytes, uri: str) -> tuple[list[str], Iterator[dict[str, Any]]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(pyarrow.BufferReader(data))
    except (pyarrow.ArrowException, OSError) as error:
        raise errors.UsageError(f"{uri}: no Parquet file: {str(error).splitlines()[0]}") from error
    columns = [name for name in table.schema_arrow.names if name in _KNOWN]
    batches = table.iter_batches(columns=columns)
    return columns, (row for batch in batches for row in batch.to_pylist())
