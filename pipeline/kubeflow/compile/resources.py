"""What each step's container gets of a cluster: image, CPU, memory, accelerators, nodes, retries, cache."""

import dataclasses
import difflib
import re
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import yaml

from longtail.models import errors
from longtail.models import settings

_QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_EFFECTS = ("", "NoSchedule", "PreferNoSchedule", "NoExecute")
_LABEL = re.compile(r"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")


@dataclasses.dataclass(frozen=True)
class Toleration:
    """Of a taint, as Kubernetes has it; without an operator of any value, or of the `value` that is given."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""


@dataclasses.dataclass(frozen=True)
class Step:
    """One container's; None where the default's holds, and Kubernetes' own where that has none.

    `cpu` and `memory` are limits, and what is asked for unless the `_request`s say less, all as Kubernetes writes them.
    `cache` overrules which steps Kubeflow may answer from its cache.
    """

    image: str | None = None
    cpu: str | None = None
    cpu_request: str | None = None
    memory: str | None = None
    memory_request: str | None = None
    accelerator: str | None = None
    accelerators: int | None = None
    node_selector: dict[str, str] | None = None
    tolerations: tuple[Toleration, ...] | None = None
    env: dict[str, str] | None = None
    retries: int | None = None
    cache: bool | None = None


@dataclasses.dataclass(frozen=True)
class Resources:
    """Of every step, and of single ones over it."""

    default: Step = dataclasses.field(default_factory=Step)
    steps: dict[str, Step] = dataclasses.field(default_factory=dict)

    def of(self, name: str) -> Step:
        """What holds for a step: its own word, else the default's, else the house's."""
        result = Step()
        for layer in (_HOUSE.default, _HOUSE.steps.get(name), self.default, self.steps.get(name)):
            said = {key: value for key, value in vars(layer or Step()).items() if value is not None}
            result = dataclasses.replace(result, **said)
        return _within_limits(result)

    def on(self, name: str, **changes: Any) -> "Resources":
        """The same with changes of one step."""
        changed = dataclasses.replace(self.steps.get(name, Step()), **changes)
        return dataclasses.replace(self, steps={**self.steps, name: changed})


def _within_limits(step: Step) -> Step:
    """A step which asks for no more than its limits: a smaller limit than the house asks for is meant to hold."""
    return dataclasses.replace(step, **{request: getattr(step, limit) for limit, request in _exceeded(step)})


def _exceeded(step: Step) -> Iterator[tuple[str, str]]:
    """The keys of limits, and of requests beyond them, which Kubernetes refuses."""
    for limit, request in _PAIRS:
        most, asked = getattr(step, limit), getattr(step, request)
        if most is not None and asked is not None and amount(asked) > amount(most):
            yield limit, request


def with_trainer(given: Resources, gpus: int | None, node_selector: Iterable[str]) -> Resources:
    """Puts what the command line says of the Trainer over a file's.

    Raises:
      errors.UsageError: a label that is none.
    """
    changes: dict[str, Any] = {} if gpus is None else {"accelerators": gpus}
    labels = {}
    for label in node_selector:
        key, equals, value = label.partition("=")
        if not equals:
            raise errors.UsageError(f"--node-selector {label}: write KEY=VALUE, a label of the nodes")
        labels[key] = value
    if labels:
        changes["node_selector"] = labels
    result = given.on("Trainer", **changes) if changes else given
    check(result.steps.get("Trainer", Step()), "--node-selector")
    return result


_PAIRS = (("cpu", "cpu_request"), ("memory", "memory_request"))

# Imports of TensorFlow and TFX alone take 1.5 GB. A refused span is refused again: nothing is gained by a retry.
_HOUSE = Resources(
    Step(cpu="2", cpu_request="1", memory="4Gi", memory_request="2Gi", accelerator="nvidia.com/gpu", retries=2),
    {"Trainer": Step(cpu="4", cpu_request="2", memory="8Gi", memory_request="4Gi"), "DriftGate": Step(retries=0)},
)


def load(path: str) -> Resources:
    """Reads a YAML file.

    Raises:
      errors.UsageError: no such file, no YAML, an unknown key, or a value that cannot be.
    """
    try:
        with open(path, encoding="utf-8") as file:
            mapping = yaml.safe_load(file) or {}
    except OSError as error:
        raise errors.UsageError(f"--resources {path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"--resources {path}: not YAML ({' '.join(str(error).split())})") from error
    given = settings.read(Resources, _texts(mapping), path)
    check(given.default, f"{path}: default")
    for name, step in given.steps.items():
        check(step, f"{path}: steps.{name}")
    return given


def check_steps(given: Resources, steps: Iterable[str]) -> None:
    """Refuses the name of a step that a pipeline does not have.

    Raises:
      errors.UsageError: the name, and the nearest there is.
    """
    known = sorted(steps)
    for name in given.steps:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}"
            raise errors.UsageError(f"resources: steps.{name}: no such step; {hint}")


def check(step: Step, where: str) -> None:
    """Refuses what Kubernetes would refuse.

    Raises:
      errors.UsageError: the key, what it holds, and what it may hold.
    """
    for key in ("cpu", "cpu_request", "memory", "memory_request"):
        value = getattr(step, key)
        if value is not None and not _QUANTITY.fullmatch(value):
            raise errors.UsageError(f"{where}.{key}: {value!r} is no quantity of Kubernetes; write 2, 500m or 8Gi")
    for limit, request in _exceeded(step):
        asked, most = getattr(step, request), getattr(step, limit)
        raise errors.UsageError(f"{where}.{request}: {asked} is more than the limit, {limit}: {most}")
    for key in ("accelerators", "retries"):
        value = getattr(step, key)
        if value is not None and value < 0:
            raise errors.UsageError(f"{where}.{key}: must be 0 or more, not {value}")
    for key, value in (step.node_selector or {}).items():
        if not _LABEL.fullmatch(key) or (value and not _LABEL.fullmatch(value)):
            raise errors.UsageError(f"{where}.node_selector: {key}={value} is no label of a node; write name: value")
    for name in step.env or {}:
        if not _VARIABLE.fullmatch(name):
            raise errors.UsageError(f"{where}.env: {name!r} is no name of a variable; use letters, digits and '_'")
    for toleration in step.tolerations or ():
        _check_toleration(toleration, f"{where}.tolerations")
    if step.image is not None and (not step.image or set(step.image) & set(" \t\n")):
        raise errors.UsageError(f"{where}.image: {step.image!r} is no image; write registry/name:tag")
    if step.accelerator is not None and not _LABEL.fullmatch(step.accelerator):
        raise errors.UsageError(f"{where}.accelerator: {step.accelerator!r} is no resource; write e.g. nvidia.com/gpu")


def _check_toleration(toleration: Toleration, where: str) -> None:
    if toleration.effect not in _EFFECTS:
        raise errors.UsageError(f"{where}.effect: unknown {toleration.effect!r}; one of {', '.join(_EFFECTS[1:])}")
    if toleration.operator not in ("", "Exists", "Equal"):
        raise errors.UsageError(f"{where}.operator: unknown {toleration.operator!r}; one of Exists, Equal")
    if toleration.operator == "Exists" and toleration.value:
        raise errors.UsageError(f"{where}.value: Exists takes none; write operator: Equal, or no operator")
    if toleration.operator != "Exists" and not toleration.key and (toleration.operator or toleration.value):
        raise errors.UsageError(f"{where}.key: is missing; only Exists does without, for every taint")


def container(step: Step) -> dict[str, Any]:
    """The `resources` of a container; beside today's fields those that older releases of Kubeflow read."""
    fields: dict[str, Any] = {}
    for key, field in (("cpu", "Cpu"), ("memory", "Memory")):
        for ours, theirs in ((key, f"resource{field}Limit"), (f"{key}_request", f"resource{field}Request")):
            if getattr(step, ours) is not None:
                fields[theirs] = getattr(step, ours)
    if step.cpu is not None:
        fields["cpuLimit"] = amount(step.cpu)
    if step.memory is not None:
        fields["memoryLimit"] = amount(step.memory) / 1e9
    if step.accelerators:
        count = str(step.accelerators)
        fields["accelerator"] = {
            "type": step.accelerator, "count": count, "resourceType": step.accelerator, "resourceCount": count,
        }  # fmt: skip
    return fields


def platform(step: Step) -> dict[str, Any]:
    """What the platform spec says of a step on Kubernetes."""
    fields: dict[str, Any] = {}
    if step.node_selector:
        fields["nodeSelector"] = {"labels": dict(step.node_selector)}
    if step.tolerations:
        fields["tolerations"] = [_toleration(one) for one in step.tolerations]
    return fields


def _toleration(one: Toleration) -> dict[str, str]:
    fields = {**dataclasses.asdict(one), "operator": one.operator or ("Equal" if one.value else "Exists")}
    return {key: value for key, value in fields.items() if value}


def amount(quantity: str) -> float:
    """A quantity of Kubernetes as a number: 0.5 of 500m."""
    units = {"m": 1e-3, **{unit: 1000.0 ** (n + 1) for n, unit in enumerate("kMGTP")}}
    units |= {f"{unit}i": 1024.0 ** (n + 1) for n, unit in enumerate("KMGTP")}
    number = re.match(r"[\d.]+", quantity)
    assert number is not None
    return float(number.group()) * units.get(quantity[number.end() :], 1.0)


def _texts(value: Any, key: str = "") -> Any:
    """YAML's numbers as the text that quantities, labels and variables are; what is no mapping is left alone."""
    if isinstance(value, dict):
        free = key in ("node_selector", "env", "tolerations")
        return {name: _text(item) if free else _texts(item, name) for name, item in value.items()}
    if key.split("_")[0] in ("cpu", "memory"):
        return _text(value)
    if key == "tolerations" and isinstance(value, list):
        return tuple(_texts(item, key) for item in value)
    return value


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value
