"""What an ingested example must hold: the schema the house keeps and no span redefines."""

import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2

from longtail.components.data import features
from longtail.models import errors

_BYTES = schema_pb2.BYTES
_INT = schema_pb2.INT
_FLOAT = schema_pb2.FLOAT

# Feature -> (type, domain). A domain is (lowest, highest) of a number, the words a text may be, or
# None for any text. Aspect and kilobytes have no highest: they are the data's own.
_CURATED: dict[str, tuple[int, tuple | None]] = {
    features.ENCODED: (_BYTES, None),
    features.FORMAT: (_BYTES, ("jpeg", "png")),
    features.HEIGHT: (_INT, (1, None)),
    features.WIDTH: (_INT, (1, None)),
    features.PATH: (_BYTES, None),
    features.SHA256: (_BYTES, None),
    features.IDENTITY: (_BYTES, None),
    features.CAMERA: (_INT, (-1, None)),
    features.SPLIT: (
        _BYTES,
        tuple(w.decode() for w in (features.TRAIN, features.QUERY, features.GALLERY)),
    ),
    features.BRIGHTNESS: (_FLOAT, (0.0, 1.0)),
    features.CONTRAST: (_FLOAT, (0.0, 1.0)),
    features.SHARPNESS: (_FLOAT, (0.0, None)),
    features.INK: (_FLOAT, (0.0, 1.0)),
    features.ASPECT: (_FLOAT, (0.0, None)),
    features.KILOBYTES: (_FLOAT, (0.0, None)),
    features.CLASS_ID: (_INT, (0, None)),
}


def schema(bounds: str, only: tuple[str, ...] | None = None) -> schema_pb2.Schema:
    """Builds the schema: each feature with its type, its domain, present once in every example.

    Args:
      bounds: JSON object that tightens domains: `{"image/brightness": {"min": 0.1, "max": 0.9},
        "image/format": ["png"]}`.
      only: names of the features to hold; all of them, `class_id` included, where None.

    Returns:
      The schema. Every feature has `presence.min_fraction` 1 and the fixed shape [1], so that
      Transform reads it as a dense tensor [N, 1].

    Raises:
      errors.UsageError: `bounds` is no JSON object, has an unknown feature or a looser domain.
    """
    try:
        asked = json.loads(bounds)
    except json.JSONDecodeError as error:
        raise errors.UsageError(f"drift.bounds must be JSON ({error}), not {bounds!r}") from error
    if not isinstance(asked, dict):
        raise errors.UsageError(f"drift.bounds must be a JSON object by feature, not {bounds!r}")
    tightened = domains(asked)
    result = schema_pb2.Schema()
    for name, (kind, _) in _CURATED.items():
        if only is None or name in only:
            _add(result, name, kind, tightened[name])
    return result


def version() -> str:
    """Returns the digest of the curated content, which changes a component's cache key with it."""
    return hashlib.sha256(json.dumps(_CURATED).encode()).hexdigest()[:16]


def _add(result: schema_pb2.Schema, name: str, kind: int, domain: tuple | None) -> None:
    """Adds one feature to `result`."""
    feature = result.feature.add(name=name, type=kind)
    feature.presence.min_fraction = 1
    feature.presence.min_count = 1
    feature.shape.dim.add().size = 1
    if domain is None:
        return
    if kind == _BYTES:
        feature.string_domain.value.extend(domain)
        return
    target = feature.int_domain if kind == _INT else feature.float_domain
    for bound, value in zip(("min", "max"), domain, strict=True):
        if value is not None:
            setattr(target, bound, value)
    if kind == _FLOAT:
        target.disallow_nan = True
        target.disallow_inf = True


def domains(asked: Mapping[str, Any]) -> dict[str, tuple | None]:
    """Every feature's domain, tightened as `schema` reads it.

    Raises:
      errors.UsageError: an unknown feature, or a domain that is none or looser.
    """
    found = {name: domain for name, (_, domain) in _CURATED.items()}
    for name, bound in asked.items():
        domain = found.get(name)
        if domain is None:
            near = difflib.get_close_matches(str(name), [n for n, d in found.items() if d], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise errors.UsageError(f"drift.bounds has no {name!r} with a domain{hint}")
        words = _CURATED[name][0] == _BYTES
        found[name] = _words(name, bound, domain) if words else _range(name, bound, domain)
    return found


def _words(name: str, bound: list[str], domain: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the words of `bound`, which must be some of `domain`."""
    if not isinstance(bound, list) or not bound or not all(word in domain for word in bound):
        raise errors.UsageError(
            f"drift.bounds.{name} must be a list of some of {list(domain)}, not {bound!r}"
        )
    return tuple(bound)


def _range(name: str, bound: dict[str, float], domain: tuple) -> tuple:
    """Returns (lowest, highest) of `bound`, which must lie within `domain`."""
    if not isinstance(bound, dict) or not set(bound) <= {"min", "max"}:
        raise errors.UsageError(
            f'drift.bounds.{name} must be {{"min": number, "max": number}}, not {bound!r}'
        )
    kinds = (int,) if _CURATED[name][0] == _INT else (int, float)
    for value in bound.values():
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            raise errors.UsageError(f"drift.bounds.{name} is of finite {kinds[-1].__name__}s, not {value!r}")
    lowest, highest = bound.get("min", domain[0]), bound.get("max", domain[1])
    loosened = lowest < domain[0] or (domain[1] is not None and highest > domain[1])
    if loosened or (highest is not None and lowest > highest):
        raise errors.UsageError(
            f"drift.bounds.{name} may only be tightened within "
            f"[{domain[0]}, {'any' if domain[1] is None else domain[1]}], not to {bound!r}"
        )
    return lowest, highest
