"""What an ingested example must hold: the schema the house keeps and no span redefines."""

import difflib
import hashlib
import json

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


def schema(bounds: str = "{}", only: tuple[str, ...] | None = None) -> schema_pb2.Schema:
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
    tightened = _domains(bounds)
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


def _domains(bounds: str) -> dict[str, tuple | None]:
    """Returns every feature's domain, tightened by `bounds`."""
    try:
        asked = json.loads(bounds or "{}")
    except json.JSONDecodeError as error:
        raise errors.UsageError(f"schema bounds are no JSON ({error}): {bounds!r}") from error
    if not isinstance(asked, dict):
        raise errors.UsageError(f"schema bounds must be a JSON object by feature, not {bounds!r}")
    domains = {name: domain for name, (_, domain) in _CURATED.items()}
    for name, bound in asked.items():
        domain = domains.get(name)
        if domain is None:
            near = difflib.get_close_matches(name, [n for n, d in domains.items() if d], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise errors.UsageError(f"schema bounds: no feature {name!r} with a domain{hint}")
        words = _CURATED[name][0] == _BYTES
        domains[name] = _words(name, bound, domain) if words else _range(name, bound, domain)
    return domains


def _words(name: str, bound: list[str], domain: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the words of `bound`, which must be some of `domain`."""
    if not isinstance(bound, list) or not bound or not all(word in domain for word in bound):
        raise errors.UsageError(
            f"schema bounds: {name!r} must be a list of some of {list(domain)}, not {bound!r}"
        )
    return tuple(bound)


def _range(name: str, bound: dict[str, float], domain: tuple) -> tuple:
    """Returns (lowest, highest) of `bound`, which must lie within `domain`."""
    if not isinstance(bound, dict) or not set(bound) <= {"min", "max"}:
        raise errors.UsageError(
            f'schema bounds: {name!r} must be {{"min": number, "max": number}}, not {bound!r}'
        )
    kinds = (int,) if _CURATED[name][0] == _INT else (int, float)
    for value in bound.values():
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise errors.UsageError(
                f"schema bounds: {name!r} is a feature of {kinds[-1].__name__}s, not {value!r}"
            )
    lowest, highest = bound.get("min", domain[0]), bound.get("max", domain[1])
    loosened = lowest < domain[0] or (domain[1] is not None and highest > domain[1])
    if loosened or (highest is not None and lowest > highest):
        raise errors.UsageError(
            f"schema bounds: {name!r} may only be tightened within "
            f"[{domain[0]}, {'any' if domain[1] is None else domain[1]}], not to {bound!r}"
        )
    return lowest, highest
