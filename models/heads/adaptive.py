"""Heads that adapt while they train: to how hard a class has become, or to the length of the embedding."""

import tensorflow as tf

from longtail.models import errors
from longtail.models.heads import base
from longtail.models.leap import angle_memory


def _batch_mean(values: tf.Tensor) -> tf.Tensor:
    """Mean of float32 [B] over the whole batch, over all replicas: each of them then updates its state alike.

    What is not finite is left out: one row that overflowed would stay in all means to come.
    """
    values = tf.stop_gradient(values)
    finite = tf.math.is_finite(values)
    sums = tf.stack([tf.reduce_sum(tf.where(finite, values, 0.0)), tf.reduce_sum(tf.cast(finite, tf.float32))])
    replicas = tf.distribute.get_replica_context()
    if replicas is not None and replicas.num_replicas_in_sync > 1:
        sums = replicas.all_reduce(tf.distribute.ReduceOp.SUM, sums)
    return tf.math.divide_no_nan(sums[0], sums[1])


class CurricularFace(base.Head):
    """ArcFace's target, and other entries that count more when they are hard, the more the further training is.

    Eq. 5: s N(t, cos theta_j) with N = c where cos(theta_y + m) >= c, and c (t + c) where not. Eq. 7: t is a running
    mean of cos theta_y, t = momentum * t + (1 - momentum) * mean, momentum 0.99. The paper has s = 64, m = 0.5. With a
    cloud, c and theta_y are the shifted ones; t follows the unshifted.

    Example: the other class is nearer than the target, hence hard: 10 * 0.8 * (0.6 + 0.8), where t is 0.6.

    >>> head = heads.CurricularFace(2, scale=10.0, margin=0.0, options={"momentum": 0.0})
    >>> head.build([(1, 2), (1,)])
    >>> head.set_weights([np.eye(2), np.zeros([])])
    >>> head((tf.constant([[3.0, 4.0]]), tf.constant([0])), training=True).numpy().round(2)
    array([[ 6. , 11.2]], dtype=float32)

    Reference: Huang et al., CurricularFace, CVPR 2020.
    """

    OPTIONS = {"momentum": base.Option(0.99, 0.0, 0.999999)}
    START = base.Start(16.0, 0.2)
    keeps_means = True
    CLOUD_FORMS = ("drawn",)  # in the other forms an entry is no cosine, and cannot be measured with t or the target

    def build(self, input_shape):
        super().build(input_shape)
        self.progress = angle_memory.add_state(self, "progress", [], tf.float32)

    def target_logit(self, target):
        momentum = self.options["momentum"]
        self.progress.assign(momentum * self.progress + (1.0 - momentum) * _batch_mean(target.cosine))
        return target.turned(self.margin)

    def others(self, logits, target_logit):
        is_hard = logits > self.scale * target_logit[:, tf.newaxis]
        return tf.where(is_hard, logits * (self.progress + logits / self.scale), logits)


class AdaFace(base.Head):
    """Target s (cos(theta_y + alpha - m z) - (m z + m)): long embeddings, clear images, get the additive margin.

    z = clip((|f| - mean) / (deviation / h), -1, 1) with no gradient, h = `concentration` 0.333; mean and deviation of
    |f| are running ones of momentum 0.99, which start as the first batch's. z = -1 gives ArcFace, z = 0 CosFace. The
    paper has s = 64, m = 0.4.

    Example: the first embedding is its own mean: z = 0, the margin of CosFace.

    >>> head = heads.AdaFace(2, scale=10.0, margin=0.2)
    >>> head.build([(1, 2), (1,)])
    >>> head.set_weights([np.eye(2), np.zeros(3)])
    >>> head((tf.constant([[3.0, 4.0]]), tf.constant([0])), training=True).numpy().round(2)
    array([[4., 8.]], dtype=float32)

    Reference: Kim et al., AdaFace, CVPR 2022, section 3.3.
    """

    OPTIONS = {"concentration": base.Option(0.333, 1e-3, 10.0), "momentum": base.Option(0.99, 0.0, 0.999999)}
    keeps_means = True

    def build(self, input_shape):
        super().build(input_shape)
        # Mean and deviation of |f|, and 1 once there is any.
        self.length_statistics = angle_memory.add_state(self, "length_statistics", [3], tf.float32)

    def target_logit(self, target):
        length = tf.clip_by_value(tf.stop_gradient(target.length), 1e-3, 1e3)
        mean, deviation = self._follow(length)
        z = tf.clip_by_value((length - mean) / (deviation / self.options["concentration"] + 1e-3), -1.0, 1.0)
        return target.turned(-self.margin * z) - self.margin * (z + 1.0)

    def _follow(self, length):
        mean = _batch_mean(length)
        deviation = tf.sqrt(_batch_mean(tf.square(length - mean)))
        momentum = self.options["momentum"] * self.length_statistics[2]  # nothing to keep before the first batch
        kept = self.length_statistics[:2]
        now = momentum * kept + (1.0 - momentum) * tf.stack([mean, deviation])
        self.length_statistics.assign(tf.concat([now, [1.0]], axis=0))
        return now[0], now[1]


class MagFace(base.Head):
    """Target s cos(theta_y + alpha + m(a)), a = |f|, and a loss that rewards length: good images become long ones.

    m(a) grows linearly from `margin` at a = `least_length` to `upper_margin` at `most_length`, outside which a is
    clipped; the added loss is lambda_g (a / most_length^2 + 1 / a). The paper has s = 64, m from 0.45 to 0.8, a from 10
    to 110 for 512 dimensions and lambda_g = `length_weight` 35.

    Example: half the way from length 10 to 110, hence half the way from 30 to 90 degrees: 60 + 60.

    >>> head = heads.MagFace(2, scale=10.0, margin=np.pi / 6, options={"upper_margin": np.pi / 2})
    >>> head.build([(1, 2), (1,)])
    >>> head.set_weights([np.eye(2)])
    >>> head((tf.constant([[30.0, 30.0 * 3.0**0.5]]), tf.constant([0])), training=True).numpy().round(2)
    array([[-5.  ,  8.66]], dtype=float32)

    Reference: Meng et al., MagFace, CVPR 2021, section 3.2.
    """

    OPTIONS = {
        "upper_margin": base.Option(0.8, 0.0, 1.6),
        "least_length": base.Option(10.0, 1e-2, 1e4),
        "most_length": base.Option(110.0, 1e-2, 1e4),
        "length_weight": base.Option(35.0, 0.0, 1e4),
    }
    START = base.Start(16.0, 0.15, {"upper_margin": 0.45, "least_length": 5.0, "most_length": 55.0})

    @classmethod
    def check_options(cls, margin, options):
        if options["least_length"] >= options["most_length"] or options["upper_margin"] < margin:
            raise errors.UsageError(
                "head.options: magface needs least_length < most_length and upper_margin >= head.margin. "
                f"Received: {dict(options)}, margin={margin}"
            )

    def target_logit(self, target):
        least, most = self.options["least_length"], self.options["most_length"]
        length = tf.clip_by_value(target.length, least, most)
        reward = length / most**2 + 1.0 / length
        self.add_loss(self.options["length_weight"] * tf.reduce_mean(reward))
        slope = (self.options["upper_margin"] - self.margin) / (most - least)
        return target.turned(self.margin + slope * (length - least))
