"""What is trained: an embedder under a head, with what the losses beside it need."""

import dataclasses

import numpy as np
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import heads
from longtail.models import losses
from longtail.models.feature_transfer import networks
from longtail.models.heads import cosine_similarity
from longtail.models.leap import batch_runs
from longtail.models.leap import feature_cloud


class Classifier(tf.keras.Model):
    """An embedder under a head: (images [B, h, w, c], labels [B]) -> logits [B, C], with further losses beside it.

    Args:
      embedder: images -> features.
      head: features and labels -> logits.
      weights: of the further losses.
      centre_loss: a centre loss, or None.
      decoder: of an embedder's rich features, what draws the images again; or None.
      gallery: of semi-Siamese training (Du et al., ECCV 2020), a network like the embedder that follows it slowly; or
        None. Of each two images of one identity, side by side in a batch, one is embedded by the embedder, and what the
        gallery makes of the other is its class's prototype, with that of earlier batches for the other classes; then
        the two change places. Prototypes have no gradient.
      gallery_momentum: weight of the gallery's previous weights, after each step.
    """

    def __init__(
        self,
        embedder: tf.keras.Model,
        head: heads.Head,
        weights: config_lib.Loss = config_lib.Loss(),  # noqa: B008 - frozen
        centre_loss: losses.CentreLoss | None = None,
        decoder: tf.keras.Model | None = None,
        gallery: tf.keras.Model | None = None,
        gallery_momentum: float = 0.0,
    ):
        super().__init__()
        self.embedder = embedder
        self.head = head
        self.centre_loss = centre_loss
        self.decoder = decoder
        self.gallery = gallery
        self._gallery_momentum = gallery_momentum
        self._weights = weights

    def call(self, inputs, training=False):
        images, labels = inputs
        if self.decoder is None:
            features = self.embedder(images, training=training)
        else:
            rich = self.embedder.encoder(images, training=training)
            features = self.embedder.filter(rich, training=training)
            if training:
                drawn, asked = self.decoder(rich, training=training), self._weights
                different = losses.reconstruction(drawn, images, asked.reconstruction_over)
                self.add_loss(asked.reconstruction_weight * different)
        if training and self.centre_loss is not None:
            self.add_loss(self.centre_loss(features, labels))
        if training and self._weights.metric_weight:
            self.add_loss(self.metric_loss(features))
        if training and self.gallery is not None:
            return self._semi_siamese(features, cosine_similarity.unit(self.gallery(images, training=False)), labels)
        return self.head((features, labels), training=training)

    def _semi_siamese(self, features, shown, labels):
        """Logits [B, C] of rows of pairs: each one's class has as its prototype what the gallery shows of the other."""
        logits = []
        for probe, other in ((0, 1), (1, 0)):
            self._remember(shown[other::2], labels[other::2])
            logits.append(self.head((features[probe::2], labels[probe::2]), training=True))
        return tf.reshape(tf.stack(logits, axis=1), [tf.size(labels), -1])

    def _remember(self, shown, labels):
        """Makes prototypes of rows; of several of one class their mean."""
        run, *_ = batch_runs.runs(labels)
        mean = tf.gather(tf.math.unsorted_segment_mean(shown, run, tf.size(run)), run)
        columns = tf.range(tf.shape(shown)[1])
        places = tf.stack(tf.meshgrid(columns, tf.cast(labels, tf.int32)), axis=-1)
        self.head.prototypes.scatter_nd_update(places, mean)

    # No Python branch or loop below hangs on a tensor, and looking through all that is called for one takes seconds.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, data):
        logs = super().train_step(data)
        if self.gallery is not None:
            kept = self._gallery_momentum
            for slow, fast in zip(self.gallery.variables, self.embedder.variables, strict=True):
                slow.assign(kept * slow + (1.0 - kept) * tf.cast(fast, slow.dtype))
        return logs

    def metric_loss(self, features: tf.Tensor) -> tf.Tensor:
        """m-L2 of embeddings [B, d] with its weight: float32 scalar."""
        return self._weights.metric_weight * losses.metric_l2(features, self.head.prototypes)


def build_classifier(config: config_lib.TrainConfig, counts: np.ndarray, steps_per_epoch: int) -> Classifier:
    """Builds embedder, head and what else is asked for, for classes of `counts` images; all weights made."""
    model, loss, asked = config.model, config.loss, config.head
    embedder = networks.build_embedder(model)
    cloud = _build_cloud(config, counts, steps_per_epoch)
    momentum = config.training.gallery_momentum
    head = heads.HEADS[asked.name](
        len(counts), asked.scale, asked.margin, cloud, model.weight_decay, counts, asked.options, not momentum
    )
    gallery = None
    if momentum:
        gallery = networks.build_embedder(dataclasses.replace(model, weight_decay=0.0, weights=""))
        gallery.set_weights(embedder.get_weights())
        gallery.trainable = False
    head.build([(None, model.dimension), (None,)])
    centre_loss = None
    if loss.centre_weight:
        centre_loss = losses.CentreLoss(len(counts), loss.centre_weight, loss.centre_rate)
        centre_loss.build([None, model.dimension])
    decoder = networks.build_decoder(model) if loss.reconstruction_weight else None
    return Classifier(embedder, head, loss, centre_loss, decoder, gallery, momentum)


def _build_cloud(
    config: config_lib.TrainConfig, counts: np.ndarray, steps_per_epoch: int
) -> feature_cloud.FeatureCloud | None:
    leap = config.leap
    if leap.variant == "none":
        return None
    return feature_cloud.FeatureCloud(
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
        size_power=leap.size_power,
        rank=leap.rank,
        total_steps=config.training.epochs * steps_per_epoch,
    )
