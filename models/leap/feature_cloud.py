"""The feature cloud of LEAP, its controls and its rivals: how far an embedding is turned away from its class's cone."""

import numpy.typing as npt
import tensorflow as tf

from longtail.models import config
from longtail.models import errors
from longtail.models import head_tail
from longtail.models import settings
from longtail.models.leap import angle_memory
from longtail.models.leap import class_scatter
from longtail.models.leap import cloud_noise

# Apart from the words that shuffle and augment, which are seed, epoch and step below 2^34: a cloud drawn from those
# would hang on the order of the images.
_DRAWS = 2**62
# What asks for head classes: the width of one, and the classes of the other.
_NEED_HEAD = ("vanilla", "noise_head")


class FeatureCloud(tf.keras.layers.Layer):
    """Draws the angle alpha by which every logit of a training sample is shifted.

    Vanilla (Eq. 6): a tail class draws from N(0, max(0, head variance - own variance)); head classes draw nothing.
    Full (Eq. 9): any class below the pooled variance draws from N(0, pooled variance - own variance). Each sample
    draws once for every class (alpha in R^{1 x C}): the same draw for all classes was measured to do nothing.

    Controls: noise_all, noise_tail and noise_head draw from N(0, width^2) for all classes, for the tail or for the head
    alone, whatever the memory says.

    Any of these may be drawn, or stand in closed form: no draw, and each logit as its noise makes it on average
    (`closed_form.expected_logits`).

    Directional: a rival. All classes have one Sigma, the widest directions of the within-class scatter of
    `class_scatter`, and the expectation of the exponential over N(f, lambda_y Sigma) in closed form: logit j of a row
    of class y becomes s cos theta_j + s^2 / 2 lambda_y (w_j - w_y)' Sigma (w_j - w_y), w the unit prototypes. lambda_y
    = lambda (min_i K_i / K_y)^beta, and lambda rises from 0 at `start_step` to `strength` over half of all steps. It
    makes O(B C d) of the cosines O((B + rank) C d).

    Args:
      counts: int [C], K_i: distinct images of each class.
      variant: of `config.CLOUDS`.
      start_step: the cloud is off before this step; the memory fills from the first.
      refresh_every: n; memory, centres and scatter take in the batch of every n-th step (the face recipe has 5).
      head_threshold: T of the vanilla cloud; classes with K_i > T are head classes.
      seed: of the draws, which are a function of (seed, step): a resumed run draws what an uninterrupted one would.
      images_kept, centre_momentum, angle_order, statistics: of `angle_memory.AngleMemory`.
      form: "drawn" or "closed"; a directional cloud has but one.
      width: standard deviation of alpha in the controls, radians.
      strength: lambda of the directional cloud once it has risen.
      size_power: beta; 0 gives all classes the same lambda_y, 1 one that falls with the number of their images.
      rank: r, directions of Sigma that the directional cloud has; all where there are no more.
      total_steps: of the training, for that rise; 0 for none.

    Example: class 0 has angles of variance pi^2 / 8, class 1 of variance 0; pooled they have pi^2 / 16. Class 0 is
    wider than that and draws nothing; class 1 draws with a standard deviation of pi / 4.

    >>> cloud = feature_cloud.FeatureCloud(counts=[2, 2], variant="full", angle_order="before")
    >>> for batch in ([[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]):
    ...     alpha = cloud(tf.constant(batch), labels=tf.constant([0, 1]))
    >>> cloud.widths().numpy() / np.pi, alpha.shape
    (array([0.  , 0.25], dtype=float32), TensorShape([2, 2]))

    Reference: Liu et al., CVPR 2020, Eq. 6 to 9. Directional: Wang et al., Implicit Semantic Data Augmentation,
    NeurIPS 2019, with one Sigma for all classes, of unit embeddings; for long tails Li et al., MetaSAug, CVPR
    2021.
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
        statistics: str = config.Leap.statistics,
        form: str = config.Leap.form,
        width: float = config.Leap.width,
        strength: float = config.Leap.strength,
        size_power: float = config.Leap.size_power,
        rank: int = config.Leap.rank,
        total_steps: int = 0,
        **kwargs,
    ):
        kwargs["dtype"] = "float32"
        super().__init__(autocast=False, **kwargs)
        settings.require("`variant`", variant, settings.Choice(config.CLOUDS))
        for name, steps in (("start_step", start_step), ("total_steps", total_steps)):
            settings.require(f"`{name}`", steps, settings.Number(0, 2**62, whole=True))
        settings.check_values(
            config.Leap,
            "leap.",
            refresh_every=refresh_every,
            form=form,
            width=width,
            strength=strength,
            size_power=size_power,
            rank=rank,
        )
        self.variant = variant
        self.form = "directional" if variant == "directional" else form
        self.width = width
        self.strength = strength
        self.size_power = size_power
        self.rank = rank
        self.total_steps = total_steps
        self.start_step = start_step
        self.refresh_every = refresh_every
        self.seed = seed
        self.memory = angle_memory.AngleMemory(
            counts, images_kept, centre_momentum, angle_order, head_threshold, statistics, name="angle_memory"
        )
        self.scatter = None
        if variant == "directional":
            self.scatter = class_scatter.ClassScatter(len(self.memory.counts), rank, name="class_scatter")
        if variant in _NEED_HEAD and not head_tail.is_head(self.memory.counts, head_threshold).any():
            raise errors.UsageError(
                f"`leap.head_threshold` must leave a head class (K_i > T). Received: T={head_threshold}, "
                f"largest K_i={self.memory.counts.max()}; lower it, or set leap.variant to full"
            )

    def build(self, input_shape):
        self.memory.build(input_shape)
        if self.scatter is not None:
            self.scatter.build(input_shape)
            with tf.init_scope():  # C numbers, which no graph that is traced should hold
                shares = (self.memory.counts.min() / self.memory.counts) ** self.size_power
                self._shares = tf.constant(shares, tf.float32)  # of lambda
        self.step = angle_memory.add_state(self, "step", [], tf.int64)
        # A Keras metric: `fit` starts it anew each epoch, logs it, and adds up what the replicas counted. Float64
        # counts every sample of any epoch.
        self.clouded = tf.keras.metrics.Mean("samples_with_cloud", dtype="float64")
        super().build(input_shape)

    def get_config(self):
        memory = self.memory.get_config()
        shared = ("counts", "images_kept", "centre_momentum", "angle_order", "head_threshold", "statistics")
        return {
            **super().get_config(),
            **{key: memory[key] for key in shared},
            "variant": self.variant,
            "start_step": self.start_step,
            "refresh_every": self.refresh_every,
            "seed": self.seed,
            "form": "closed" if self.form == "closed" else "drawn",
            "width": self.width,
            "strength": self.strength,
            "size_power": self.size_power,
            "rank": self.rank,
            "total_steps": self.total_steps,
        }

    def call(self, features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Takes a batch into the memory and draws its cloud; not of a directional one.

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
        step = self._next_step()
        variance, known = self.memory(features, labels, self._is_due(step))
        width = tf.where(step >= self.start_step, self._width(variance, known, labels), 0.0)
        self.clouded.update_state(width > 0.0)
        return width, self._keys(tf.size(labels), step)

    def directions(self, features: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Takes a batch into memory and scatter; answers what a directional cloud is. Arguments are those of `call`.

        Returns:
          float32 [B], lambda_y at this step, 0 before `start_step`; and float32 [d, r], R with R R' = Sigma.
        """
        assert self.scatter is not None
        step = self._next_step()
        is_due = self._is_due(step)
        self.memory(features, labels, is_due)
        root = self.scatter(features, labels, is_due)
        strength = self._strength(step) * tf.gather(self._shares, labels)
        self.clouded.update_state(strength > 0.0)
        return strength, root

    def widths(self) -> tf.Tensor:
        """float32 [C]: standard deviation of alpha in each class, radians; zeros before a step had a cloud. O(C).

        Of a directional cloud that of a turn in one of d - 1 directions, on average: sqrt(lambda_i tr Sigma / (d - 1)).
        """
        if self.scatter is not None:
            wide = self._strength(self.step - 1) * tf.reduce_sum(tf.square(self.scatter.root()))
            width = tf.sqrt(wide * self._shares / (self.scatter.sigma.shape[0] - 1))
        else:
            everyone = tf.range(len(self.memory.counts), dtype=tf.int64)
            variance, known = self.memory.variance(everyone)
            width = self._width(tf.cast(variance, tf.float32), known, everyone)
        return tf.where(self.step > self.start_step, width, 0.0)

    def _next_step(self):
        step = self.step + 0
        self.step.assign_add(1)
        return step

    def _is_due(self, step):
        return True if self.refresh_every == 1 else tf.equal(step % self.refresh_every, 0)

    def _strength(self, step):
        rise = max(self.total_steps // 2, 1)
        risen = tf.clip_by_value(tf.cast(step + 1 - self.start_step, tf.float32) / rise, 0.0, 1.0)
        return self.strength * risen

    def _keys(self, rows, step):
        replica = tf.distribute.get_replica_context()
        lane = 0 if replica is None else replica.replica_id_in_sync_group
        seed = tf.stack([tf.constant(_DRAWS + self.seed, tf.int64) + tf.cast(lane, tf.int64) * 2**32, step])
        return cloud_noise.row_keys(rows, seed)

    def _width(self, variance, known, labels):
        """Standard deviation of alpha for classes `labels` of the given variance: float32, radians."""
        is_head = tf.gather(self.memory.is_head, labels)
        if self.variant in config.NOISES:
            everyone = tf.ones_like(is_head)
            chosen = {"noise_all": everyone, "noise_tail": tf.logical_not(is_head), "noise_head": is_head}
            return tf.where(chosen[self.variant], self.width, 0.0)
        variance, known = self.memory.shrunk(labels, variance, known)
        if self.variant == "full":
            wanted, has_cloud = self.memory.pooled_variance(), known
        else:
            wanted = self.memory.head_variance()
            has_cloud = tf.logical_and(known, tf.logical_not(is_head))
        lacking = tf.maximum(wanted - variance, 0.0)
        return tf.sqrt(tf.where(has_cloud, lacking, 0.0))
