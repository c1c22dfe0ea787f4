"""The base of the heads: it owns the flow from embedding to logits; a head overrides a hook or two."""

import types
from collections.abc import Mapping
from collections.abc import Sequence
from typing import ClassVar
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import settings
from longtail.models.heads import cosine_similarity
from longtail.models.leap import closed_form
from longtail.models.leap import cloud_noise
from longtail.models.leap import directional
from longtail.models.leap import feature_cloud

COSINE_LIMIT = cloud_noise.COSINE_LIMIT
shifted_cosine = cloud_noise.shifted_cosine


class Target(NamedTuple):
    """What is known of each row and its target class, all [B].

    `cosine` float32, cos theta_y; `alpha` float32, the cloud's turn in radians, 0 without a cloud; `length` float32,
    |f| before normalisation; `label` int32; `shrinkage` float32, what the cosine of a turned angle is multiplied by, 1
    but for a cloud in closed form.

    Example: the entry of an embedding of length 5 in an angle of 60 degrees to its class's weight, turned by none.

    >>> one, still = tf.constant([1]), tf.constant([0.0])
    >>> target = heads.Target(tf.constant([0.5]), alpha=still, length=tf.constant([5.0]), label=one)
    >>> heads.CosFace(2, margin=0.2).target_logit(target).numpy().round(2)
    array([0.3], dtype=float32)
    """

    cosine: tf.Tensor
    alpha: tf.Tensor
    length: tf.Tensor
    label: tf.Tensor
    shrinkage: tf.Tensor | float = 1.0

    def turned(self, angle: tf.Tensor | float = 0.0) -> tf.Tensor:
        """cos(clip(theta_y + alpha + angle, 0, pi)), float32 [B]; of a cloud in closed form its mean over alpha."""
        return shifted_cosine(self.cosine, self.alpha + angle) * self.shrinkage


class Option(NamedTuple):
    """A number of one head's own: what it is by default, from where to where it may be, and whether it is a count.

    Example:

    >>> heads.SubCentreArcFace.OPTIONS["sub_centres"]
    Option(default=3, least=1, most=64, whole=True)
    """

    default: float
    least: float
    most: float
    whole: bool = False

    @property
    def allowed(self) -> settings.Number:
        """What the number may be."""
        return settings.Number(self.least, self.most, self.whole)


class Start(NamedTuple):
    """Scale, margin and options from which a study tries a head that its recipe does not set.

    Example:

    >>> heads.ArcFace.START.scale, heads.ArcFace.START.margin
    (16.0, 0.2)
    """

    scale: float
    margin: float
    options: Mapping[str, float] = types.MappingProxyType({})


class Head(tf.keras.layers.Layer):
    """Base of the heads: weights W [d, C], cosines, the cloud, and the target's entry replaced by `target_logit`.

    Called with (features [B, d], labels int [B]); answers float32 logits [B, C], to be put through softmax
    cross-entropy. At inference (training=False) logits carry neither margin nor cloud. A head of your own is traced as
    it is: no Python branch or loop in it may hang on a tensor (`tf.where` does).

    Args:
      classes: C.
      scale: s, the length the unit embeddings are stretched to.
      margin: m, in the unit the head's equation gives it.
      cloud: a `feature_cloud.FeatureCloud`, or None for the plain head.
      weight_decay: L2 factor on W.
      counts: int [C], K_i: distinct images of each class; for heads that weigh classes by them.
      options: numbers of this head's own, over the defaults of `OPTIONS`.
      trains_prototypes: whether W is trained; or else given by who calls, as in semi-Siamese training.

    Example: a head whose target is half its cosine, met by an embedding with the cosines 0.6 and 0.8.

    >>> class Half(heads.Head):
    ...     def target_logit(self, target):
    ...         return target.cosine / 2.0
    >>> head = Half(classes=2, scale=10.0)
    >>> head.build([(1, 2), (1,)])
    >>> head.set_weights([np.eye(2)])
    >>> head((tf.constant([[3.0, 4.0]]), tf.constant([0])), training=True).numpy()
    array([[3., 8.]], dtype=float32)
    """

    MARGINS: ClassVar[tuple[float, float]] = (0.0, 1.6)
    OPTIONS: ClassVar[Mapping[str, Option]] = {}
    TUNED: ClassVar[tuple[str, ...]] = ("scale", "margin")  # which of them the head's equation has
    # CosFace's in LEAP's re-ID experiments (Liu et al., CVPR 2020, section 4.1). A head of another paper has the scale
    # of the one it varies and a margin of that size: its own paper's are for a million faces.
    START: ClassVar[Start] = Start(24.0, 0.2)
    takes_metric = False  # m-L2: only where logits are W' f, and not cosines
    keeps_means = False  # whether calling it in training moves running means of its own
    # The forms of a cloud that go with the head's equation: drawn turns of the angles, their mean in closed form, and
    # the directional one. None for a head that has no angles.
    CLOUD_FORMS: ClassVar[tuple[str, ...]] = ("drawn", "closed", "directional")

    def __init__(
        self,
        classes: int,
        scale: float = config_lib.Head.scale,
        margin: float = config_lib.Head.margin,
        cloud: feature_cloud.FeatureCloud | None = None,
        weight_decay: float = 0.0,
        counts: npt.ArrayLike | None = None,
        options: Mapping[str, float] | None = None,
        trains_prototypes: bool = True,
        **kwargs,
    ):
        kwargs["dtype"] = "float32"  # logits are float32 also under mixed precision
        super().__init__(autocast=False, **kwargs)
        if classes < 2:
            raise errors.UsageError(f"`classes` must be at least 2. Received: {classes}")
        settings.check_values(config_lib.Head, "head.", scale=scale)
        settings.require(f"head.margin of {type(self).__name__}", margin, settings.Number(*self.MARGINS))
        if cloud is not None:
            self.check_cloud(cloud.form)
        for name, given in (("cloud", cloud and cloud.memory.counts), ("counts", counts)):
            if given is not None and np.size(given) != classes:
                raise errors.UsageError(
                    f"`{name}` counts {np.size(given)} classes and the head {classes}; both come from the census"
                )
        self.classes = classes
        self.scale = scale
        self.margin = margin
        self.cloud = cloud
        self.weight_decay = weight_decay
        self.counts = None if counts is None else np.asarray(counts, np.int64)
        self.trains_prototypes = trains_prototypes
        self.options = self.read_options(options or {})
        self.check_options(margin, self.options)

    @classmethod
    def check_cloud(cls, form: str) -> None:
        """Refuses a cloud whose form does not go with the head's equation.

        Raises:
          errors.UsageError: the form, and those it takes.
        """
        if form not in cls.CLOUD_FORMS:
            name = cls.__name__
            raise errors.UsageError(
                f"{name} takes no {form} cloud; {' or '.join(cls.CLOUD_FORMS)} go with it"
                if cls.CLOUD_FORMS
                else f"{name} has no angles for a feature cloud; use a margin head"
            )

    @classmethod
    def allowed_options(cls) -> settings.Table:
        """What `head.options` may hold with this head."""
        return settings.Table({name: option.allowed for name, option in cls.OPTIONS.items()})

    @classmethod
    def read_options(cls, options: Mapping[str, float]) -> dict[str, float]:
        """All options of this head, the given ones over the defaults.

        Raises:
          errors.UsageError: an option this head does not have, or one out of range.
        """
        settings.require("head.options", options, cls.allowed_options())
        return {name: float(options.get(name, option.default)) for name, option in cls.OPTIONS.items()}

    @classmethod
    def check_options(cls, margin: float, options: Mapping[str, float]) -> None:
        """Refuses options that contradict each other or the margin.

        Raises:
          errors.UsageError: they do.
        """

    def build(self, input_shape):
        dimension = input_shape[0][-1]
        decays = self.weight_decay and self.trains_prototypes
        self.prototypes = self.add_weight(
            "prototypes",
            shape=[dimension, self.columns],
            initializer=self.initializer,
            regularizer=tf.keras.regularizers.L2(self.weight_decay) if decays else None,
            trainable=self.trains_prototypes,
        )
        if self.cloud is not None:
            self.cloud.build([None, dimension])
        super().build(input_shape)

    @property
    def initializer(self) -> str | tf.keras.initializers.Initializer:
        """Of the prototypes."""
        return "glorot_uniform"

    @property
    def columns(self) -> int:
        """How many prototypes there are: C, unless a class has several."""
        return self.classes

    def class_weights(self) -> dict[str, tf.Variable]:
        """Weights [..., C k] of which each class has columns of its own: a later training takes them over by name."""
        return {"prototypes": self.prototypes}

    def get_config(self):
        return {
            **super().get_config(),
            "classes": self.classes,
            "scale": self.scale,
            "margin": self.margin,
            "cloud": tf.keras.layers.serialize(self.cloud) if self.cloud else None,
            "weight_decay": self.weight_decay,
            "counts": None if self.counts is None else self.counts.tolist(),
            "options": dict(self.options),
            "trains_prototypes": self.trains_prototypes,
        }

    @classmethod
    def from_config(cls, config):
        cloud = config.pop("cloud", None)
        if cloud:
            scope = {"FeatureCloud": feature_cloud.FeatureCloud}
            cloud = tf.keras.layers.deserialize(cloud, custom_objects=scope)
        return cls(cloud=cloud, **config)

    def products(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Unit features times prototypes, float32 [B, C], and float32 [C] by which to multiply them to have cosines."""
        products = tf.matmul(cosine_similarity.unit(features), self.prototypes)
        return products, cosine_similarity.inverse_lengths(self.prototypes)

    def cosines(self, features: tf.Tensor) -> tf.Tensor:
        """float32 [B, C]: cosine of the angle between each embedding and each class weight."""
        products, inverse = self.products(features)
        return products * inverse

    def prototype_lengths(self) -> tf.Tensor | None:
        """float32 [C]: how long each class's weight is (a class of several: their mean); None without prototypes."""
        return tf.sqrt(cosine_similarity.squared_lengths(self.prototypes))

    def target_logit(self, target: Target) -> tf.Tensor:
        """What takes the place of the target's cosine, before scaling: float32 [B]."""
        return target.turned()

    def others(self, logits: tf.Tensor, target_logit: tf.Tensor) -> tf.Tensor:
        """What becomes of the other entries: float32 [B, C] from scaled cosines and `target_logit`'s answer [B].

        The targets' entries are replaced afterwards.
        """
        return logits

    def call(self, inputs: Sequence[tf.Tensor], training: bool = False) -> tf.Tensor:
        features, labels = inputs
        if not training:
            return self.scale * self.cosines(features)
        labels = tf.cast(labels, tf.int32)
        if self.cloud is not None and self.cloud.form == "directional":
            logits, target = self._directional(self.cloud, features, labels)
        else:
            logits, target = self._angular(features, labels)
        logit = self.target_logit(target)
        return cosine_similarity.scatter_target(self.others(logits, logit), labels, self.scale * logit)

    def _angular(self, features, labels):
        """Scaled cosines [B, C], each turned by the cloud or as its noise makes it on average; and the target."""
        products, inverse = self.products(features)
        products, cosine = cosine_similarity.gather_target(products, labels)
        cosine = cosine * tf.gather(inverse, labels)
        target = Target(cosine, tf.zeros_like(cosine), cosine_similarity.lengths(features), labels)
        if self.cloud is None:
            return products * (self.scale * inverse), target
        width, keys = self.cloud.spread(features, labels)
        if self.cloud.form == "closed":
            logits = closed_form.expected_logits(products, inverse, self.scale, width)
            return logits, target._replace(shrinkage=tf.exp(-0.5 * tf.square(width)))
        alpha = width * cloud_noise.draw(keys, tf.bitcast(labels, tf.uint32))
        logits = cloud_noise.clouded_cosines(products, inverse, self.scale, width, keys)
        return logits, target._replace(alpha=alpha)

    def _directional(self, cloud, features, labels):
        """`directional.expected_logits` [B, C]; the target."""
        strength, root = cloud.directions(features, labels)
        unit, inverse = cosine_similarity.unit(features), cosine_similarity.inverse_lengths(self.prototypes)
        logits, cosine = directional.expected_logits(unit, labels, self.prototypes, inverse, self.scale, strength, root)
        return logits, Target(cosine, tf.zeros_like(cosine), cosine_similarity.lengths(features), labels)
