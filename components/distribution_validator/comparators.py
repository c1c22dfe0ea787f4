"""Which distance each feature is compared by, and how far a clean span may be from the last."""

from collections.abc import Mapping

from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.proto import distribution_validator_pb2

from longtail.components import config as config_lib
from longtail.components.data import features
from longtail.models import settings

# Words are compared by L-infinity: the largest change of one word's share of the images. The others
# are numbers, and by Jensen-Shannon divergence (base 2, 0 to 1); L-infinity on numbers reads 0.
WORDS = (features.FORMAT, features.IDENTITY)

# New identities alone change no label's share by more than the largest one's, hence so wide. Of every other feature the
# default threshold is calibrated to the two spans at hand: see `calibration`.
DEFAULT_IDENTITY = 0.5


def config(
    thresholds: Mapping[str, float],
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
    settings.check_values(config_lib.Drift, "drift.", thresholds=thresholds)
    chosen = {features.IDENTITY: DEFAULT_IDENTITY, **thresholds}
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
