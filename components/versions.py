"""Finds versions of a pushed model by the rule servers go by, so that all of us mean the same folder.

A version is a subfolder whose name is decimal ASCII digits within int64, as TF Serving parses it: `0001`
is version 1, and where `1` is there too, `1` is it. Any file system TensorFlow reads will do.
"""

import os

import tensorflow as tf

_LARGEST = 2**63 - 1


def find(folder: str) -> dict[int, str]:
    """Returns version -> path of its folder, latest first; empty where there is none, or no `folder`.

    Raises:
        tf.errors.OpError: `folder` cannot be listed.
    """
    if not tf.io.gfile.isdir(folder):
        return {}
    found = {}
    for name in sorted(entry.rstrip("/") for entry in tf.io.gfile.listdir(folder)):
        path = os.path.join(folder, name)
        number = name.isascii() and name.isdecimal() and int(name) <= _LARGEST
        if number and tf.io.gfile.isdir(path):
            found[int(name)] = path
    return dict(sorted(found.items(), reverse=True))


def find_complete(folder: str) -> dict[int, str]:
    """Likewise, without the versions that cannot be loaded for want of a `saved_model.pb`."""
    return {version: path for version, path in find(folder).items() if is_complete(path)}


def last_complete(folder: str) -> int | None:
    """Returns the highest complete version, or None."""
    return next(iter(find_complete(folder)), None)


def is_complete(path: str) -> bool:
    """Says whether there is a SavedModel at `path`."""
    return bool(tf.io.gfile.exists(os.path.join(path, tf.saved_model.SAVED_MODEL_FILENAME_PB)))
