"""The last pushed model in a folder of versions, as TF Serving reads it."""

import os

import tensorflow as tf

_SAVED_MODEL = "saved_model.pb"


def last_version(models: str) -> int | None:
    """Returns the highest version of a pushed model, or None.

    Args:
        models: the model's folder, `<models>/<integer version>/saved_model.pb`. A version without
            `saved_model.pb` is not complete and is passed over; so is a folder not named by a
            number.
    """
    if not models or not tf.io.gfile.isdir(models):
        return None
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(models))
    numbers = sorted((int(name) for name in names if name.isdecimal()), reverse=True)
    return next((number for number in numbers if is_complete(models, number)), None)


def is_complete(models: str, version: int) -> bool:
    """Says whether a version can be loaded."""
    return bool(tf.io.gfile.exists(os.path.join(models, str(version), _SAVED_MODEL)))
