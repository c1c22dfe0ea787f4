"""The paper's toy: digits in two dimensions, trained with and without m-L2, to look at."""

import numpy as np
import tensorflow as tf

from longtail.components.data import glyphs
from longtail.models import config as config_lib
from longtail.models.export import preprocess as preprocess_lib
from longtail.models.training import data as training_data
from longtail.models.training import loop
from longtail.pipeline.transfer import analyses
from longtail.pipeline.transfer import charts
from longtail.pipeline.transfer import paper

_METRIC_WEIGHT = 0.001  # the paper's
_SIZE = 28


def run(images: int, epochs: int, seed: int) -> analyses.Analysis:
    """Trains twice on so many images of each built-in digit, and scores on a quarter as many others."""
    trained, asked = _digits(images, span=1, seed=seed), _digits(-(-images // 4), span=2, seed=seed)
    decode = preprocess_lib.Preprocess((_SIZE, _SIZE, 1))
    accuracy, plots = {}, {}
    for name, weight in (("softmax", 0.0), ("m-L2", _METRIC_WEIGHT)):
        classifier = loop.train(_config(weight, epochs, seed), trained, decode)
        points = classifier.embedder(decode(tf.constant(asked.encoded))[0], training=False).numpy()
        answers = (points @ classifier.head.prototypes.numpy()).argmax(axis=1)
        accuracy[name] = float((answers == asked.class_ids).mean())
        plots[f"{name}: {100 * accuracy[name]:.2f}% right"] = (points, asked.class_ids)
    rows = [("", "this, %", "paper on MNIST, %")]
    rows += [(name, f"{100 * accuracy[name]:.2f}", f"{100 * paper.TOY[name]:.2f}") for name in accuracy]
    figures = {**accuracy, "images": len(trained.encoded), "asked": len(asked.encoded), "paper": paper.TOY}
    return analyses.Analysis(figures, rows, charts.scatters(plots))


def _digits(images: int, span: int, seed: int) -> training_data.TrainingSet:
    drawn = glyphs.GlyphSet(size=_SIZE, seed=seed)
    names = [glyphs.name(digit) for digit in "0123456789"]
    encoded = [glyphs.draw(drawn, span, name, index) for name in names for index in range(images)]
    labels = np.repeat(np.arange(len(names)), images)
    return training_data.TrainingSet(np.array(encoded, object), labels, np.full(len(names), images))


def _config(metric_weight: float, epochs: int, seed: int) -> config_lib.TrainConfig:
    return config_lib.TrainConfig(
        model=config_lib.Model("conv4", image=(_SIZE, _SIZE, 1), dimension=2, filter=True, width=0.1),
        head=config_lib.Head("softmax", 1.0, 0.0, {"bias": 0}),
        loss=config_lib.Loss(metric_weight=metric_weight),
        training=config_lib.Training(epochs=epochs, batch=64, rate=0.002, seed=seed),
    )
