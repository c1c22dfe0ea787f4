"""Which distance each feature is compared by, and how far a clean span may be from the last."""

import difflib
from collections.abc import Mapping

from tfx.proto import distribution_validator_pb2

from components import features
from models import errors

# Words are compared by L-infinity: the largest change of one word's share of the images. The others
# are numbers, and by Jensen-Shannon divergence (base 2, 0 to 1); L-infinity on numbers reads 0.
WORDS = (features.FORMAT, features.IDENTITY)

# Measured on Omniglot, spans of other characters, largest over the numbers. Clean: 0.02 for 300
# identities, 0.08 for 50, 0.12 for 20, 0.3 for 10 of five images. Inverted, blurred or darkened:
# 0.6 to 1; half of a span so: 0.17 to 0.42. So 0.3 lets small sets through and stops a changed
# source; with some hundred identities 0.1 finds mixtures too.
# New identities alone change no label's share by more than the largest one's, hence the wider 0.5.
DEFAULT_NUMBER = 0.3
DEFAULT_THRESHOLDS = {
    **{name: DEFAULT_NUMBER for name in features.STATISTICS if name not in WORDS},
    features.FORMAT: 0.3,
    features.IDENTITY: 0.5,
}


def config(
    thresholds: Mapping[str, float] | None = None,
) -> distribution_validator_pb2.DistributionValidatorConfig:
    """Returns the comparators of all features of `components.features.STATISTICS`.

    Args:
        thresholds: feature -> threshold in [0, 1], over `DEFAULT_THRESHOLDS`. A distance above it
            is drift; 1 lets everything pass, and the distance is still measured.

    Raises:
        errors.UsageError: a feature that is not compared, or a threshold out of range.
    """
    chosen = {**DEFAULT_THRESHOLDS, **_checked(thresholds or {})}
    result = distribution_validator_pb2.DistributionValidatorConfig()
    for name, threshold in chosen.items():
        feature = result.default_slice_config.feature.add()
        feature.path.step.append(name)
        comparator = feature.distribution_comparator
        if name in WORDS:
            comparator.infinity_norm.threshold = threshold
        else:
            comparator.jensen_shannon_divergence.threshold = threshold
    return result


def _checked(thresholds: Mapping[str, float]) -> dict[str, float]:
    """Returns the thresholds as floats, or raises UsageError."""
    for name, value in thresholds.items():
        if name not in DEFAULT_THRESHOLDS:
            near = difflib.get_close_matches(name, DEFAULT_THRESHOLDS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise errors.UsageError(f"drift thresholds: {name!r} is not compared{hint}")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value <= 1:
            raise errors.UsageError(
                f"drift thresholds: {name!r} must be a number in [0, 1], not {value!r}"
            )
    return {name: float(value) for name, value in thresholds.items()}
