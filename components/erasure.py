"""Takes a withdrawn identity out of what the registry keeps of spans: their samples, tables and statistics."""

import os

import tensorflow as tf
from tensorflow_metadata.proto.v0 import statistics_pb2

from longtail.components import registry as registry_lib
from longtail.components.data import features
from longtail.components.data import samples
from longtail.models import files


def erase(registry: str, identity: str) -> None:
    """Rewrites all that is kept of spans, accepted and refused ones, without an identity; once more is harmless.

    The name is needed, since tables hold but a hash of it: later nobody could do it.
    """
    for folder in _kept_folders(registry):
        samples.remove(folder, identity)
        for path in tf.io.gfile.glob(os.path.join(folder, "Split-*", registry_lib.STATISTICS_FILE)):
            _forget(path, identity)


def _kept_folders(registry: str) -> list[str]:
    found = tf.io.gfile.glob(os.path.join(registry, "drift", "span-*", "*", samples.SAMPLE_FILE))
    return sorted(os.path.dirname(path) for path in found)


def _forget(path: str, identity: str) -> None:
    """Takes a name out of the most frequent ones and of the histogram of ranks, where TFDV has it."""
    with tf.io.gfile.GFile(path, "rb") as file:
        found = statistics_pb2.DatasetFeatureStatisticsList.FromString(file.read())
    for feature in (one for dataset in found.datasets for one in dataset.features):
        if list(feature.path.step) == [features.IDENTITY]:
            words = feature.string_stats
            top = [one for one in words.top_values if one.value != identity]
            buckets = [one for one in words.rank_histogram.buckets if one.label != identity]
            del words.top_values[:], words.rank_histogram.buckets[:]
            words.top_values.extend(top)
            words.rank_histogram.buckets.extend(buckets)
    files.write(path, found.SerializeToString())
