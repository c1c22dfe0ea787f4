"""What is trained: an embedder under a head, with what losses beside it need."""

import numpy as np
import tensorflow as tf

from longtail.models import backbones
from longtail.models import config as config_lib
from longtail.models import heads
from longtail.models import losses
from longtail.models.leap import feature_cloud


class Classifier(tf.keras.Model):
    """An embedder under a head: (images [B, h, w, c], labels [B]) -> logits [B, C]; beside it a centre loss or None."""

    def __init__(self, embedder: tf.keras.Model, head: heads.Head, centre_loss: losses.CentreLoss | None = None):
        super().__init__()
        self.embedder = embedder
        self.head = head
        self.centre_loss = centre_loss

    def call(self, inputs, training=False):
        images, labels = inputs
        features = self.embedder(images, training=training)
        if training and self.centre_loss is not None:
            self.add_loss(self.centre_loss(features, labels))
        return self.head((features, labels), training=training)


def build_classifier(config: config_lib.TrainConfig, counts: np.ndarray, steps_per_epoch: int) -> Classifier:
    """Builds embedder, head and (where asked for) feature cloud for classes of `counts` images; all weights made."""
    leap = config.leap
    cloud = None
    if leap.variant != "none":
        cloud = feature_cloud.FeatureCloud(
            counts,
            variant=leap.variant,
            start_step=leap.start_epoch * steps_per_epoch,
            refresh_every=leap.refresh_every,
            head_threshold=leap.head_threshold,
            seed=config.training.seed,
            images_kept=leap.images_kept,
            centre_momentum=leap.centre_momentum,
            angle_order=leap.angle_order,
            statistics=leap.statistics,
            form=leap.form,
            width=leap.width,
            strength=leap.strength,
            total_steps=config.training.epochs * steps_per_epoch,
        )
    model = config.model
    embedder = backbones.build_embedder(
        model.backbone, tuple(model.image), model.dimension, model.weight_decay, model.weights or None
    )
    asked = config.head
    head = heads.HEADS[asked.name](
        len(counts), asked.scale, asked.margin, cloud, model.weight_decay, counts, asked.options
    )
    head.build([(None, model.dimension), (None,)])
    centre_loss = None
    if config.loss.centre_weight:
        centre_loss = losses.CentreLoss(len(counts), config.loss.centre_weight, config.loss.centre_rate)
        centre_loss.build([None, model.dimension])
    return Classifier(embedder, head, centre_loss)
