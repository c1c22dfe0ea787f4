"""What a study compares: methods by name, each a head with or without additions."""

import dataclasses
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from longtail.models import check
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import heads
from longtail.pipeline import recipe as recipe_lib

# The losses beside the head in feature transfer and its controls.
_BESIDE: dict[str, dict[str, Any]] = {"loss": {"metric_weight": 0.01, "reconstruction_weight": 1.0}}
# What may be added to a head, each with what it changes of the recipe.
ADDITIONS: dict[str, dict[str, dict[str, Any]]] = {
    "leap_v": {"leap": {"variant": "vanilla"}},
    "leap_f": {"leap": {"variant": "full"}},
    "noise_all": {"leap": {"variant": "noise_all"}},
    "noise_tail": {"leap": {"variant": "noise_tail"}},
    "noise_head": {"leap": {"variant": "noise_head"}},
    "directional": {"leap": {"variant": "directional"}},
    "closed": {"leap": {"form": "closed"}},
    "corrected": {"leap": {"statistics": "corrected"}},
    "class_balanced": {"loss": {"name": "class_balanced"}},
    "balanced_softmax": {"loss": {"name": "balanced_softmax"}},
    "centre": {"loss": {"centre_weight": 0.003}},
    "semi_siamese": {"training": {"gallery_momentum": 0.99, "images_per_class": 2}},
    "m_l2": {"loss": {"metric_weight": 0.01}},
    "reconstruction": {"loss": {"reconstruction_weight": 1.0}},
    "ftl": {"transfer": {"variant": "transfer"}, **_BESIDE},
    "untransferred": {"transfer": {"variant": "untransferred"}, **_BESIDE},
    "random": {"transfer": {"variant": "random"}, **_BESIDE},
    "crt": {"transfer": {"variant": "crt"}, **_BESIDE},
}
# Of what these set, the recipe's own weight stands where it has one.
_WEIGHTS = ("centre_weight", "metric_weight", "reconstruction_weight")
# What an addition changes is of the clouds that stand here.
_CHANGES = {
    "closed": ("leap_v", "leap_f", "noise_all", "noise_tail", "noise_head"),
    "corrected": ("leap_v", "leap_f"),
}
_STAGES = ("steps", "rate")  # of `transfer`
_MEMORY = ("start_epoch", "images_kept", "centre_momentum", "angle_order")
# Settings that are of use to an addition, and so may be its options.
_OPTIONS_OF = {
    "leap_v": _MEMORY,
    "leap_f": _MEMORY,
    **dict.fromkeys(("noise_all", "noise_tail", "noise_head"), ("start_epoch", "width")),
    "directional": ("start_epoch", "strength", "size_power", "rank"),
    "centre": ("centre_weight",),
    "semi_siamese": ("gallery_momentum",),
    "m_l2": ("metric_weight",),
    **dict.fromkeys(("ftl", "untransferred", "random", "crt"), ("metric_weight", *_STAGES)),
}
# The names the papers' tables have for some of them.
ALIASES = {
    "leap-cv": "cosface+leap_v",
    "leap-cf": "cosface+leap_f",
    "leap-av": "arcface+leap_v",
    "leap-af": "arcface+leap_f",
}
# Images of an identity side by side in a batch, for triplets, where the recipe has no `training.images_per_class`.
_TRIPLET_IMAGES = 4
# What stands after a method's colon, each with the recipe's section and key that it sets.
OPTIONS = {
    "s": ("head", "scale"),
    "m": ("head", "margin"),
    "start": ("leap", "start_epoch"),
    "gamma": ("leap", "centre_momentum"),
    "order": ("leap", "angle_order"),
    "P": ("leap", "images_kept"),
    "width": ("leap", "width"),
    "strength": ("leap", "strength"),
    "power": ("leap", "size_power"),
    "rank": ("leap", "rank"),
    "centre": ("loss", "centre_weight"),
    "metric": ("loss", "metric_weight"),
    "steps": ("transfer", "steps"),
    "rate": ("transfer", "rate"),
    "momentum": ("training", "gallery_momentum"),
    "K": ("training", "images_per_class"),
    "epochs": ("training", "epochs"),
}


@dataclasses.dataclass(frozen=True)
class Method:
    """A head, what is added to it, and options.

    `name` is as written, options in the order of `OPTIONS`, e.g. "leap-cv" or "cosface+centre:s=32,centre=1".

    Example:
      >>> method = parse("leap-cv:s=8,gamma=0.9", config_lib.Head())
      >>> method.plain, method.options
      ('cosface:s=8', {'s': 8.0, 'gamma': 0.9})
    """

    name: str
    head: config_lib.Head
    added: tuple[str, ...] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def plain(self) -> str:
        """Name of the same head without additions and their options, the one a method is paired with."""
        return _named(self.head.name, {key: self.options[key] for key in self.options if _is_general(key)})

    def takes(self, key: str) -> bool:
        """Whether it has what a key of `OPTIONS` sets."""
        section, setting = OPTIONS[key]
        if section == "head":
            return setting in heads.HEADS[self.head.name].TUNED
        if key in ("gamma", "order") and "corrected" in self.added:
            return False  # corrected statistics have a centre of their own
        return _is_general(key) or any(setting in _OPTIONS_OF.get(name, ()) for name in self.added)

    def with_options(self, options: Mapping[str, Any]) -> "Method":
        """The same method with further options."""
        return parse(_named(self.name.partition(":")[0], {**self.options, **options}), self.head)

    def config(self, recipe: recipe_lib.Recipe, seed: int, where: str = "--methods") -> config_lib.TrainConfig:
        """The recipe's training with this method's head, and of clouds and losses none but those it names.

        How a cloud or a loss that is named works (`leap.start_epoch`, `loss.beta`, ...) is the recipe's, but for what
        the options say.

        Raises:
          errors.UsageError: the recipe's settings do not go with the method; `where` stands before it.
        """
        changes: dict[str, dict[str, Any]] = {
            "leap": {"variant": "none", "form": "drawn", "statistics": "paper"},
            "loss": {"name": "cross_entropy", **dict.fromkeys(_WEIGHTS, 0.0)},
            "transfer": {"variant": "none"},
            "training": {"seed": seed, "gallery_momentum": 0.0},
            "head": {},
        }
        for name in self.added:
            for part, values in ADDITIONS[name].items():
                changes[part] |= values
        own = {key: getattr(recipe.loss, key) for key in _WEIGHTS}
        changes["loss"] |= {key: value for key, value in own.items() if value and changes["loss"][key]}
        if self.head.name == "triplet" and recipe.training.images_per_class < 2:
            changes["training"]["images_per_class"] = _TRIPLET_IMAGES
        for key, value in self.options.items():
            section, setting = OPTIONS[key]
            changes[section][setting] = value
        kept = ("leap", "loss", "training", "transfer")
        parts = {"head": self.head, **{part: getattr(recipe, part) for part in kept}}
        parts = {part: dataclasses.replace(before, **changes[part]) for part, before in parts.items()}
        config = dataclasses.replace(recipe.train_config(), **parts)
        self._require(config, where)
        try:
            check.check(config)
        except errors.UsageError as error:
            raise errors.UsageError(f"{where}: {self.name}: {error}") from error
        return config

    def _require(self, config: config_lib.TrainConfig, where: str) -> None:
        """Refuses an addition without what it is about, as the check of a recipe would, in words of a method."""
        named = [name for name in self.added if _asks(name, "reconstruction_weight")]
        if named and not config.model.filter:
            raise errors.UsageError(
                f"{where}: {self.name}: {named[0]} needs the rich features of a filter; take such a recipe as "
                "ftl_omniglot, or --set model.filter=true"
            )
        named = [name for name in self.added if _asks(name, "metric_weight")]
        if named and not heads.HEADS[self.head.name].takes_metric:
            takes = " or ".join(name for name, head in heads.HEADS.items() if head.takes_metric)
            raise errors.UsageError(
                f"{where}: {self.name}: {named[0]} has m-L2, which logits of cosines cannot have; add it to {takes}"
            )
        if "centre" in self.added and config.transfer.variant != "none":
            raise errors.UsageError(f"{where}: {self.name}: stages 1 have no centre loss; leave out centre")


def _asks(name: str, weight: str) -> bool:
    return bool(ADDITIONS[name].get("loss", {}).get(weight))


def names() -> tuple[str, ...]:
    """Every method without additions of one's own: the heads, and the papers' names."""
    return (*heads.HEADS, *ALIASES)


def parse(text: str, own: config_lib.Head) -> Method:
    """Reads "leap-cv", "adaface+leap_f" or, with options, "leap-cv:s=32,gamma=0.9".

    A head that is the recipe's `own` has the recipe's scale and margin, any other those of its class's `START`.

    Raises:
      errors.UsageError: unknown method or option.
    """
    base, _, after = text.partition(":")
    first, *added = base.split("+")
    head, *own_added = ALIASES.get(first, first).split("+")
    added = own_added + added
    unknown = [name for name in (head,) if name not in heads.HEADS] + [name for name in added if name not in ADDITIONS]
    if unknown:
        known = f"one of {', '.join(names())}, with + and {', '.join(ADDITIONS)}"
        raise errors.UsageError(f"--methods: unknown {unknown[0]!r} in {text!r}; {known}")
    _refuse_contradictions(text, added)
    start = own if own.name == head else _start(head)
    pairs = [option(pair, f"--methods: {text!r}") for pair in after.split(",") if pair]
    options = dict(pairs)
    if len(options) < len(pairs):
        raise errors.UsageError(f"--methods: {text!r}: an option stands twice")
    for_head = {OPTIONS[key][1]: value for key, value in options.items() if OPTIONS[key][0] == "head"}
    method = Method(_named(base, options), dataclasses.replace(start, **for_head), tuple(added), options)
    if options.get("momentum") == 0:
        raise errors.UsageError(f"--methods: {text!r}: momentum is above 0; without semi_siamese there is none")
    for key in options:
        if not method.takes(key):
            raise errors.UsageError(f"--methods: {text!r}: {base} has no {OPTIONS[key][1]}")
    return method


def option(pair: str, where: str) -> tuple[str, Any]:
    """Reads KEY=VALUE with a key of `OPTIONS`, the value of its setting's type.

    Raises:
      errors.UsageError: `where`, and what is wrong.
    """
    key, _, value = pair.partition("=")
    if key not in OPTIONS:
        raise errors.UsageError(f"{where}: unknown {key!r}; write KEY=VALUE with {', '.join(OPTIONS)}")
    section, setting = OPTIONS[key]
    kind = type(getattr(getattr(config_lib.TrainConfig(), section), setting))
    try:
        return key, kind(value)
    except ValueError as error:
        raise errors.UsageError(f"{where}: {value!r} is no {'whole ' * (kind is int)}number") from error


def _named(base: str, options: Mapping[str, Any]) -> str:
    return f"{base}:{written(options)}" if options else base


def written(options: Mapping[str, Any]) -> str:
    """Options as they stand after a method's colon, in the order of `OPTIONS`.

    Example:
      >>> written({"gamma": 0.9, "s": 8.0, "order": "before"})
      's=8,gamma=0.9,order=before'
    """
    ordered = [(key, options[key]) for key in OPTIONS if key in options]
    return ",".join(f"{key}={value if isinstance(value, str) else format(value, '.10g')}" for key, value in ordered)


def _is_general(key: str) -> bool:
    """Whether an option is of the head or of the training, and not of an addition."""
    section, setting = OPTIONS[key]
    return section in ("head", "training") and not any(setting in owned for owned in _OPTIONS_OF.values())


def _start(name: str) -> config_lib.Head:
    start = heads.HEADS[name].START
    return config_lib.Head(name, start.scale, start.margin, dict(start.options))


def _refuse_contradictions(text: str, added: Sequence[str]) -> None:
    changed = [(part, key) for name in added for part, values in ADDITIONS[name].items() for key in values]
    if len(set(changed)) < len(changed):
        raise errors.UsageError(f"--methods: {text!r}: {' and '.join(added)} exclude each other; write one of them")
    for name in added:
        if name in _CHANGES and not set(_CHANGES[name]) & set(added):
            clouds = ", ".join(_CHANGES[name])
            raise errors.UsageError(f"--methods: {text!r}: {name} changes a cloud; add one of {clouds}")
