"""The ways a version comes into its folder other than by rename."""

import os
import pathlib
from collections.abc import Iterator

import tensorflow as tf

from longtail.models.export import signatures


def push_in_parts(source: os.PathLike, folder: os.PathLike, version: int) -> Iterator[str]:
    """Copies version folder `source` file by file into its final place; yields after each."""
    for file in sorted(path for path in pathlib.Path(source).rglob("*") if path.is_file()):
        to = pathlib.Path(folder) / str(version) / file.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(file.read_bytes())
        yield file.name


def write_warm_up(version_folder: pathlib.Path, records: list[bytes]) -> None:
    """Gives a version these warm-up records."""
    file = version_folder / signatures.WARMUP_FILE
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)
