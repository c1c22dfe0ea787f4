"""A head of your own: a class with one method, registered under a name that a training asks for.

    python examples/own_head.py

trains it on the built-in glyphs for a few seconds and prints how well it ranks characters it has never seen.
"""

import numpy as np

from longtail.components.data import glyphs
from longtail.models import config
from longtail.models import heads
from longtail.models.export import preprocess
from longtail.models.heads import base
from longtail.models.metrics import retrieval
from longtail.models.training import data
from longtail.models.training import loop


class BothMargins(base.Head):
    """Target s (cos(theta_y + alpha + m) - a): ArcFace's margin m, in radians, and CosFace's, a, at once."""

    OPTIONS = {"additive": base.Option(default=0.1, least=0.0, most=1.0)}

    def target_logit(self, target):
        return target.turned(self.margin) - self.options["additive"]


def main(epochs: int = 10) -> dict:
    """Trains the head on 60 characters; returns the scores of 20 others, every image against all others."""
    heads.HEADS["both_margins"] = BothMargins
    characters = glyphs.GlyphSet(identities=80, head=40, head_images=12, tail_images=4)
    drawn = [[glyphs.draw(characters, 1, name, i) for i in range(n)] for name, n in glyphs.identities(characters)]
    images = np.array([image for character in drawn for image in character], object)
    labels = np.repeat(np.arange(80), [len(character) for character in drawn])
    seen = labels >= 20  # the first characters, which have the most images, are kept for the scores
    settings = config.TrainConfig(
        model=config.Model(image=(32, 32, 1), dimension=64),
        head=config.Head(name="both_margins", scale=16.0, margin=0.1, options={"additive": 0.1}),
        training=config.Training(epochs=epochs, batch=32),
    )
    decode = preprocess.Preprocess((32, 32, 1))
    training_set = data.TrainingSet(images[seen], labels[seen] - 20, np.bincount(labels[seen] - 20))
    trained = loop.train(settings, training_set, decode)
    embedding = trained.embedder.predict(decode(images[~seen])[0], verbose=0)
    return retrieval.evaluate_retrieval(embedding, labels[~seen], embedding, labels[~seen], exclude_self=True)


if __name__ == "__main__":
    scores = main()
    print(f"mAP {scores['mAP']:.1%}, Rank-1 {scores['rank1']:.1%} over {scores['queries']} queries")
