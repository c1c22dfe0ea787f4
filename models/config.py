"""What a training is told: every setting with its default, its range and what it is, once. Imports no TensorFlow.

What a name may be, and ranges that hang on other settings, are the rules of `longtail.models.check`.
"""

import dataclasses

from longtail.models import settings

# As good as without end, and still a number that every file format and index takes.
LARGE = 10**9
SEEDS = 2**31 - 1
MAX_PIXELS = 33_177_600  # 7680 x 4320

# A constant width on some classes, whatever the memory says: controls of what LEAP's widths are worth.
NOISES = ("noise_all", "noise_tail", "noise_head")
CLOUDS = ("vanilla", "full", *NOISES, "directional")
# Where a training begins, if not with a model by its folder.
SCRATCH, BLESSED = "scratch", "blessed"
# Feature transfer, and what it is compared with: its steps without transferred features, with features moved along
# random directions, and the classifier alone trained again on balanced batches.
TRANSFERS = ("transfer", "untransferred", "random", "crt")


@dataclasses.dataclass(frozen=True)
class Model:
    """The embedder."""

    backbone: str = settings.setting("conv4", None, "network that makes the embedding")
    image: tuple[int, ...] = settings.setting((32, 32, 1), None, "height, width, channels (1 grey, 3 colour)")
    dimension: int = settings.number(128, 2, 2**20, "d, length of the embedding")
    weight_decay: float = settings.number(0.0, 0, 1, "L2 factor on convolutions, embedding and prototypes")
    weights: str = settings.text("", "local Keras weights file of the backbone; nothing is downloaded")
    filter: bool = settings.flag(False, "the filter R stands between the rich features g and the embedding")
    rich: bool = settings.flag(False, "with the filter: the served model also answers with g, as `rich`")
    width: float = settings.number(1.0, 0.05, 4, "of casianet, filter and decoder: channels as a share of the paper's")
    initializer: str = settings.choice(
        "inputs", ("inputs", "entries"), "of the same: n in uniform +-sqrt(3 / n), one output's inputs or all entries"
    )


@dataclasses.dataclass(frozen=True)
class Head:
    """The classification head: a name of `longtail.models.heads.HEADS` and its numbers."""

    name: str = settings.setting("cosface", None, "classification head")
    scale: float = settings.number(24.0, 1e-6, 1e6, "s, the length unit embeddings are stretched to")
    margin: float = settings.setting(0.2, None, "m, in the unit the head's equation gives it")
    options: dict[str, float] = settings.setting({}, None, "numbers of this head's own")


@dataclasses.dataclass(frozen=True)
class Loss:
    """What is made of the logits: a name of `longtail.models.losses.LOSSES`; a centre loss too where it has weight."""

    name: str = settings.setting("cross_entropy", None, "what is made of the logits")
    beta: float = settings.number(0.999, 0, 0.9999999, "of the effective number; 0 weighs all classes alike")
    start_epoch: int = settings.number(0, 0, LARGE, "class-balanced weights begin here")
    centre_weight: float = settings.number(0.0, 0, 1e6, "lambda of a centre loss beside it")
    centre_rate: float = settings.number(0.5, 1e-6, 1, "how fast its centres follow")
    metric_weight: float = settings.number(0.0, 0, 1e6, "weight of m-L2, |W'f|^2, beside it")
    reconstruction_weight: float = settings.number(0.0, 0, 1e6, "weight of |x' - x|^2 beside it, x' decoded from g")
    reconstruction_over: str = settings.choice("mean", ("mean", "sum"), "what is made of the pixels' squares")


@dataclasses.dataclass(frozen=True)
class Leap:
    """The feature cloud. Symbols are those of the LEAP paper (Liu et al., CVPR 2020)."""

    variant: str = settings.choice("none", ("none", *CLOUDS), "none, Eq. 6, Eq. 9, a control or a rival")
    form: str = settings.choice("drawn", ("drawn", "closed"), "noise drawn for each logit, or its expectation")
    statistics: str = settings.choice("paper", ("paper", "corrected"), "Eq. 3 to 5, or corrected for few images")
    width: float = settings.number(0.155, 0, 1.5, "radians, of the clouds noise_all, noise_tail and noise_head")
    strength: float = settings.number(1.0, 0, 1e3, "lambda of the directional cloud once risen, in the smallest class")
    size_power: float = settings.number(0.0, 0, 4, "beta: of class i lambda is (min K / K_i)^beta of that")
    rank: int = settings.number(16, 1, 2**20, "directions that the directional cloud has")
    start_epoch: int = settings.number(8, 0, LARGE, "E_0: the cloud is off before it, while the memory fills")
    images_kept: int = settings.number(3, 1, 2**20, "P: S_i = K_i P angles are kept of class i")
    centre_momentum: float = settings.number(0.1, 0, 0.999999, "gamma, weight of the previous centre")
    angle_order: str = settings.choice("after", ("after", "before"), "the angle is taken after or before centres move")
    head_threshold: int = settings.number(10, 0, LARGE, "T: classes with more images are the head")
    refresh_every: int = settings.number(1, 1, LARGE, "n: memory and centres are updated every n steps")


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Feature transfer learning. Symbols are those of its paper (Yin et al., CVPR 2019)."""

    variant: str = settings.choice("none", ("none", *TRANSFERS), "none, the paper's, or a control of it")
    energy: float = settings.number(0.95, 0, 1, "share of the head's variance that the directions Q keep", without=(0,))
    flip: bool = settings.flag(False, "class centres are of the images and of their mirror images")
    yaw_pattern: str = settings.text("", "regular expression with one group of degrees, searched in an image's path")
    most_yaw: float = settings.number(45.0, 0, 180, "tau: images turned further leave the class centres, degrees")
    alternations: int = settings.number(10, 1, LARGE, "how often stages 1 and 2 follow stage 0, which is training's")
    steps: int = settings.number(5000, 1, LARGE, "of each stage 1 and each stage 2")
    rate: float = settings.number(1e-5, 1e-12, 1e3, "the learning rate of stages 1 and 2, Adam's")
    joined: bool = settings.flag(False, "stage 1 takes one step on its three batches together, not three")

    @property
    def phases(self) -> int:
        """How many stages follow stage 0."""
        return 0 if self.variant == "none" else self.alternations * (1 if self.variant == "crt" else 2)

    def stage(self, phase: int) -> tuple[int, int]:
        """Which stage a phase is, 1 or 2, and of which alternation, from 1; crt has stages 1 alone."""
        return (1, phase + 1) if self.variant == "crt" else (1 + phase % 2, 1 + phase // 2)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far training images are moved. All zero or false: not at all."""

    shift: float = settings.number(0.0, 0, 1, "largest translation, as a fraction of the side")
    rotation: float = settings.number(0.0, 0, 180, "largest rotation, degrees")
    flip: bool = settings.flag(False, "mirror half of the images left to right")
    erase: float = settings.number(0.0, 0, 1, "probability that a rectangle is erased (Zhong et al., AAAI 2020)")


@dataclasses.dataclass(frozen=True)
class Training:
    """The optimisation."""

    epochs: int = settings.number(24, 1, LARGE, "passes over the images")
    start_from: str = settings.setting(
        SCRATCH,
        settings.Text("scratch, blessed or the folder of a model", r"(?s:.+)"),
        "scratch, the last blessed model, or an exported one by its folder",
    )
    warm_epochs: int = settings.number(0, 0, LARGE, "epochs where it starts from a model; 0: as many as epochs")
    batch: int = settings.number(128, 2, 2**20, "images a step")
    images_per_class: int = settings.setting(0, None, "K: batches of groups of K images of one identity; 0: of any")
    gallery_momentum: float = settings.number(
        0.0, 0, 0.999999, "weight of the previous gallery network in semi-Siamese training; 0: there is none"
    )
    held_out: int = settings.number(0, 0, LARGE, "images of each head identity that are only asked about, closed-set")
    optimizer: str = settings.setting("adam", None, "how weights follow gradients")
    rate: float = settings.number(2e-3, 1e-12, 1e3, "the highest learning rate")
    schedule: str = settings.setting("cosine", None, "how the learning rate goes on from there")
    warmup_epochs: float = settings.setting(0.0, None, "linear rise before a cosine")
    cycles: int = settings.number(3, 1, 2**20, "triangles of the triangular schedule")
    seed: int = settings.number(0, 0, SEEDS, "of weights, order, augmentation and clouds")
    precision: str = settings.choice(
        "float32", ("float32", "mixed_float16", "mixed_bfloat16"), "Keras' dtype policy; head and cloud stay float32"
    )
    cache_megabytes: int = settings.number(1024, 0, LARGE, "decoded images are kept in memory where they fit")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """All that decides a training but its data."""

    model: Model = dataclasses.field(default_factory=Model)
    head: Head = dataclasses.field(default_factory=Head)
    loss: Loss = dataclasses.field(default_factory=Loss)
    leap: Leap = dataclasses.field(default_factory=Leap)
    transfer: Transfer = dataclasses.field(default_factory=Transfer)
    augment: Augmentation = dataclasses.field(default_factory=Augmentation)
    training: Training = dataclasses.field(default_factory=Training)

    @property
    def epochs(self) -> int:
        """How often a training is saved: after each epoch of `training`, and after each phase of `transfer`."""
        return self.training.epochs + self.transfer.phases
