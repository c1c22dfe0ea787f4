"""How far a span's images are from the last accepted span's, feature by feature."""

from collections.abc import Sequence

from tfx.components.distribution_validator import component as stock
from tfx.dsl.components.base import executor_spec
from tfx.proto import distribution_validator_pb2
from tfx.types import channel

from components import features
from components.distribution_validator import comparators
from components.distribution_validator import executor

config = comparators.config


class DistributionValidator(stock.DistributionValidator):
    """TFX's DistributionValidator with an executor that also runs on Kubeflow.

    Outputs:
        anomalies: `SplitPair-<split>_<split>/SchemaDiff.pb`, with every distance measured and an
            anomaly for each above its threshold. By itself it stops nothing; the drift gate does.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        statistics: channel.BaseChannel,
        baseline_statistics: channel.BaseChannel,
        config: distribution_validator_pb2.DistributionValidatorConfig | None = None,
        include_split_pairs: Sequence[tuple[str, str]] = (
            (features.TRAIN_SPLIT, features.TRAIN_SPLIT),
        ),
    ):
        """Makes the component.

        Args:
            statistics: of the new span.
            baseline_statistics: of the accepted span.
            config: thresholds, as `comparators.config` makes them; its defaults where None.
            include_split_pairs: what is compared. The train split alone by default: eval holds
                other identities in each span and too few images to tell drift from chance.
        """
        super().__init__(
            statistics=statistics,
            baseline_statistics=baseline_statistics,
            config=comparators.config() if config is None else config,
            include_split_pairs=[tuple(pair) for pair in include_split_pairs],
        )
