"""What a later training starts from: the files beside an exported model, checked against its settings and read."""

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Container
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from longtail.models import backbones
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import files
from longtail.models.export import signatures

# Of the embedder's settings, those that its weights hang on; the last one only where something has a width.
_DECIDE = ("backbone", "image", "dimension", "filter", "width")


class Start(NamedTuple):
    """A model that a training goes on from.

    Attributes:
      folder: it lies there.
      digest: of its weights and of what it knows of classes, 16 hexadecimal digits.
      config: of its training, as JSON; empty where its card has none.
      identities: names of the classes it knows; none where it was exported without them.
      arrays: what it knows of them, see `longtail.models.training.warm_start`.
    """

    folder: str
    digest: str
    config: dict[str, Any]
    identities: list[str]
    arrays: dict[str, np.ndarray]


def check(folder: str, model: config_lib.Model) -> dict[str, Any]:
    """Refuses what no training with such an embedder can start from, as its card tells; returns the card.

    Raises:
      errors.UsageError: no model that longtail exported, or one of another embedder: the key, theirs and ours.
    """
    card = _card(folder)
    if card is None or not tf.io.gfile.exists(os.path.join(folder, signatures.WEIGHTS_FILE)):
        missing = signatures.MODEL_CARD_FILE if card is None else signatures.WEIGHTS_FILE
        raise errors.UsageError(
            f"training.start_from: {folder} is no model that longtail exported (it has no readable {missing}); give "
            "the folder of a version of one, or scratch"
        )
    theirs = {"image": card["image_shape"], "dimension": card["dimension"], **_config(card).get("model", {})}
    has_width = model.filter or backbones.BACKBONES[model.backbone].takes_width
    for key in _DECIDE if has_width else _DECIDE[:-1]:
        ours = list(model.image) if key == "image" else getattr(model, key)
        if theirs.get(key, ours) != ours:
            raise errors.UsageError(
                f"training.start_from: {folder} has model.{key} {theirs[key]} and this training {ours}; set "
                f"model.{key} to what it has, or training.start_from to scratch"
            )
    return card


def _card(folder: str) -> dict[str, Any] | None:
    try:
        with tf.io.gfile.GFile(os.path.join(folder, signatures.MODEL_CARD_FILE)) as file:
            card = json.load(file)
    except (tf.errors.OpError, ValueError):
        return None
    return card if isinstance(card, dict) and {"image_shape", "dimension"} <= card.keys() else None


def _config(card: dict[str, Any]) -> dict[str, Any]:
    """Of a model's training; empty where something else exported it."""
    return card.get("config", {})


def read(folder: str, model: config_lib.Model) -> Start:
    """Reads all of a start but its embedder's weights; memory is that of the files.

    Raises:
      errors.UsageError: as `check`.
      errors.WorkError: what it knows of classes is damaged.
    """
    card, digest = check(folder, model), hashlib.sha256()
    digest.update(_bytes(os.path.join(folder, signatures.WEIGHTS_FILE)))
    path = os.path.join(folder, signatures.CLASSES_FILE)
    identities: list[str] = []
    arrays: dict[str, np.ndarray] = {}
    if tf.io.gfile.exists(path):
        content = _bytes(path)
        digest.update(content)
        identities, arrays = _unpacked(content, path)
    return Start(folder, digest.hexdigest()[:16], _config(card), identities, arrays)


def _bytes(path: str) -> bytes:
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def pack(identities: Sequence[str], arrays: dict[str, np.ndarray]) -> bytes:
    """The content of `signatures.CLASSES_FILE`: arrays, and the names of their classes; no pickle."""
    buffer = io.BytesIO()
    names = np.frombuffer(json.dumps(list(identities)).encode(), np.uint8)
    np.savez(buffer, identities=names, **arrays)
    return buffer.getvalue()


def forget(folder: str, withdrawn: Container[str]) -> None:
    """Takes names out of the classes that a copied model knows; without its name no class is ever gone on from.

    Args:
      folder: of a copy that nobody reads yet; one without names is left as it is.
      withdrawn: names to take out.

    Raises:
      errors.WorkError: what it knows of classes is damaged.
    """
    path = os.path.join(folder, signatures.CLASSES_FILE)
    if tf.io.gfile.exists(path):
        identities, arrays = _unpacked(_bytes(path), path)
        if any(name in withdrawn for name in identities):
            files.write(path, pack(["" if name in withdrawn else name for name in identities], arrays))


def _unpacked(content: bytes, path: str) -> tuple[list[str], dict[str, np.ndarray]]:
    try:
        with np.load(io.BytesIO(content)) as file:
            arrays = {name: file[name] for name in file.files}
        return json.loads(arrays.pop("identities").tobytes()), arrays
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def load_weights(embedder: tf.keras.Model, folder: str) -> None:
    """Gives an embedder the weights of the one in `folder`.

    Raises:
      errors.WorkError: they are damaged, or of another embedder.
    """
    path = os.path.join(folder, signatures.WEIGHTS_FILE)
    with tempfile.TemporaryDirectory() as here:  # Keras reads local files only
        local = os.path.join(here, os.path.basename(path))
        tf.io.gfile.copy(path, local)
        try:
            embedder.load_weights(local)
        except (OSError, ValueError, KeyError) as error:
            raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> errors.WorkError:
    return errors.WorkError(
        f"{path}: damaged, or of another model ({errors.first_line(error)}); set training.start_from to another model, "
        "or to scratch"
    )
