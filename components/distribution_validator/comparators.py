"""Which distance each feature is compared by, and how far a clean span may be from the last."""

import difflib
from collections.abc import Mapping

from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.proto import distribution_validator_pb2

from longtail.components.data import features
from longtail.components.drift import overlap
from longtail.models import errors

# Words are compared by L-infinity: the largest change of one word's share of the images. The others
# are numbers, and by Jensen-Shannon divergence (base 2, 0 to 1); L-infinity on numbers reads 0.
WORDS = (features.FORMAT, features.IDENTITY)

# New identities alone change no label's share by more than the largest one's, hence so wide. Of every other feature the
# default threshold is calibrated to the two spans at hand: see `calibration`.
DEFAULT_IDENTITY = 0.5

COMPARED = (*features.STATISTICS, *overlap.FLOORS, *features.EMBEDDING)


def config(
    thresholds: Mapping[str, float] | None = None,
) -> distribution_validator_pb2.DistributionValidatorConfig:
    """Returns the comparators of all features of `longtail.components.data.features.STATISTICS`.

    Args:
        thresholds: feature -> threshold in [0, 1], as in a recipe. A distance above it is drift; 1
            lets everything pass, and the distance is still measured. A feature without one has a
            comparator without a threshold, for the executor to calibrate. Those of other rows of
            the gate's report may be among them and are left out.

    Raises:
        errors.UsageError: a feature that is not compared, or a threshold out of range.
    """
    chosen = {features.IDENTITY: DEFAULT_IDENTITY, **check(thresholds or {})}
    result = distribution_validator_pb2.DistributionValidatorConfig()
    for name in features.STATISTICS:
        feature = result.default_slice_config.feature.add()
        feature.path.step.append(name)
        comparator = measure(feature.distribution_comparator, name)
        comparator.SetInParent()
        if name in chosen:
            comparator.threshold = chosen[name]
    return result


def measure(comparator: schema_pb2.FeatureComparator, name: str) -> Message:
    """Returns that part of a feature's comparator which the feature is compared by."""
    return comparator.infinity_norm if name in WORDS else comparator.jensen_shannon_divergence


def check(thresholds: Mapping[str, float]) -> dict[str, float]:
    """Returns a recipe's thresholds as floats.

    Raises:
        errors.UsageError: a feature that is not compared, or a threshold out of range.
    """
    for name, value in thresholds.items():
        if name not in COMPARED:
            near = difflib.get_close_matches(name, COMPARED, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise errors.UsageError(f"drift thresholds: {name!r} is not compared{hint}")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= 1:
            raise errors.UsageError(f"drift thresholds: {name!r} must be a number in [0, 1], not {value!r}")
    return {name: float(value) for name, value in thresholds.items()}
