"""Which held-out images a model is scored by: all of the new span's, and whole identities of each earlier one."""

import hashlib
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from tfx.dsl.io import fileio

from longtail.components.data import features
from longtail.components.data import identity_counts
from longtail.components.retrieval_evaluator import scoring
from longtail.components.span_window import windows
from longtail.models import errors

LEAST_IDENTITIES = 2  # of an earlier span, however many images they have


class HeldOut:
    """The held-out images of a window of spans, read anew each time and always in the same order."""

    def __init__(self, window: windows.Window, earlier_images: int):
        """Chooses them; of each span but the new one identities in an order by hash, up to `earlier_images`."""
        self._window = window
        self._chosen = {
            one.span: _choose(one, window, earlier_images) for one in window.spans if one.span != window.new
        }

    def records(self) -> Iterator[tuple[int, tf.train.Example]]:
        """Yields each image with its span; one record is held at a time."""
        for one in self._window.spans:
            chosen = self._chosen.get(one.span)
            for row in _records(sorted(os.fsdecode(path) for path in fileio.glob(one.pattern(features.EVAL_SPLIT)))):
                name = row.features.feature[features.IDENTITY].bytes_list.value[0].decode()
                if name not in self._window.withdrawals and (chosen is None or name in chosen):
                    yield one.span, row

    def images(self) -> Iterator[bytes]:
        """Yields what is in each file."""
        return (row.features.feature[features.ENCODED].bytes_list.value[0] for _, row in self.records())

    def rows(self) -> scoring.EvalRows:
        """What is known of each image.

        Raises:
          errors.WorkError: there is none.
        """
        columns = list(zip(*(_row(span, record) for span, record in self.records()), strict=True))
        if not columns:
            folders = ", ".join(one.examples for one in self._window.spans)
            raise errors.WorkError(f"the eval split is empty ({folders}): raise the share of identities held out")
        identity, digest, camera, split, span = columns
        return scoring.EvalRows(
            np.array(identity, "S"),
            np.array(digest, "S"),
            np.array(camera, np.int64),
            np.array(split, "S"),
            np.array(span, np.int64),
        )


def _choose(one: windows.Span, window: windows.Window, most: int) -> frozenset[str]:
    """Identities of an earlier span."""
    counts = identity_counts.read(one.examples)[features.EVAL_SPLIT]
    order = sorted(counts, key=lambda name: hashlib.sha256(name.encode()).digest())
    chosen: list[str] = []
    images = 0
    for name in (name for name in order if name not in window.withdrawals):
        if images + counts[name] > most and len(chosen) >= LEAST_IDENTITIES:
            break
        chosen.append(name)
        images += counts[name]
    return frozenset(chosen)


def _records(files: list[str]) -> Iterator[tf.train.Example]:
    for path in files:
        compression = "GZIP" if path.endswith(".gz") else ""
        try:
            for record in tf.data.TFRecordDataset(path, compression).as_numpy_iterator():
                yield tf.train.Example.FromString(record)
        except tf.errors.DataLossError as error:
            raise errors.WorkError(
                f"{path}: damaged or cut short; put it back, or run again with another --root"
            ) from error


def _row(span: int, record: tf.train.Example) -> tuple[bytes, bytes, int, bytes, int]:
    feature = record.features.feature
    return (
        feature[features.IDENTITY].bytes_list.value[0],
        feature[features.SHA256].bytes_list.value[0],
        feature[features.CAMERA].int64_list.value[0],
        feature[features.SPLIT].bytes_list.value[0],
        span,
    )
