"""Puts a pushed model to use: a real server, real requests, and whether the answers are right."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from longtail.components.data import features
from longtail.models import errors
from longtail.models.export import signatures
from longtail.pipeline import console as console_lib
from longtail.serving import client
from longtail.serving import gallery as gallery_lib

_READY = re.compile(r"serving model (?P<name>\S+) version (?P<version>\d+).*gRPC (?P<address>\S+),")


def run(summary: dict[str, Any], images: int) -> dict[str, Any]:
    """Serves the model that a run pushed, or the version that was pushed after it, and asks it who is on query images.

    Args:
      summary: of a finished run that pushed a model.
      images: how many query images to ask about, at most; spread evenly over all.

    Returns:
      `model`, `version`, `images`, `rank1` and `rank5` (the right identity first, among the first five), `unreadable`,
      `largest_difference` (between the server's embeddings and those computed in process), `images_per_second`.

    Raises:
      errors.WorkError: the server did not start, or answered other numbers than the model in process.
    """
    encoded, identities = _queries(summary["artifacts"]["examples"], images)
    with tempfile.TemporaryFile() as log, _serve(summary, log) as server:
        ready = _wait(server, log)
        with client.Client(ready["address"], ready["name"]) as connection:
            started = time.monotonic()
            embedded = connection.embed(encoded, int(ready["version"]))
            seconds = time.monotonic() - started
    version = os.path.join(os.path.dirname(summary["pushed_model"]), ready["version"])
    model = tf.saved_model.load(version).signatures[signatures.SERVING]
    in_process = model(image_bytes=tf.constant(encoded))[signatures.EMBEDDING].numpy()
    difference = float(np.abs(in_process - embedded.embedding).max())
    if difference > 1e-5:
        raise errors.WorkError(
            f"the server's embeddings differ from the model's own by {difference:.1e}; it serves another model"
        )
    readable = embedded.status == signatures.STATUS_OK
    found = gallery_lib.load(summary["gallery"]).identify(embedded.embedding[readable], 5)
    wanted = np.asarray(identities)[readable]
    first = [matches[0].identity == name for matches, name in zip(found, wanted, strict=True)]
    five = [name in {match.identity for match in matches} for matches, name in zip(found, wanted, strict=True)]
    return {
        "model": ready["name"],
        "version": int(ready["version"]),
        "images": len(encoded),
        "unreadable": int((~readable).sum()),
        "rank1": float(np.mean(first)),
        "rank5": float(np.mean(five)),
        "largest_difference": difference,
        "images_per_second": round(len(encoded) / seconds, 1),
    }


def _queries(examples: str, images: int) -> tuple[list[bytes], list[str]]:
    """Encoded query images and their identities, evenly taken from all in the order of ingestion."""
    files = sorted(tf.io.gfile.glob(os.path.join(examples, f"Split-{features.EVAL_SPLIT}", "*")))
    found = []
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        if feature[features.SPLIT].bytes_list.value[0] == features.QUERY:
            identity = feature[features.IDENTITY].bytes_list.value[0].decode()
            found.append((feature[features.ENCODED].bytes_list.value[0], identity))
    chosen = found[:: max(1, len(found) // images)][:images]
    return [image for image, _ in chosen], [identity for _, identity in chosen]


@contextlib.contextmanager
def _serve(summary: dict[str, Any], log) -> Iterator[subprocess.Popen]:
    """A server that is asked to stop when the block ends."""
    command = [sys.executable, "-m", "longtail.pipeline.cli", "serve", "--grpc-port", "0", "--rest-port", "0"]
    command += ["--model", os.path.dirname(summary["pushed_model"]), "--gallery", summary["gallery"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(server: subprocess.Popen, log) -> dict[str, str]:
    assert server.stdout is not None
    for line in server.stdout:
        match = _READY.search(line)
        if match:
            return match.groupdict()
    log.seek(0)
    said = log.read().decode(errors="replace").strip().splitlines()
    raise errors.WorkError(f"the server did not start: {said[-1] if said else 'it said nothing'}")


def print_result(result: dict[str, Any]) -> None:
    """Says how it went."""
    console = console_lib.out()
    console.print(
        f"served {result['model']} version {result['version']}: {result['images']} held-out images embedded, "
        f"{result['rank1']:.1%} identified at first rank, {result['rank5']:.1%} within five"
    )
    console.print(
        f"largest difference to the model in process {result['largest_difference']:.1e}, "
        f"{result['images_per_second']:.0f} images/s from one client"
    )
