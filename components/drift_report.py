"""Writes and reads a DriftReport: rows of distances that a component measured for the drift gate to judge."""

import json
import os
from typing import Any

import tensorflow as tf

from longtail.models import files

REPORT_FILE = "drift.json"


def write(uri: str, rows: list[dict[str, Any]], note: str = "") -> None:
    """Writes `drift.json` of a DriftReport by rename; `note` says in a line why there are no rows, or not all."""
    files.write_json(os.path.join(uri, REPORT_FILE), {"features": rows, "note": note})


def read(uri: str) -> tuple[list[dict[str, Any]], str]:
    """Returns the rows and the note of a DriftReport."""
    with tf.io.gfile.GFile(os.path.join(uri, REPORT_FILE)) as file:
        content = json.loads(file.read())
    return content["features"], content["note"]
