"""The feature cloud of LEAP: how far, and where, an embedding is turned away from its class's narrow cone."""

import numpy.typing as npt
import tensorflow as tf

from longtail.models import config
from longtail.models import errors
from longtail.models import head_tail
from longtail.models import settings
from longtail.models.leap import angle_memory
from longtail.models.leap import cloud_noise


class FeatureCloud(tf.keras.layers.Layer):
    """Draws the angle alpha by which every logit of a training sample is shifted.

    Vanilla (Eq. 6): a tail class draws from N(0, max(0, head variance - own variance)); head classes draw nothing.
    Full (Eq. 9): any class below the pooled variance draws from N(0, pooled variance - own variance). Each sample
    draws once for every class (alpha in R^{1 x C}): the same draw for all classes was measured to do nothing.

    Args:
      counts: int [C], K_i: distinct images of each class.
      variant: "vanilla" or "full".
      start_step: the cloud is off before this step; the memory fills from the first.
      refresh_every: n; the cloud's width is read anew every n steps (the face recipe has 5).
      head_threshold: T of the vanilla cloud; classes with K_i > T are head classes.
      seed: of the draws, which are a function of (seed, step): a resumed run draws what an uninterrupted one would.
      images_kept, centre_momentum, angle_order: of `angle_memory.AngleMemory`.

    Example: class 0 has angles of variance pi^2 / 8, class 1 of variance 0; pooled they have pi^2 / 16. Class 0 is
    wider than that and draws nothing; class 1 draws with a standard deviation of pi / 4.

    >>> cloud = feature_cloud.FeatureCloud(counts=[2, 2], variant="full", angle_order="before")
    >>> for batch in ([[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]):
    ...     alpha = cloud(tf.constant(batch), labels=tf.constant([0, 1]))
    >>> cloud.widths().numpy() / np.pi, alpha.shape
    (array([0.  , 0.25], dtype=float32), TensorShape([2, 2]))

    Reference: Liu et al., CVPR 2020, Eq. 6 to 9.
    """

    def __init__(
        self,
        counts: npt.ArrayLike,
        variant: str = "full",
        start_step: int = 0,
        refresh_every: int = config.Leap.refresh_every,
        head_threshold: int = config.Leap.head_threshold,
        seed: int = config.Training.seed,
        images_kept: int = config.Leap.images_kept,
        centre_momentum: float = config.Leap.centre_momentum,
        angle_order: str = config.Leap.angle_order,
        **kwargs,
    ):
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)
        settings.require("`variant`", variant, settings.Choice(config.CLOUDS))
        settings.require("`start_step`", start_step, settings.Number(0, 2**62, whole=True))
        settings.check_values(config.Leap, "leap.", refresh_every=refresh_every)
        self.variant = variant
        self.start_step = start_step
        self.refresh_every = refresh_every
        self.seed = seed
        self.memory = angle_memory.AngleMemory(
            counts, images_kept, centre_momentum, angle_order, head_threshold, name="angle_memory"
        )
        if variant == "vanilla" and not head_tail.is_head(self.memory.counts, head_threshold).any():
            raise errors.UsageError(
                f"`leap.head_threshold` must leave a head class (K_i > T). Received: T={head_threshold}, "
                f"largest K_i={self.memory.counts.max()}; lower it, or set leap.variant to full"
            )

    def build(self, input_shape):
        self.memory.build(input_shape)
        self.step = angle_memory.add_state(self, "step", [], tf.int64)
        if self.refresh_every > 1:
            self.snapshot = angle_memory.add_state(self, "snapshot", [len(self.memory.counts)], tf.float32)
        # A Keras metric: `fit` starts it anew each epoch, logs it, and adds up what the replicas counted. Float64
        # counts every sample of any epoch.
        self.clouded = tf.keras.metrics.Mean("samples_with_cloud", dtype="float64")
        super().build(input_shape)

    def get_config(self):
        memory = self.memory.get_config()
        shared = ("counts", "images_kept", "centre_momentum", "angle_order", "head_threshold")
        return {
            **super().get_config(),
            **{key: memory[key] for key in shared},
            "variant": self.variant,
            "start_step": self.start_step,
            "refresh_every": self.refresh_every,
            "seed": self.seed,
        }

    def call(self, features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Takes a batch into the memory and draws its cloud.

        Args:
          features: [B, d] embeddings after the last batch normalisation, any float dtype; no gradient flows.
          labels: int [B], class ids.

        Returns:
          float32 [B, C], alpha in radians; zeros before `start_step` and for rows whose class has no cloud.
        """
        width, keys = self.spread(features, labels)
        columns = tf.range(len(self.memory.counts), dtype=tf.int32)
        return width[:, tf.newaxis] * cloud_noise.draw(keys[:, tf.newaxis, :], tf.bitcast(columns, tf.uint32))

    def spread(self, features: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes a batch into the memory; answers how wide its cloud is and what it is drawn from.

        A head makes each alpha where it needs it, as width * `cloud_noise.draw` of the row's key and the class, so
        that no [B, C] of them is ever stored. Arguments are those of `call`.

        Returns:
          float32 [B], the standard deviation of alpha in each row, radians, 0 where there is no cloud; and uint32
          [B, 3], the rows' keys, a function of (seed, replica, step, row).
        """
        variance, known = self.memory(features, labels)
        width = self._width(variance, known, labels)
        if self.refresh_every > 1:
            width = self._refreshed(labels)
        step = self.step + 0
        self.step.assign_add(1)
        width = tf.where(step >= self.start_step, width, 0.0)
        self.clouded.update_state(width > 0.0)
        return width, self._keys(tf.size(labels), step)

    def widths(self) -> tf.Tensor:
        """float32 [C]: standard deviation of alpha in each class, radians; zeros before a step had a cloud. O(C)."""
        if self.refresh_every > 1:
            width = self.snapshot + 0.0
        else:
            width = self._widths()
        return tf.where(self.step > self.start_step, width, 0.0)

    def _keys(self, rows, step):
        replica = tf.distribute.get_replica_context()
        lane = 0 if replica is None else replica.replica_id_in_sync_group
        seed = tf.stack([tf.constant(self.seed, tf.int64) + tf.cast(lane, tf.int64) * 2**32, step])
        return cloud_noise.row_keys(rows, seed)

    def _width(self, variance, known, labels):
        """Standard deviation of alpha for classes `labels` of the given variance: float32, radians."""
        if self.variant == "full":
            wanted, has_cloud = self.memory.pooled_variance(), known
        else:
            wanted = self.memory.head_variance()
            has_cloud = tf.logical_and(known, tf.logical_not(tf.gather(self.memory.is_head, labels)))
        lacking = tf.maximum(wanted - variance, 0.0)
        return tf.sqrt(tf.where(has_cloud, lacking, 0.0))

    def _widths(self):
        everyone = tf.range(len(self.memory.counts), dtype=tf.int64)
        variance, known = self.memory.variance(everyone)
        return self._width(tf.cast(variance, tf.float32), known, everyone)

    def _refreshed(self, labels):
        due = tf.equal(self.step % self.refresh_every, 0)
        self.snapshot.assign(tf.cond(due, self._widths, lambda: self.snapshot + 0.0))
        return tf.gather(self.snapshot, labels)
