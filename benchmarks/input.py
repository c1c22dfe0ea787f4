"""What a training's input costs beside a tf.data pipeline that only decodes the same images; and its peak memory.

Both are counted in processor time, so that they can be compared on a busy machine. And, by the clock, training steps
that wait for their input beside steps on one batch that is there.
"""

import functools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from longtail.benchmarks import timing
from longtail.models import errors

if TYPE_CHECKING:
    import tensorflow as tf

_BATCH, _IMAGES_EACH, _TARGET = 64, 4, 0.9


def run(images: Sequence[int], side: int, rounds: int) -> dict[str, object]:
    """The report.

    Args:
      images: how many, of each size that is measured.
      side: of an image, pixels; they are grey PNG of noise, and decoded to 32 x 32.
      rounds: how often the steps are timed, twenty at a time.
    """
    results = []
    for count in images:
        words = [sys.executable, "-m", __name__, *map(str, (count, side, rounds))]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise errors.WorkError(f"input of {count} images failed: {done.stderr.strip().splitlines()[-1]}")
        found = json.loads(done.stdout.splitlines()[-1])
        unit, ours, plain = "images a CPU second", found["ours"], found["plain"]
        results += [
            timing.row(f"decoding alone, {count} images", plain, unit),
            timing.row(f"training input, {count} images", ours, unit, ours / plain, _TARGET, True),
            *_step_rows(count, found["steps"]),
            timing.row(f"index in memory, {count} images", found["index"], "bytes an image", None, 24.0),
            timing.row(f"peak after reading, {count} images", found["read_mib"], "MiB"),
            timing.row(f"encoded images on disk, {count} images", found["disk_mib"], "MiB"),
        ]
    return {"bench": "input", "machine": timing.machine(), "results": results}


def _step_rows(count: int, steps: dict[str, tuple[float, float | None]]) -> Iterator[dict[str, object]]:
    for name, (milliseconds, speed) in steps.items():
        target = None if speed is None else _TARGET
        yield timing.row(f"a step, {name}, {count} images", milliseconds, "ms", speed, target, True)


def _examples(count: int, side: int) -> Iterator[tuple[bytes, int]]:
    import tensorflow as tf

    rng = np.random.default_rng(0)
    for number in range(count):
        yield tf.io.encode_png(rng.integers(0, 256, (side, side, 1), np.uint8)).numpy(), number // _IMAGES_EACH


def _write(folder: str, count: int, side: int) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(os.path.join(folder, "data-0.gz"), "GZIP") as writer:
        for png, label in _examples(count, side):
            values = {
                "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[png])),
                "class_id": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString())


def _main(count: int, side: int, rounds: int) -> None:
    import tensorflow as tf

    from longtail.models import config as config_lib
    from longtail.models.export import preprocess
    from longtail.models.training import data as training_data
    from longtail.models.training import records

    shape, classes = (32, 32, 1), -(-count // _IMAGES_EACH)
    training = config_lib.Training(batch=min(_BATCH, count), epochs=2, cache_megabytes=0)
    settings = config_lib.TrainConfig(model=config_lib.Model(image=shape), training=training)
    decode = preprocess.Preprocess(shape)
    with tempfile.TemporaryDirectory(prefix="longtail-input-") as folder:
        _write(folder, count, side)
        census = {"classes": [{"images": _IMAGES_EACH}] * classes}
        data = training_data.read_training_set([os.path.join(folder, "data-*.gz")], census)
    read_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    encoded = data.encoded
    assert isinstance(encoded, records.Records)
    index, disk_mib = (encoded.memory + data.class_ids.nbytes) / count, encoded.disk / 2**20
    ours, steps = training_data.batches(data, decode, settings)
    plain = tf.data.Dataset.from_tensor_slices(np.asarray(encoded)).repeat().batch(training.batch)
    plain = plain.map(lambda batch: decode(batch)[0], num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    speeds = {name: _speed(dataset, steps) * training.batch for name, dataset in (("plain", plain), ("ours", ours))}
    pixels = training_data.decoded(data, decode, config_lib.TrainConfig(model=settings.model))
    inputs = {"images read and decoded": ours}
    if pixels is not None:  # they fit what a training keeps unless it is told otherwise
        inputs["images decoded once and kept"], _ = training_data.batches(data, decode, settings, 0, pixels)
    steps_ms = _steps(settings, data.counts, inputs, rounds)
    print(json.dumps({**speeds, "steps": steps_ms, "index": index, "read_mib": read_mib, "disk_mib": disk_mib}))


def _steps(settings, counts: np.ndarray, datasets: Mapping[str, "tf.data.Dataset"], rounds: int) -> dict[str, tuple]:
    """Milliseconds a training step, on one batch that is there and with each input; and speed beside the first."""
    import tensorflow as tf

    from longtail.models import losses
    from longtail.models.training import classifier as classifier_lib

    classifier = classifier_lib.build_classifier(settings, counts, 1)
    loss = losses.build_loss(settings, counts, tf.Variable(0, dtype=tf.int64), 1)
    classifier.compile(tf.keras.optimizers.Adam(settings.training.rate), loss)
    train = tf.function(lambda batch: classifier.train_step(batch)["loss"])

    def step(batch: Any) -> float:
        return float(train(batch))  # waits for it

    taken = {name: iter(dataset.repeat()) for name, dataset in datasets.items()}
    one = next(taken["images read and decoded"])
    works: dict[str, Callable[[], object]] = {"one batch": lambda: step(one)}
    works |= {name: functools.partial(lambda rows: step(next(rows)), rows) for name, rows in taken.items()}
    seconds = timing.in_turns(works, rounds, 20)
    there = seconds.pop("one batch")
    told: dict[str, tuple] = {"one batch": (1e3 * float(np.median(there)), None)}
    return told | {
        name: (1e3 * float(np.median(found)), float(np.median(there / found))) for name, found in seconds.items()
    }


def _speed(dataset, steps: int) -> float:
    """Batches a CPU second, of the second epoch."""
    taken = iter(dataset)
    for _ in range(steps):
        next(taken)
    begun = time.process_time()
    for _ in range(steps):
        next(taken)
    return steps / (time.process_time() - begun)


if __name__ == "__main__":
    _main(*map(int, sys.argv[1:]))
