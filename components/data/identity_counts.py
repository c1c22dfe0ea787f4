"""Who is in a span's Examples and how often, in a file of their own: to know it, no image need be read again."""

import json
import os
from collections.abc import Mapping

import tensorflow as tf

from longtail.models import files

FILE = "identities.json"  # in the folder of the Examples

Counts = dict[str, dict[str, int]]


def write(folder: str, counts: Mapping[str, Mapping[str, int]]) -> None:
    """Writes split -> identity -> number of its files."""
    files.write_json(os.path.join(folder, FILE), counts, indent=None)


def read(folder: str) -> Counts:
    """Reads what `write` wrote."""
    with tf.io.gfile.GFile(os.path.join(folder, FILE), "r") as file:
        return json.loads(file.read())
