"""Images in files of records: TFRecord of tf.Example by a map of features, and InsightFace's .rec with its .idx.

An item's path says where its record lies, `file@begin+length`, so that it is read without reading the others.
"""

import abc
import hashlib
import posixpath
import struct
from collections.abc import Iterator

import tensorflow as tf

from longtail.components.data import base
from longtail.components.data import layouts
from longtail.components.data import names
from longtail.models import errors

_USAGE = "tfrecord:FILES,image=KEY,label=KEY[,camera=KEY][,split=KEY]"
_GZIP = b"\x1f\x8b"
_MOST_RECORD = 2**30  # a longer one is a damaged length


class _RecordSource(base.Source):
    """What files of records share."""

    uri: str

    @abc.abstractmethod
    def _files(self) -> list[str]:
        """The files, sorted."""

    @abc.abstractmethod
    def _items(self, file: str) -> Iterator[base.Item | tuple[str, str]]:
        """What a file holds: items, and (path, reason) of what is damaged."""

    @abc.abstractmethod
    def _image(self, record: bytes) -> bytes:
        """The image in a record."""

    def listing(self, min_identities: int = 2) -> base.Listing:
        found = [one for file in self._files() for one in self._items(file)]
        items = sorted((one for one in found if isinstance(one, base.Item)), key=lambda item: item.path)
        rejected = sorted(one for one in found if not isinstance(one, base.Item))
        return layouts.require(base.Listing(tuple(items), tuple(rejected)), self.uri, "labelled images", min_identities)

    def read(self, item: base.Item, max_bytes: int = base.MAX_BYTES) -> bytes:
        name, _, place = item.path.rpartition("@")
        begin, length = map(int, place.split("+"))
        if length > max_bytes + 2**16:
            raise base.ReadError(f"{length} bytes, more than {max_bytes}", base.TOO_LARGE)
        try:
            with tf.io.gfile.GFile(posixpath.join(posixpath.dirname(self._files()[0]), name), "rb") as file:
                file.seek(begin)
                image = self._image(file.read(length))
        except tf.errors.OpError as error:
            raise base.ReadError(f"cannot be read: {error.message}") from error
        if len(image) > max_bytes:
            raise base.ReadError(f"more than {max_bytes} bytes", base.TOO_LARGE)
        return image

    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.uri.encode())
        for file in self._files():
            found = tf.io.gfile.stat(file)
            digest.update(repr((file, found.length, found.mtime_nsec)).encode())
        return digest.hexdigest()


class TfRecordSource(_RecordSource):
    """tf.Examples whose features a map names: `tfrecord:FILES,image=KEY,label=KEY[,camera=KEY][,split=KEY]`.

    A listing reads all files, a record at a time.
    """

    def __init__(self, uri: str):
        """Takes the uri. Raises errors.UsageError where its map is none."""
        self.uri = uri
        self._pattern, *pairs = uri.partition(":")[2].split(",")
        self._map = dict(pair.partition("=")[::2] for pair in pairs)
        if not {"image", "label"} <= self._map.keys() <= {"image", "label", "camera", "split"}:
            raise errors.UsageError(f"{uri}: expected {_USAGE}")
        self._found: list[str] = []

    def _files(self) -> list[str]:
        if not self._found:
            self._found = sorted(tf.io.gfile.glob(self._pattern))
        if not self._found:
            raise errors.UsageError(f"{self.uri}: no such file; expected {_USAGE}")
        return self._found

    def _items(self, file: str) -> Iterator[base.Item | tuple[str, str]]:
        name = posixpath.basename(file)
        with tf.io.gfile.GFile(file, "rb") as opened:
            if opened.read(2) == _GZIP:
                raise errors.UsageError(f"{file}: compressed, so no record can be read by itself; write it without")
            opened.seek(0)
            begin = 0
            while head := opened.read(12):
                length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else _MOST_RECORD
                record = opened.read(length) if length < _MOST_RECORD else b""
                path = f"{name}@{begin + 12}+{length}"
                if len(record) != length or len(opened.read(4)) != 4:
                    yield path, f"cut short or damaged at byte {begin}; what follows in {name} is lost"
                    return
                yield self._item(path, record)
                begin += 16 + length

    def _item(self, path: str, record: bytes) -> base.Item | tuple[str, str]:
        try:
            found = tf.train.Example.FromString(record).features.feature
        except Exception as error:  # protobuf's DecodeError has no public place that all its releases share
            if type(error).__name__ != "DecodeError":
                raise
            return path, "no tf.Example"
        values = {}
        for name, key in self._map.items():
            feature = found.get(key)
            kind = feature.WhichOneof("kind") if feature is not None else None
            values[name] = next(iter(getattr(feature, kind).value), None) if kind else None
        if not isinstance(values["image"], bytes) or values["label"] is None:
            there = ", ".join(sorted(found)) or "none"
            raise errors.UsageError(
                f"{self.uri}: no bytes in feature {self._map['image']!r} or no value in {self._map['label']!r} of the "
                f"record {path}; its features are {there}"
            )
        label, camera, split = values["label"], values.get("camera"), values.get("split")
        text = label.decode(errors="replace") if isinstance(label, bytes) else f"{label:g}"
        split = split.decode() if isinstance(split, bytes) else None
        if split not in (None, "", "train", "query", "gallery"):
            raise errors.UsageError(f"{self.uri}: split {split!r} of {path}; valid are train, query and gallery")
        return base.Item(path, names.spelled(text), int(camera) if isinstance(camera, int) else -1, split or None)

    def _image(self, record: bytes) -> bytes:
        return tf.train.Example.FromString(record).features.feature[self._map["image"]].bytes_list.value[0]


_MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_HEADER = struct.Struct("<IfQQ")  # flag, label, two numbers of the record


class RecSource(_RecordSource):
    """InsightFace's train.rec beside its train.idx: faces with a number for each person."""

    def __init__(self, uri: str):
        """Takes the path of the .rec."""
        self.uri = uri

    def _files(self) -> list[str]:
        return [self.uri]

    def _items(self, file: str) -> Iterator[base.Item | tuple[str, str]]:
        name, size = posixpath.basename(file), tf.io.gfile.stat(file).length
        places = sorted(self._index().items())
        begins = sorted(begin for _, begin in places)
        ends = dict(zip(begins, [*begins[1:], size], strict=True))
        with tf.io.gfile.GFile(file, "rb") as opened:
            last = None
            for key, begin in places:
                path = f"{name}@{begin}+{ends[begin] - begin}"
                opened.seek(begin)
                try:
                    flag, label, values = _label(_parts(opened.read(8 + _HEADER.size + 8)))
                except ValueError as error:
                    yield path, f"no record of an .rec: {error}"
                    continue
                if key == 0 and flag:  # says at which record the persons' own begin, which are no faces
                    last = values[0]
                elif last is None or key < last:
                    yield base.Item(path, f"{values[0] if flag else label:g}")

    def _index(self) -> dict[int, int]:
        """Number of a record -> its first byte."""
        path = self.uri[: -len(".rec")] + ".idx"
        try:
            with tf.io.gfile.GFile(path) as file:
                rows = [line.split() for line in file if line.strip()]
            return {int(key): int(begin) for key, begin in rows}
        except tf.errors.OpError as error:
            raise errors.UsageError(f"{path}: the index of the .rec cannot be read: {error.message}") from error
        except ValueError as error:
            raise errors.UsageError(f"{path}: expected two whole numbers a line, record and byte: {error}") from error

    def _image(self, record: bytes) -> bytes:
        try:
            parts = _parts(record)
            return parts[_HEADER.size + 4 * _label(parts)[0] :]
        except ValueError as error:
            raise base.ReadError(f"no record of an .rec: {error}") from error


def _parts(data: bytes) -> bytes:
    """The content of a record, put together where it was written in parts: those are parted where the magic stood."""
    parts, begin = [], 0
    while len(data) >= begin + 8:
        magic, word = struct.unpack_from("<II", data, begin)
        if magic != _MAGIC:
            raise ValueError("it does not begin as one")
        length, kind = word & (2**29 - 1), word >> 29
        parts.append(data[begin + 8 : begin + 8 + length])
        if kind in (0, 3):
            break
        begin += 8 + -(-length // 4) * 4
    return _MAGIC_BYTES.join(parts)


def _label(content: bytes) -> tuple[int, float, tuple[float, ...]]:
    """(how many labels follow the header, the header's, those that follow, as far as they are in `content`)."""
    if len(content) < _HEADER.size:
        raise ValueError("it is cut short")
    flag, label, _, _ = _HEADER.unpack_from(content)
    there = min(flag, (len(content) - _HEADER.size) // 4)
    return flag, label, struct.unpack_from(f"<{there}f", content, _HEADER.size)
