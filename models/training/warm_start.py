"""A training that goes on from an exported model: what is left beside it for that, and what becomes of it.

`signatures.CLASSES_FILE` holds for each identity, under its name, the head's weights, the centre and the angles of
LEAP, what other layers keep for each class, and K_i; then what a head or a cloud keeps for all classes together, and
the decoder.
"""

import dataclasses
import logging
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models.export import starts
from longtail.models.leap import kept_angles
from longtail.models.training import classifier as classifier_lib
from longtail.models.training import data as training_data

log = logging.getLogger("longtail")

_BATCH = 512
# An angle of one training means the same in another that agrees with it on these.
_MEASURED_BY = ("centre_momentum", "angle_order", "statistics")
_ANGLES, _ANGLE_COUNTS, _CENTRES = "angles", "angle_counts", "centres"


class _Kept(NamedTuple):
    """A variable with numbers of each class, [C, ...]; of a head's weights [..., C k], a class's columns together."""

    variable: tf.Variable
    classes: int
    in_columns: bool = False

    def rows(self) -> np.ndarray:
        """[C, numbers of a class], a copy."""
        value = self.variable.numpy()
        return np.array((value.T if self.in_columns else value).reshape(self.classes, -1))

    def assign(self, rows: np.ndarray) -> None:
        """Takes over what is formed as `rows` answers it."""
        shape = tuple(self.variable.shape)
        self.variable.assign(rows.reshape(shape[::-1]).T if self.in_columns else rows.reshape(shape))


def _of_classes(classifier: classifier_lib.Classifier) -> dict[str, _Kept]:
    head, classes = classifier.head, classifier.head.classes
    found = {name: _Kept(weight, classes, in_columns=True) for name, weight in head.class_weights().items()}
    if classifier.centre_loss is not None:
        found["centre_loss"] = _Kept(classifier.centre_loss.centres, classes)
    if head.cloud is not None:
        found[_CENTRES] = _Kept(head.cloud.memory.centres, classes)
        scatter = head.cloud.scatter
        if scatter is not None:
            found |= {"scatter_centres": _Kept(scatter.centres, classes), "scatter_seen": _Kept(scatter.seen, classes)}
    return found


def _shared(classifier: classifier_lib.Classifier) -> dict[str, tf.Variable]:
    """What is kept for all classes together: a head's running means, the scatter of a directional cloud, a decoder."""
    head, cloud = classifier.head, classifier.head.cloud
    others = [*head.class_weights().values(), *(cloud.weights if cloud is not None else ())]
    own = [weight for weight in head.weights if not any(weight is other for other in others)]
    found = {weight.name.rpartition("/")[2].partition(":")[0]: weight for weight in own}
    if cloud is not None and cloud.scatter is not None:
        found |= {name: getattr(cloud.scatter, name) for name in ("sigma", "batches")}
    decoder = classifier.decoder.weights if classifier.decoder is not None else ()
    return found | {f"decoder_{number}": weight for number, weight in enumerate(decoder)}


def pack(classifier: classifier_lib.Classifier, counts: np.ndarray, identities: Sequence[str]) -> bytes:
    """The content of `signatures.CLASSES_FILE` for a trained classifier.

    Args:
      classifier: trained.
      counts: int [C], K_i: distinct images of each class.
      identities: the classes' names, C of them.
    """
    arrays = {name: kept.rows() for name, kept in _of_classes(classifier).items()}
    arrays |= {name: variable.numpy() for name, variable in _shared(classifier).items()}
    if classifier.head.cloud is not None:
        kept = kept_angles.take(classifier.head.cloud.memory)
        arrays |= {_ANGLES: kept.angles, _ANGLE_COUNTS: kept.counts}
    return starts.pack(identities, {"counts": counts, **arrays})


class WarmStart:
    """A start, and what of it goes over to a training of some identities; names decide, whatever the class ids.

    Args:
      config: of the training.
      start: that it goes on from.
      identities: the classes' names; none where they are not known, and then the embedder alone is carried.

    Attributes:
      config: of the training as it then is: `training.warm_epochs` epochs, where that is not 0; and where angles are
        carried the cloud begins at once.
      start: the start.
    """

    def __init__(self, config: config_lib.TrainConfig, start: starts.Start, identities: Sequence[str] = ()):
        rows = {name: row for row, name in enumerate(start.identities)}
        self.start = start
        self._source = np.array([rows.get(name, -1) for name in identities], np.int64)
        theirs = start.config.get("leap", {})
        same = all(theirs.get(key) == getattr(config.leap, key) for key in _MEASURED_BY)
        has_angles = config.leap.variant != "none" and _ANGLES in start.arrays and bool((self._source >= 0).any())
        self._has_angles = has_angles and same
        if has_angles and not same:
            log.info("angles of %s are not carried: leap.%s differ", start.folder, " or leap.".join(_MEASURED_BY))
        epochs = config.training.warm_epochs or config.training.epochs
        leap = dataclasses.replace(config.leap, start_epoch=0) if self._has_angles else config.leap
        self.config = dataclasses.replace(
            config, leap=leap, training=dataclasses.replace(config.training, epochs=epochs)
        )

    def told(self) -> dict[str, Any]:
        """What a model's card says of it: from where, and how many identities were known there and were not."""
        known = int((self._source >= 0).sum())
        return {
            "from": self.config.training.start_from,
            "digest": self.start.digest,
            "known_identities": known,
            "new_identities": len(self._source) - known,
            "epochs": self.config.training.epochs,
        }

    def carry(
        self, classifier: classifier_lib.Classifier, data: training_data.TrainingSet, preprocess: Callable
    ) -> None:
        """Carries everything over to a classifier that was just built.

        The prototype of an identity that the start does not know is the mean of its images' unit embeddings, at the
        median length of the carried ones; where none is carried, of those that it would have begun with. Of several
        prototypes of a class it is the first, and the others stay as they were drawn. Its bias is the carried ones'
        median. What else is kept of it begins empty.

        Args:
          classifier: built, not trained.
          data: the images it will be trained on.
          preprocess: string [N] -> (float32 [N, h, w, c], int32 [N] status).

        Raises:
          errors.WorkError: a file of the start is damaged, or an image unreadable.

        Reference: Qi et al., Low-Shot Learning With Imprinted Weights, CVPR 2018.
        """
        starts.load_weights(classifier.embedder, self.start.folder)
        if classifier.gallery is not None:
            classifier.gallery.set_weights(classifier.embedder.get_weights())
        arrays, classes = self.start.arrays, len(data.counts)
        source = self._source if len(self._source) else np.full(classes, -1)
        for name, variable in _shared(classifier).items():
            if name in arrays and arrays[name].shape == tuple(variable.shape):
                variable.assign(arrays[name])
        if classifier.head.cloud is not None and classifier.head.cloud.scatter is not None:
            classifier.head.cloud.scatter.point()
        kept = _of_classes(classifier)
        carried = {name for name, own in kept.items() if self._carry_rows(name, own, source)}
        if self._has_angles and classifier.head.cloud is not None:
            angles = kept_angles.Kept(arrays[_ANGLES], arrays[_ANGLE_COUNTS])
            kept_angles.put(classifier.head.cloud.memory, angles, source)
        if classifier.head.class_weights():
            is_new = source < 0 if "prototypes" in carried else np.full(classes, True)
            _imprint(classifier, kept, is_new, data, preprocess)
        known = int((source >= 0).sum())
        log.info("going on from %s, which knows %d of %d identities", self.start.folder, known, classes)

    def _carry_rows(self, name: str, own: _Kept, source: np.ndarray) -> bool:
        """Takes over what the start keeps of the classes known to it; whether it has that, in the same form."""
        theirs, mine = self.start.arrays.get(name), own.rows()
        if theirs is None or theirs.shape[1:] != mine.shape[1:] or (name == _CENTRES and not self._has_angles):
            return False
        if name == "bias" and not own.variable.trainable:  # it is to stay 0
            return False
        mine[source >= 0] = theirs[source[source >= 0]]
        own.assign(mine)
        return True


def _imprint(classifier, kept: dict[str, _Kept], is_new: np.ndarray, data, preprocess) -> None:
    """Makes weights of new classes, bool [C], from their images; see `WarmStart.carry`."""
    if not is_new.any():
        return
    prototypes = kept["prototypes"]
    rows = prototypes.rows().reshape(prototypes.classes, -1, classifier.embedder.output_shape[-1])
    like = rows if is_new.all() else rows[~is_new]
    rows[is_new, 0] = np.median(np.linalg.norm(like, axis=-1)) * _mean_directions(classifier, is_new, data, preprocess)
    prototypes.assign(rows)
    if "bias" in kept and kept["bias"].variable.trainable and not is_new.all():
        bias = kept["bias"].rows()
        bias[is_new] = np.median(bias[~is_new])
        kept["bias"].assign(bias)


def _mean_directions(classifier, is_new: np.ndarray, data, preprocess) -> np.ndarray:
    """The mean of the unit embeddings of each new class's images, at length 1: float64 [new classes, d]."""

    @tf.autograph.experimental.do_not_convert
    def embed(encoded):
        images, status = preprocess(encoded)
        embedding = tf.cast(classifier.embedder(images, training=False), tf.float32)
        return tf.math.l2_normalize(embedding, axis=1), status

    function = tf.function(embed, input_signature=[tf.TensorSpec([None], tf.string)])
    place = np.cumsum(is_new) - 1
    sums = np.zeros([int(is_new.sum()), classifier.embedder.output_shape[-1]])
    rows = np.flatnonzero(is_new[data.class_ids])
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        unit, status = function(tf.constant(np.asarray(data.encoded[part])))
        if status.numpy().any():
            raise errors.WorkError(f"{training_data.UNREADABLE}; run ingestion again")
        np.add.at(sums, place[data.class_ids[part]], unit.numpy())
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


def find(config: config_lib.TrainConfig, blessed: str = "", identities: Sequence[str] = ()) -> WarmStart | None:
    """What a training goes on from, as its settings ask; None from scratch.

    Args:
      config: of the training.
      blessed: folder of the last blessed model; "" where there is none.
      identities: the names of its classes.

    Raises:
      errors.UsageError: that is no model that longtail exported, or one of another embedder.
      errors.WorkError: what it knows of classes is damaged.
    """
    asked = config.training.start_from
    folder = {config_lib.SCRATCH: "", config_lib.BLESSED: blessed}.get(asked, asked)
    return WarmStart(config, starts.read(folder, config.model), identities) if folder else None
