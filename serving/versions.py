"""Finds the version folders of a model or a gallery: subfolders whose names are integers, the highest is the latest."""

import os
from typing import Any

import tensorflow as tf

_LARGEST = 2**63 - 1  # TF Serving's versions are int64


def parse(name: str) -> int | None:
    """The version that `name` says, None where it says none.

    A version is decimal ASCII digits within int64, as TF Serving parses it: `0001` is version 1.
    """
    if not (name.isascii() and name.isdecimal()):
        return None
    digits = name.lstrip("0") or "0"
    if len(digits) > len(str(_LARGEST)) or int(digits) > _LARGEST:
        return None
    return int(digits)


def find(folder: str) -> dict[int, str]:
    """Version -> path of its folder, latest first; empty where there is none.

    A version folder's name is decimal ASCII digits, as TF Serving parses it: `0001` is version 1, and where `1` is
    there too, `1` is read. Other names, such as the temporary one a version has before its rename, do not count.

    Raises:
      tf.errors.OpError: `folder` cannot be listed.
    """
    if not tf.io.gfile.isdir(folder):
        return {}
    found: dict[int, str] = {}
    for name in sorted(entry.rstrip("/") for entry in tf.io.gfile.listdir(folder)):
        path = os.path.join(folder, name)
        version = parse(name)
        if version is not None and tf.io.gfile.isdir(path):
            found[version] = path
    return dict(sorted(found.items(), reverse=True))


def _stat(file: str) -> tuple[Any, ...]:
    try:
        stat = tf.io.gfile.stat(file)
    except tf.errors.OpError as error:  # a dangling link, or a file deleted since it was listed
        return file, error.error_code
    return file, stat.length, stat.mtime_nsec


def fingerprint(path: str) -> tuple[Any, ...]:
    """Changes when any file below `path` does. A file that cannot be read is part of it too."""
    try:
        files = [os.path.join(at, name) for at, _, names in tf.io.gfile.walk(path) for name in names]
    except tf.errors.OpError as error:
        return (error.error_code,)
    return tuple(_stat(file) for file in sorted(files))
