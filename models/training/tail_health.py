"""How the tail of a training fares beside its head: angles, clouds and weights, read from what steps keep anyway."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.histogram import summary_v2 as histogram_summary
from tensorboard.plugins.scalar import summary_v2 as scalar_summary

from longtail.models import head_tail
from longtail.models import heads


def tail_health(head: heads.Head, counts: npt.ArrayLike, head_threshold: int) -> dict[str, Any]:
    """The state of head and tail, as means over their classes; what no class has is left out.

    Args:
      head: built, and trained as far as it is.
      counts: int [C], K_i: distinct images of each class.
      head_threshold: T; classes with K_i > T are head classes.

    Returns:
      {"head": {...}, "tail": {...}}, a group without classes left out. Each has "classes", their number;
      "weight_norm", unless the head has no weights; and, where there is a cloud, "angular_mean" (radians, of classes
      seen), "angular_variance" (rad^2, of classes with two angles), "classes_with_cloud" (share) and "cloud_width"
      (standard deviation of alpha, radians, of these). Where there is a cloud "samples_with_cloud" is the share of the
      last epoch's samples whose alpha was drawn from a width above 0. A head without a cloud keeps no angles.
    """
    return _described(head, _groups(head, counts, head_threshold))


def _groups(head, counts, head_threshold) -> dict[str, tuple[int, dict[str, np.ma.MaskedArray]]]:
    """How many classes a group has, and what each of them has, masked where it has none.

    O(C d) for the lengths of the weights, O(C) for all else.
    """
    is_head = head_tail.is_head(counts, head_threshold)
    values = {}
    lengths = head.prototype_lengths()
    if lengths is not None:
        values["weight_norm"] = np.ma.array(lengths.numpy())
    if head.cloud is not None:
        everyone = tf.range(len(is_head), dtype=tf.int64)
        for name, statistic in (("mean", head.cloud.memory.mean), ("variance", head.cloud.memory.variance)):
            value, known = statistic(everyone)
            values[f"angular_{name}"] = np.ma.array(value.numpy(), mask=~known.numpy())
        width = head.cloud.widths().numpy()
        values["cloud_width"] = np.ma.array(width, mask=width <= 0.0)
    rows = {"head": is_head, "tail": ~is_head}
    return {
        group: (int(its.sum()), {name: value[its] for name, value in values.items()})
        for group, its in rows.items()
        if its.any()
    }


def _described(head, groups) -> dict[str, Any]:
    found: dict[str, Any] = {group: _means(*its) for group, its in groups.items()}
    if head.cloud is not None:
        found["samples_with_cloud"] = float(head.cloud.clouded.result())
    return found


def _means(classes: int, values: dict[str, np.ma.MaskedArray]) -> dict[str, float]:
    found: dict[str, float] = {"classes": classes}
    if "cloud_width" in values:
        found["classes_with_cloud"] = values["cloud_width"].count() / classes
    known = {name: value.compressed() for name, value in values.items()}
    return found | {name: float(value.mean(dtype=np.float64)) for name, value in known.items() if value.size}


class TailHealth(tf.keras.callbacks.Callback):
    """Reads the health of head and tail at the end of each epoch, and shows it in TensorBoard.

    Head and tail write into folders of their own beside Keras' `train`, under the same tags, so that a chart has a
    curve of each: means as scalars `tail_health/<name>`, their classes as histograms `tail_health/<name>_by_class`.
    The share of samples with a cloud is a metric of the training: Keras writes it, as `epoch_samples_with_cloud`.

    Args:
      counts: int [C], K_i: distinct images of each class.
      head_threshold: T; classes with K_i > T are head classes.
      board: TensorBoard's folder, or None to write nothing.

    Attributes:
      latest: what `tail_health` answers of the last epoch; empty before one ended.
    """

    def __init__(self, counts: npt.ArrayLike, head_threshold: int, board: str | None = None):
        super().__init__()
        self.latest: dict[str, Any] = {}
        self._split = (counts, head_threshold)
        self._board = board or ""
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def on_epoch_end(self, epoch, logs=None):
        self.latest = {}
        if not np.isfinite(logs["loss"]):
            return  # a histogram of what is not finite has no buckets
        groups = _groups(self.model.head, *self._split)
        self.latest = _described(self.model.head, groups)
        if self._board:
            for group, (_, values) in groups.items():
                self._write(group, epoch, values)

    def _write(self, group, epoch, values):
        """All of a group in one record: `tf.summary`'s own calls, one a value, would take ten times as long."""
        if group not in self._writers:
            self._writers[group] = tf.summary.create_file_writer(os.path.join(self._board, group))
        record = summary_pb2.Summary()
        for name, value in self.latest[group].items():
            record.MergeFrom(scalar_summary.scalar_pb(f"tail_health/{name}", value))
        for name, value in values.items():
            if value.count():
                tag = f"tail_health/{name}_by_class"
                record.MergeFrom(histogram_summary.histogram_pb(tag, value.compressed()))
        with self._writers[group].as_default():
            tf.summary.experimental.write_raw_pb(record.SerializeToString(), step=epoch)

    def on_train_end(self, logs=None):
        for writer in self._writers.values():
            writer.close()
