"""Finds the versions of a model or a gallery by TF Serving's rule, so that all of us mean the same folder.

A version is a subfolder whose name is decimal ASCII digits within int64: `0001` is version 1, and where `1` is there
too, `1` is it. Other names, such as the temporary one a version has before its rename, do not count. Any file system
TensorFlow reads will do; TensorFlow is loaded only when a folder is looked at.
"""

import os
from typing import Any

LARGEST = 2**63 - 1


def parse(name: str) -> int | None:
    """The version that `name` says, None where it says none."""
    if not (name.isascii() and name.isdecimal()):
        return None
    digits = name.lstrip("0") or "0"  # Python refuses to read thousands of digits
    if len(digits) > len(str(LARGEST)) or int(digits) > LARGEST:
        return None
    return int(digits)


def find(folder: str) -> dict[int, str]:
    """Version -> path of its folder, latest first; empty where there is none, or no `folder`.

    Raises:
      tf.errors.OpError: `folder` cannot be listed.
    """
    import tensorflow as tf

    if not tf.io.gfile.isdir(folder):
        return {}
    found: dict[int, str] = {}
    for name in sorted(entry.rstrip("/") for entry in tf.io.gfile.listdir(folder)):
        path = os.path.join(folder, name)
        version = parse(name)
        if version is not None and tf.io.gfile.isdir(path):
            found[version] = path
    return dict(sorted(found.items(), reverse=True))


def find_complete(folder: str) -> dict[int, str]:
    """Likewise, without the versions that cannot be loaded for want of a `saved_model.pb`."""
    return {version: path for version, path in find(folder).items() if is_complete(path)}


def last_complete(folder: str) -> int | None:
    """The highest complete version, or None."""
    return next(iter(find_complete(folder)), None)


def is_complete(path: str) -> bool:
    """Whether there is a SavedModel at `path`."""
    import tensorflow as tf

    return bool(tf.io.gfile.exists(os.path.join(path, tf.saved_model.SAVED_MODEL_FILENAME_PB)))


def fingerprint(path: str) -> tuple[Any, ...]:
    """Changes when any file below `path` does. A file that cannot be read is part of it too."""
    import tensorflow as tf

    try:
        files = [os.path.join(at, name) for at, _, names in tf.io.gfile.walk(path) for name in names]
    except tf.errors.OpError as error:
        return (error.error_code,)
    return tuple(_stat(file) for file in sorted(files))


def _stat(file: str) -> tuple[Any, ...]:
    import tensorflow as tf

    try:
        stat = tf.io.gfile.stat(file)
    except tf.errors.OpError as error:  # a dangling link, or a file deleted since it was listed
        return file, error.error_code
    return file, stat.length, stat.mtime_nsec
