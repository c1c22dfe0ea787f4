"""What a training leaves beside its model for the analyses of feature transfer: its networks, and what it knows."""

import dataclasses
import hashlib
import io
import json
import os
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import files
from longtail.models import head_tail
from longtail.models import heads
from longtail.models.feature_transfer import measured
from longtail.models.feature_transfer import statistics
from longtail.models.training import classifier as classifier_lib
from longtail.models.training import data as training_data

FOLDER = "feature_transfer"
_NETWORKS, _ARRAYS, _WORDS = "networks", "known.npz", "known.json"
# What is said where a network is asked for that a training does not have.
_LACKING = {
    "decode": "the run drew no images: train it with loss.reconstruction_weight above 0",
    "classify": "the run's head has no class weights; train it with one that has",
}


class _Networks(tf.Module):
    """Encoder, filter and, where there are such, classifier and decoder, each a function of a batch."""

    def __init__(self, classifier: classifier_lib.Classifier):
        super().__init__()
        self.parts = [classifier.embedder, *([classifier.decoder] if classifier.decoder else [])]
        encoder, rich = classifier.embedder.encoder, classifier.embedder.filter.input_shape
        self.encode = _function(encoder, encoder.input_shape)
        self.filter = _function(classifier.embedder.filter, rich)
        head = classifier.head
        if head.prototype_lengths() is not None:
            self.class_weights = list(head.class_weights().values())
            signature = [tf.TensorSpec(classifier.embedder.filter.output_shape, tf.float32)]
            nobody = tf.zeros([1], tf.int32)  # at inference a head does not look at labels
            self.classify = tf.function(lambda embedded: head((embedded, nobody)), input_signature=signature)
        if classifier.decoder:
            self.decode = _function(classifier.decoder, rich)


def _function(network: tf.keras.Model, shape: Sequence[int | None]) -> Callable:
    signature = [tf.TensorSpec([None, *shape[1:]], tf.float32)]
    return tf.function(lambda batch: network(batch, training=False), input_signature=signature)


@dataclasses.dataclass(frozen=True)
class Viewed:
    """What was left beside a model; C classes, rich features of length n, embeddings of length d.

    Attributes:
      networks: `encode` (images [B, h, w, c] -> g [B, n]), `filter` (g -> f [B, d]), `classify` (f -> logits [B, C])
        of a head with class weights and, with a decoder, `decode` (g -> images), of float32.
      centres: float32 [C, n]. basis: float32 [n, r], Q. variances: float32 [n], of all directions.
      embedded_centres: float32 [C, d], mean embedding of the images trained on.
      lengths: float32 [C], of the class weights; [0] where the head has none.
      counts: int64 [C], K_i.
      config: of the training, as JSON.
      identities: the classes' names.
      trained: sha256 of the images trained on.
    """

    networks: Any
    centres: np.ndarray
    basis: np.ndarray
    variances: np.ndarray
    embedded_centres: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray
    config: dict[str, Any]
    identities: list[str]
    trained: frozenset[str]

    @property
    def is_head(self) -> np.ndarray:
        """Which classes are head: bool [C]."""
        return head_tail.is_head(self.counts, self.config["leap"]["head_threshold"])

    def run(self, name: str, values: np.ndarray) -> np.ndarray:
        """A network's answers to many rows.

        Raises:
          errors.UsageError: it was trained without the network that is asked for.
        """
        if not hasattr(self.networks, name):
            raise errors.UsageError(_LACKING[name])
        function = getattr(self.networks, name)
        parts = (values[start : start + 512] for start in range(0, len(values), 512))
        return np.concatenate([function(tf.constant(part, tf.float32)).numpy() for part in parts])


def save(
    classifier: classifier_lib.Classifier,
    config: config_lib.TrainConfig,
    data: training_data.TrainingSet,
    preprocess: Callable,
    identities: Sequence[str],
    folder: str,
) -> None:
    """Writes to `folder` what `load` reads; `identities` are the classes' names."""
    networks = _Networks(classifier)
    threshold = config.leap.head_threshold
    found = measured.Measure(classifier.embedder.encoder, data, preprocess, config.transfer, threshold)()
    arrays = {
        "centres": found.centres,
        "basis": found.directions.basis,
        "variances": found.directions.variances,
        "embedded_centres": _embedded_centres(networks, found.rich, data),
        "lengths": _lengths(classifier.head),
    }
    buffer = io.BytesIO()
    np.savez(buffer, counts=data.counts, **{name: np.asarray(value, np.float32) for name, value in arrays.items()})
    words = {
        "config": dataclasses.asdict(config),
        "identities": list(identities),
        "trained": [hashlib.sha256(image).hexdigest() for image in data.encoded],
    }
    tf.saved_model.save(networks, os.path.join(folder, _NETWORKS))
    files.write(os.path.join(folder, _ARRAYS), buffer.getvalue())
    files.write_json(os.path.join(folder, _WORDS), words, indent=None)


def _lengths(head: heads.Head) -> np.ndarray:
    found = head.prototype_lengths()
    return np.zeros([0]) if found is None else found.numpy()


def _embedded_centres(networks: _Networks, rich: np.ndarray, data: training_data.TrainingSet) -> np.ndarray:
    parts = (tf.constant(rich[start : start + 512]) for start in range(0, len(rich), 512))
    embedded = np.concatenate([networks.filter(part).numpy() for part in parts])
    return statistics.centres(embedded, data.class_ids, len(data.counts))


def load(folder: str) -> Viewed:
    """Reads what `save` wrote.

    Raises:
      errors.UsageError: there is nothing of it, or it is of an earlier version.
    """
    words_file = os.path.join(folder, _WORDS)
    if not tf.io.gfile.exists(words_file):
        raise errors.UsageError(f"{folder}: no networks of a filtered embedder; run a recipe with model.filter true")
    with tf.io.gfile.GFile(words_file) as file:
        words = json.load(file)
    with tf.io.gfile.GFile(os.path.join(folder, _ARRAYS), "rb") as file:
        arrays = dict(np.load(io.BytesIO(file.read())))
    if "lengths" not in arrays:
        raise errors.UsageError(f"{folder}: of an earlier version; run the recipe again with another --root")
    networks = tf.saved_model.load(os.path.join(folder, _NETWORKS))
    return Viewed(networks, **arrays, **{**words, "trained": frozenset(words["trained"])})
