"""What a warm start is worth: half of the identities first, then all, from the first model and from scratch."""

import logging
import os
import tempfile
import time

import numpy as np
import tensorflow as tf

from longtail.benchmarks import timing
from longtail.components.data import glyphs
from longtail.components.data import sources
from longtail.components.data import splits
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models.export import preprocess as preprocess_lib
from longtail.models.metrics import metric
from longtail.models.metrics import retrieval
from longtail.models.training import data as training_data
from longtail.models.training import loop
from longtail.models.training import warm_start

NEAR = 0.5  # mAP in points: as good as from scratch

_IMAGE = (28, 28, 1)
_HELD_OUT = 0.25
_HEAD_SHARE, _TAIL_IMAGES = 0.14, 4  # of the training identities that keep all images; of the others
_BATCH = 512
_DECODE = preprocess_lib.Preprocess(_IMAGE)
log = logging.getLogger("longtail")


class Deliveries:
    """Images of two deliveries: the first is of half of the groups, the second of all.

    A group is what stands before the last folder of an identity's name, such as an alphabet.

    Args:
      uri: folder or .zip of group/identity/image, or the built-in glyphs.
      seed: which identities are held out, and which are head.
    """

    def __init__(self, uri: str, seed: int):
        source = sources.open_source(uri)
        by_identity: dict[str, list[bytes]] = {}
        for item in source.items():
            by_identity.setdefault(item.identity, []).append(source.read(item))
        names = sorted(by_identity)
        held_out = splits.held_out(names, _HELD_OUT, seed)
        self._groups = sorted({_group(name) for name in names})
        self.scored = [(name, image) for name in names if name in held_out for image in by_identity[name]]
        self._trained = {}
        for name in (name for name in names if name not in held_out):
            is_head = splits.unit_hash(seed, f"head/{name}") < _HEAD_SHARE
            self._trained[name] = by_identity[name][: None if is_head else _TAIL_IMAGES]
        if len(self._groups) < 2:
            raise errors.UsageError(f"--data {uri}: two deliveries take two groups of identities, and it has one")

    def delivered(self, second: bool) -> tuple[training_data.TrainingSet, list[str]]:
        """What is trained on once the first, or the second too, is there; and the names of the classes."""
        first = set(self._groups[::2])
        names = [name for name in self._trained if second or _group(name) in first]
        counts = np.array([len(self._trained[name]) for name in names])
        encoded = np.array([image for name in names for image in self._trained[name]], object)
        return training_data.TrainingSet(encoded, np.repeat(np.arange(len(names)), counts), counts), names


def _group(identity: str) -> str:
    return identity.rpartition("/")[0] or identity


def _config(epochs: int, seed: int, start: str) -> config_lib.TrainConfig:
    return config_lib.TrainConfig(
        model=config_lib.Model(image=_IMAGE, weight_decay=5e-4),
        head=config_lib.Head("cosface", scale=8.0, margin=0.2),
        leap=config_lib.Leap(variant="full", start_epoch=epochs // 3),
        augment=config_lib.Augmentation(shift=0.1, rotation=15.0),
        training=config_lib.Training(epochs=epochs, seed=seed, start_from=start),
    )


def run(data: str, epochs: int, fewer: list[int], seeds: int) -> dict[str, object]:
    """Trains on the first delivery, then on both: from scratch and from the first model, for as many epochs and fewer.

    Args:
      data: folder or .zip of group/identity/image; the built-in glyphs where empty.
      epochs: of a training from scratch.
      fewer: other numbers of epochs to try.
      seeds: how often, each with identities of its own held out.
    """
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for seed in range(seeds):
        deliveries = Deliveries(data or glyphs.GlyphSet(head=300).uri, seed)
        with tempfile.TemporaryDirectory() as folder:
            first = os.path.join(folder, "first")
            _first(deliveries, _config(epochs, seed, config_lib.SCRATCH), first)
            for count in dict.fromkeys((epochs, *fewer)):
                for name, start in (("scratch", config_lib.SCRATCH), ("warm", first)):
                    score, seconds = _second(deliveries, _config(count, seed, start))
                    log.info("seed %d, %s, %d epochs: mAP %.2f, %.0f CPU s", seed, name, count, score, seconds)
                    found.setdefault((name, count), []).append((score, seconds))
    return {"bench": "warm_start", "machine": timing.machine(), "results": _rows(found, epochs)}


def _first(deliveries: Deliveries, config: config_lib.TrainConfig, path: str) -> None:
    """Trains on the first delivery and exports the model."""
    images, names = deliveries.delivered(second=False)
    loop.train_and_export(config, images, _DECODE, f"{path}-checkpoints", path, identities=names)


def _second(deliveries: Deliveries, config: config_lib.TrainConfig) -> tuple[float, float]:
    """Trains on both deliveries; mAP in points of those held out of all groups, and the CPU seconds that took."""
    images, names = deliveries.delivered(second=True)
    started = time.process_time()
    warm = warm_start.find(config, identities=names)
    embedder = loop.train(config, images, _DECODE, warm=warm).embedder
    seconds = time.process_time() - started
    encoded = [image for _, image in deliveries.scored]
    embed = tf.function(
        lambda part: embedder(_DECODE(part)[0], training=False),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    parts = (tf.constant(encoded[begin : begin + _BATCH]) for begin in range(0, len(encoded), _BATCH))
    embedded = np.concatenate([embed(part).numpy() for part in parts])
    of = [name for name, _ in deliveries.scored]
    scores = retrieval.score_queries(embedded, of, embedded, of, exclude_self=True)
    return 100.0 * metric.summarise(scores)["mAP"], seconds


def _rows(found: dict[tuple[str, int], list[tuple[float, float]]], epochs: int) -> list[dict[str, object]]:
    """mAP of each way, its CPU seconds beside those of all epochs from scratch, and the least that comes near."""
    means = {key: np.mean(values, axis=0) for key, values in found.items()}
    bar, whole = means["scratch", epochs]
    rows = []
    for (name, count), (score, seconds) in means.items():
        how = "from scratch" if name == "scratch" else "from the first model"
        rows.append(timing.row(f"mAP {how}, {count} epochs", score, "points"))
        rows.append(timing.row(f"time {how}, {count} epochs", seconds, "CPU s", seconds / whole))
    near = [seconds for (name, _), (score, seconds) in means.items() if name == "warm" and score >= bar - NEAR]
    least = min(near) if near else None
    name = f"least time of a warm start within {NEAR} points of {epochs} epochs from scratch"
    return [*rows, timing.row(name, least, "CPU s", None if least is None else least / whole, target=0.5)]
