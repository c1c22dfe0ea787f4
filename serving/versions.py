"""Finds the version folders of a model or a gallery: subfolders whose names are integers, the highest is the latest."""

import os

import tensorflow as tf


def find(folder: str) -> dict[int, str]:
    """Version -> path of its folder, latest first; empty where there is none.

    Names that are no integers, such as the temporary name a version has before its rename, do not count.

    Raises:
      tf.errors.OpError: `folder` cannot be listed.
    """
    if not tf.io.gfile.isdir(folder):
        return {}
    found: dict[int, str] = {}
    for entry in tf.io.gfile.listdir(folder):
        name = entry.rstrip("/")
        path = os.path.join(folder, name)
        if name.isascii() and name.isdecimal() and tf.io.gfile.isdir(path):
            found[int(name)] = path
    return dict(sorted(found.items(), reverse=True))
