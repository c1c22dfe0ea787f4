"""GalleryBuilder's work: embed through Beam, order by path, write the index, rename into place."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import faiss
import numpy as np
import tensorflow as tf
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import io_utils

from longtail.components import config
from longtail.components import ledger
from longtail.components import runtime
from longtail.components.data import features
from longtail.components.data import sources
from longtail.components.gallery_builder import transforms
from longtail.components.span_window import windows
from longtail.models import errors
from longtail.models import pictures
from longtail.models.export import signatures

WINDOW_KEY = "window"
PUSHED_MODEL_KEY = "pushed_model"
GALLERY_KEY = "gallery"
DESTINATION_KEY = "destination"
MODEL_NAME_KEY = "model_name"
WHOSE_KEY = "whose"
LISTING_KEY = "listing"

BUILT_PROPERTY = "built"  # of the gallery: 0 where no model was pushed
DESTINATION_PROPERTY = "destination"  # of the gallery: the version folder it was written to

# Marks that Pusher leaves on a pushed model.
_PUSHED_PROPERTY = "pushed"
_PUSHED_VERSION_PROPERTY = "pushed_version"

log = logging.getLogger("longtail")


class Executor(base_beam_executor.BaseBeamExecutor):
    """Builds the gallery of a pushed model."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """See `component.GalleryBuilder`.

        Raises:
          errors.UsageError: it is to be the gallery of a folder that is not there, or has no image.
          errors.WorkError: there are no gallery rows, none can be embedded, or the model cannot be loaded or gives
            values that are not finite.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        gallery = artifact_utils.get_single_instance(output_dict[GALLERY_KEY])
        pushed = artifact_utils.get_single_instance(input_dict[PUSHED_MODEL_KEY])
        if not pushed.get_int_custom_property(_PUSHED_PROPERTY):
            gallery.set_int_custom_property(BUILT_PROPERTY, 0)
            log.info("no gallery: no model was pushed")
            return
        version = int(pushed.get_string_custom_property(_PUSHED_VERSION_PROPERTY))
        window = windows.read(artifact_utils.get_single_uri(input_dict[WINDOW_KEY]))
        whose = exec_properties[WHOSE_KEY]
        read = _Folder(whose, window.withdrawals) if whose not in config.GALLERIES else _Window(window, whose)
        vectors, items, refused = self._embed(read, pushed.uri, gallery.uri)
        card = {
            "model_name": exec_properties[MODEL_NAME_KEY],
            "model_version": version,
            "of": whose if whose in config.GALLERIES else signatures.GALLERY_OF_FOLDER,
            "dimension": vectors.shape[1],
            "count": len(items),
            "undecodable": refused,
            "thresholds": _thresholds(pushed.uri),
        }
        _write(gallery.uri, vectors, items, card)
        base = runtime.folder(exec_properties[DESTINATION_KEY], exec_properties[MODEL_NAME_KEY])
        destination = os.path.join(base, str(version))
        _appear(gallery.uri, destination)
        gallery.set_int_custom_property(BUILT_PROPERTY, 1)
        gallery.set_string_custom_property(DESTINATION_PROPERTY, destination)
        log.info("gallery of %d images at %s", len(items), destination)

    def _embed(self, read: beam.PTransform, model_uri: str, uri: str) -> tuple[np.ndarray, list[dict], int]:
        """Embeds the gallery rows, (line of `items.jsonl`, encoded image) each, that `read` gives.

        Returns:
          vectors float32 [N, d] l2-normalised and their items, ordered by path; how many images
          were left out because the model refused them.
        """
        # Workers may run anywhere, so rows pass through the artifact's store, not a local folder.
        scratch = os.path.join(uri, ".embedded")
        try:
            with self._make_beam_pipeline() as pipeline:
                _ = (
                    pipeline
                    | "Read" >> read
                    | "Embed" >> transforms.Embed(model_uri)
                    | "Pack" >> beam.Map(_pack)
                    | "Write" >> beam.io.WriteToTFRecord(os.path.join(scratch, "rows"))
                )
            rows = sorted(
                _embedded_rows(scratch), key=lambda row: (row[0]["path"], row[0]["sha256"])
            )
        finally:
            io_utils.delete_dir(scratch)
        first = {_content(item): row for row, (item, _, _) in reversed([*enumerate(rows)])}
        rows = [rows[row] for row in sorted(first.values())]  # copies of a file are one image
        good = [(item, vector) for item, vector, status in rows if status == signatures.STATUS_OK]
        if not good:
            raise errors.WorkError(
                f"no gallery: {len(rows)} gallery images, and none was embedded; an identity needs an image that is no "
                "query and that the model can decode"
            )
        items, vectors = zip(*good, strict=True)
        vectors = np.stack(vectors)
        faiss.normalize_L2(vectors)
        return vectors, list(items), len(rows) - len(good)


def _content(item: dict) -> tuple[str, str]:
    """What copies of a file under one identity have in common; a file that could not be read has no digest."""
    return item["identity"], item["sha256"] or item["path"]


def _thresholds(model_uri: str) -> list[dict[str, Any]]:
    """Those of the model that was pushed; none where it was not calibrated."""
    path = os.path.join(model_uri, signatures.THRESHOLDS_FILE)
    return json.loads(io_utils.read_bytes_file(path))["thresholds"] if fileio.exists(path) else []


class _Window(beam.PTransform):
    """Images of a window's spans that may be found: of those held out or, for `config.EVERYBODY`, of all."""

    def __init__(self, window: windows.Window, whose: str):
        super().__init__()
        self._window = window
        everybody = (features.EVAL_SPLIT, features.TRAIN_SPLIT)
        self._splits = everybody if whose == config.EVERYBODY else (features.EVAL_SPLIT,)

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        read = [
            pipeline | f"Read{split}{one.span}" >> beam.io.ReadFromTFRecord(one.pattern(split))
            for one in self._window.spans
            for split in self._splits
        ]
        return (
            read
            | beam.Flatten()
            | "Parse" >> beam.Map(tf.train.Example.FromString)
            | "GalleryOnly" >> beam.Filter(_is_gallery, self._window.withdrawals)
            | "ItemAndImage" >> beam.Map(_item_and_image)
        )


class _Folder(beam.PTransform):
    """Images of a folder or an archive, a folder an identity, but for those of withdrawn identities."""

    def __init__(self, uri: str, withdrawn: ledger.Withdrawals):
        super().__init__()
        self._source = sources.open_source(uri)
        self._items = [one for one in self._source.listing(min_identities=1).items if one.identity not in withdrawn]

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | "Listed" >> beam.Create(self._items)
            | "Spread" >> beam.Reshuffle()
            | "ItemAndImage" >> beam.Map(_read, self._source)
        )


def _read(item: sources.Item, source: sources.Source) -> tuple[str, bytes]:
    """Likewise from a file; where that is no usable picture the image is empty, which no model takes."""
    encoded, digest = b"", ""
    try:
        file = source.read(item)
        digest = hashlib.sha256(file).hexdigest()
        encoded = pictures.read(file).encoded
    except (sources.ReadError, pictures.BadImage) as error:
        log.warning("left out of the gallery: %s: %s", item.path, error)
    line = {"identity": item.identity, "path": item.path, "sha256": digest, "camera": item.camera}
    return json.dumps(line), encoded


def _is_gallery(row: tf.train.Example, withdrawn: ledger.Withdrawals) -> bool:
    """Whether an image may be found: no query, and nobody who is withdrawn."""
    feature = row.features.feature
    is_marked = feature[features.SPLIT].bytes_list.value[0] != features.QUERY
    return is_marked and feature[features.IDENTITY].bytes_list.value[0].decode() not in withdrawn


def _item_and_image(row: tf.train.Example) -> tuple[str, bytes]:
    """The item's line of `items.jsonl`, and the encoded image."""
    feature = row.features.feature
    item = {
        "identity": feature[features.IDENTITY].bytes_list.value[0].decode(),
        "path": feature[features.PATH].bytes_list.value[0].decode(),
        "sha256": feature[features.SHA256].bytes_list.value[0].decode(),
        "camera": feature[features.CAMERA].int64_list.value[0],
    }
    return json.dumps(item), feature[features.ENCODED].bytes_list.value[0]


def _pack(embedded: tuple[str, np.ndarray, int]) -> bytes:
    item, vector, status = embedded
    record = np.int32(status).tobytes() + np.int32(len(vector)).tobytes()
    return record + np.asarray(vector, "<f4").tobytes() + item.encode()


def _unpack(record: bytes) -> tuple[dict, np.ndarray, int]:
    status, dimension = np.frombuffer(record, np.int32, count=2).tolist()
    vector = np.frombuffer(record, "<f4", count=dimension, offset=8)
    return json.loads(record[8 + 4 * dimension :]), vector, status


def _embedded_rows(folder: str) -> Iterator[tuple[dict, np.ndarray, int]]:
    files = sorted(fileio.glob(os.path.join(folder, "rows*")))
    return map(_unpack, tf.data.TFRecordDataset(files).as_numpy_iterator())


def _write(folder: str, vectors: np.ndarray, items: list[dict], card: dict) -> None:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    fileio.makedirs(folder)
    # Serialised here and written by TFX, since FAISS knows local files alone.
    io_utils.write_bytes_file(
        os.path.join(folder, signatures.GALLERY_INDEX), faiss.serialize_index(index).tobytes()
    )
    lines = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    io_utils.write_string_file(os.path.join(folder, signatures.GALLERY_ITEMS), lines)
    io_utils.write_string_file(os.path.join(folder, signatures.GALLERY_CARD), json.dumps(card))


def _appear(folder: str, destination: str) -> None:
    """Copies the gallery beside its destination, then renames it into place."""
    base, version = os.path.split(destination)
    unfinished = os.path.join(base, f".building-{version}")
    try:
        io_utils.delete_dir(unfinished)
        io_utils.copy_dir(folder, unfinished)
        # A version folder there already is of an earlier run that ended before it was recorded.
        io_utils.delete_dir(destination)
        fileio.rename(unfinished, destination)
    finally:
        io_utils.delete_dir(unfinished)
