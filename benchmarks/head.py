"""What LEAP costs a classification head: whole training steps of the head beside the plain one, and its state."""

import tempfile
import types
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from longtail.benchmarks import timing
from longtail.models import backbones
from longtail.models import errors
from longtail.models import heads
from longtail.models.leap import angle_memory
from longtail.models.leap import feature_cloud
from longtail.models.training import tail_health

STEP_TARGET = 1.10  # of the plain head's step, from 10k classes on
UPDATE_TARGET = 1.2  # of the update at the fewest classes
RIVAL_TARGET = 1.05  # of the plain head's step, from 10k classes on, for the cloud's controls and rivals
HEALTH_TARGET = 1.01  # of the head's step with the share of an epoch's reading that falls on it

_SCALE, _MARGIN = 24.0, 0.2
_HEAD_IMAGES, _TAIL_IMAGES = 20, 4
_LEAP = ("leap-full", "leap-vanilla")
_RIVALS: dict[str, dict[str, Any]] = {
    "noise-all": {"variant": "noise_all"},
    "closed": {"variant": "noise_all", "form": "closed"},
    "corrected": {"variant": "vanilla", "statistics": "corrected"},
    "directional": {"variant": "directional"},
}
_HEALTH = ("an epoch's reading", "counts")
_BACKBONE = "conv4"
_COUNTS = 100


class _NaiveStatistics(feature_cloud.FeatureCloud):
    """Statistics made from the whole memory in every step."""

    def spread(self, features, labels):
        self.memory.recompute()
        return super().spread(features, labels)


class _NaiveDraw(heads.CosFace):
    """Every alpha by tf.random.normal, every angle by acos, gradients by autodiff; products as in the other heads."""

    def call(self, inputs, training=False):
        features, labels = inputs
        assert self.cloud is not None
        width, _ = self.cloud.spread(features, labels)
        cosine = tf.clip_by_value(self.cosines(features), -heads.COSINE_LIMIT, heads.COSINE_LIMIT)
        alpha = tf.random.normal(tf.shape(cosine)) * width[:, tf.newaxis]
        shifted = tf.cos(tf.clip_by_value(tf.acos(cosine) + alpha, 0.0, np.pi))
        is_own = tf.one_hot(labels, self.classes, dtype=tf.float32)
        return self.scale * (shifted - self.margin * is_own)


def _counts(classes: int) -> np.ndarray:
    counts = np.full(classes, _TAIL_IMAGES)
    counts[: max(1, classes // 10)] = _HEAD_IMAGES
    return counts


def _fill(memory: angle_memory.AngleMemory) -> None:
    """A full memory whose head classes are wide and whose tail classes are narrow: every tail row has a cloud."""
    rng = np.random.default_rng(0)
    sizes = memory.counts * memory.images_kept
    spread = np.repeat(np.where(memory.counts > memory.head_threshold, 0.5, 0.1), sizes)
    memory.angles.assign(np.append(np.abs(rng.normal(size=sizes.sum()) * spread), 0.0).astype(np.float32))
    memory.seen.assign(sizes)
    memory.recompute()


def _cloud(kind: str, classes: int) -> feature_cloud.FeatureCloud | None:
    if kind == "plain":
        return None
    maker = _NaiveStatistics if kind == "naive-statistics" else feature_cloud.FeatureCloud
    settings = _RIVALS.get(kind, {"variant": "vanilla" if kind == "leap-vanilla" else "full"})
    return maker(_counts(classes), **settings)


def _step(kind: str, prototypes: tf.Variable, features, labels, xla: bool):
    """A training step of one head as a function of nothing that ends with its work; and the head."""
    dimension, classes = prototypes.shape
    maker = _NaiveDraw if kind == "naive-draw" else heads.CosFace
    head = maker(classes, _SCALE, _MARGIN, _cloud(kind, classes))
    head.build([(None, dimension), (None,)])
    head.prototypes = prototypes  # the heads share one: their own would only fill the memory
    if head.cloud is not None:
        _fill(head.cloud.memory)

    @tf.function(jit_compile=xla)
    def step(features, labels):
        with tf.GradientTape() as tape:
            tape.watch(features)
            logits = head((features, labels), training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return loss, tape.gradient(loss, (features, prototypes))

    return (lambda: step(features, labels)[0].numpy()), head


def _batch(classes: int, dimension: int, batch: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Embeddings, and labels of tail classes alone."""
    rng = np.random.default_rng(1)
    labels = rng.integers(max(1, classes // 10), classes, batch)
    return tf.constant(rng.normal(size=(batch, dimension)), tf.float32), tf.constant(labels, tf.int32)


def _works(classes: int, dimension: int, batch: int, xla: bool):
    """The steps to time, by name, each run once; the names of those that do not run, with why; and the heads."""
    works, failed, made = {}, [], []
    prototypes = tf.Variable(tf.random.stateless_normal([dimension, classes], [0, 0]) * 0.05)
    inputs = _batch(classes, dimension, batch)
    for compiled in (False, True) if xla else (False,):
        for kind in ("plain", *_LEAP, *_RIVALS, "naive-statistics", "naive-draw"):
            name = f"{kind}{' XLA' if compiled else ''}"
            work, head = _step(kind, prototypes, *inputs, compiled)
            try:
                work()
            except tf.errors.OpError as error:  # a form XLA does not take is a result, too
                failed.append(f"{name} C={classes} (not run: {error.message.splitlines()[0][:120]})")
                continue
            works[name] = work
            made.append((kind, head))
    return works, failed, made, inputs


def _health_works(head: heads.Head, batch: int, board: str) -> dict[str, Callable[[], object]]:
    """What tail health costs: the reading at an epoch's end with its event files, and in a step the count of rows."""
    cloud = head.cloud
    assert cloud is not None
    reading = tail_health.TailHealth(cloud.memory.counts, cloud.memory.head_threshold, board)
    reading.set_model(types.SimpleNamespace(head=head))
    rows = tf.ones([batch], tf.bool)

    @tf.function
    def count(rows):  # many, one after the other: starting a function costs more than the count that a step has
        for _ in range(_COUNTS):
            cloud.clouded.update_state(rows)
        return cloud.clouded.count + 0.0

    works = (lambda: reading.on_epoch_end(0, {"loss": 0.0}), lambda: count(rows).numpy())
    return dict(zip(_HEALTH, works, strict=True))


def _backbone_step(dimension: int, batch: int) -> Callable[[], object]:
    """Forward and backward of the smallest backbone on the smallest images a recipe has: the rest of a step."""
    embedder = backbones.build_embedder("conv4", (28, 28, 1), dimension)
    images = tf.random.stateless_uniform([batch, 28, 28, 1], [0, 0])

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(embedder(images, training=True))
        return loss, tape.gradient(loss, embedder.trainable_variables)

    return lambda: step()[0].numpy()


def _health_row(seconds: dict[str, np.ndarray], classes: int, batch: int) -> dict:
    """Tail health beside a training step, the count and the reading shared out over the steps of an epoch."""
    steps = max(1, int(_counts(classes).sum()) // batch)
    reading, counts, backbone = (seconds.pop(name) for name in (*_HEALTH, _BACKBONE))
    share = reading / steps + counts / _COUNTS
    ratio = float(np.median(1.0 + share / (seconds["leap-full"] + backbone)))
    name = f"tail health a step with conv4 C={classes} ({steps} steps an epoch)"
    return timing.row(name, 1e3 * float(np.median(share)), "ms", ratio, HEALTH_TARGET)


def _time_steps(classes: int, dimension: int, batch: int, rounds: int, xla: bool) -> list[dict]:
    works, failed, made, inputs = _works(classes, dimension, batch, xla)
    with tempfile.TemporaryDirectory() as board:
        works |= _health_works(dict(made)["leap-full"], batch, board) | {_BACKBONE: _backbone_step(dimension, batch)}
        seconds = timing.in_turns(works, rounds * max(1, min(10, 50_000 // classes)))
    health = _health_row(seconds, classes, batch)
    rows = []
    for name, values in seconds.items():
        plain = seconds["plain XLA" if "XLA" in name and name != "plain XLA" else "plain"]
        asked = dict.fromkeys(_LEAP, STEP_TARGET) | dict.fromkeys(_RIVALS, RIVAL_TARGET) if classes >= 10_000 else {}
        ratio = float(np.median(values / plain))
        rows.append(
            timing.row(
                f"{name} C={classes}", 1e3 * float(np.median(values)), "ms", ratio, asked.get(name)
            )
        )
    rows += [timing.row(name, None, "ms") for name in failed]
    shares = [float(np.mean(head.cloud.spread(*inputs)[0].numpy() > 0.0)) for kind, head in made if kind in _LEAP]
    rows.append(timing.row(f"rows with a cloud C={classes}", min(shares), "share"))
    return [*rows, health]


def _update(classes: int, dimension: int, batch: int) -> Callable[[], object]:
    memory = angle_memory.AngleMemory(_counts(classes))
    memory.build([None, dimension])
    _fill(memory)
    features, labels = _batch(classes, dimension, batch)
    step = tf.function(lambda: memory(features, labels)[0])
    return lambda: step().numpy()


def _time_updates(classes: Sequence[int], dimension: int, batch: int, rounds: int) -> list[dict]:
    """The memory's update alone; the target is on the ratio to the fewest classes."""
    works = {str(count): _update(count, dimension, batch) for count in sorted(classes)}
    seconds = timing.in_turns(works, 4 * rounds, calls=20)
    least = next(iter(seconds.values()))
    return [
        timing.row(
            f"update C={name}",
            1e3 * float(np.median(values)),
            "ms",
            float(np.median(values / least)),
            UPDATE_TARGET if values is not least else None,
        )
        for name, values in seconds.items()
    ]


def state_bytes(counts: np.ndarray, dimension: int, images_kept: int = 3) -> int:
    """Bytes of a memory's state by the formula: sum(S_i) * 4 + C * 24 + C * d * 4, and 36 of scalars."""
    return 4 * int(counts.sum()) * images_kept + len(counts) * (24 + 4 * dimension) + 36


def _measure_state(classes: Sequence[int], dimension: int) -> list[dict]:
    rows = []
    for count in sorted(classes):
        memory = angle_memory.AngleMemory(_counts(count))
        memory.build([None, dimension])
        measured = sum(weight.shape.num_elements() * weight.dtype.size for weight in memory.weights)
        expected = state_bytes(_counts(count), dimension)
        rows.append(timing.row(f"state C={count}", measured / 2**20, "MiB", measured / expected, 1.0))
    million = state_bytes(_counts(10**6), dimension)
    rows.append(timing.row("state C=1000000 (by the formula)", million / 2**20, "MiB"))
    without = million - 4 * 10**6 * dimension
    rows.append(timing.row("state C=1000000 without the centres", without / 2**20, "MiB"))
    return rows


def run(classes: Sequence[int], dimension: int = 512, batch: int = 128, rounds: int = 15, xla: bool = True) -> dict:
    """Times the heads at each number of classes.

    A step is forward, softmax cross-entropy, gradients for features and prototypes, and the update of the memory. All
    rows of the timed batches have a cloud, the worst case. `ratio` is the median over the rounds of the step's time
    to the plain head's in the same round; a compiled step is held against the compiled plain head, and that one
    against the plain. Tail health is held against a step of the
    full cloud's head and the conv4 backbone at 28x28.

    Args:
      classes: numbers of classes.
      dimension: d, of the embedding.
      batch: B.
      rounds: how often each step is timed at 50k classes and above; at fewer up to ten times as often.
      xla: also compile whole steps. Within an uncompiled step the cloud's two passes are compiled all the same.

    Returns:
      {"bench", "machine", "results"} of the benchmarks' common form.

    Raises:
      errors.UsageError: a number out of range.
    """
    if not classes or min(classes) < 20 or dimension < 2 or batch < 2 or rounds < 1:
        raise errors.UsageError(
            "bench head: needs classes >= 20, dim >= 2, batch >= 2, rounds >= 1. "
            f"Received: classes={list(classes)}, dim={dimension}, batch={batch}, rounds={rounds}"
        )
    tf.get_logger().setLevel("ERROR")  # every head is a function of its own: nothing to warn of
    machine = {**timing.machine(), "tensorflow": tf.__version__}
    results = []
    for count in classes:
        results += _time_steps(count, dimension, batch, rounds, xla)
    results += _time_updates(classes, dimension, batch, rounds)
    results += _measure_state(classes, dimension)
    return {"bench": "head", "machine": machine, "results": results}
