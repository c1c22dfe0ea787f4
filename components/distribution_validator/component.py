"""How far a span's images are from the last accepted span's, feature by feature."""

import json
from collections.abc import Mapping
from collections.abc import Sequence

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import channel
from tfx.types import standard_component_specs as keys
from tfx.utils import json_utils

from longtail.components import artifacts
from longtail.components import specs
from longtail.components.data import features
from longtail.components.distribution_validator import comparators
from longtail.components.distribution_validator import executor


class DistributionValidator(base_component.BaseComponent):
    """TFX's DistributionValidator with thresholds that fit the size of the spans, and that runs on Kubeflow.

    Outputs:
      anomalies: `SplitPair-<split>_<split>/SchemaDiff.pb`, with every distance measured and an
        anomaly for each above its threshold. By itself it stops nothing; the drift gate does.
      report: rows on the data set as a whole, as `overlap` makes them; none at a cold start. Its note says what was
        not asked, and where thresholds are fixed for want of identities.

    Cost: 200 deals of at most 20 000 images a side, a few seconds; and 200 of all identities' counts, six
    seconds for 100 000 identities.
    """

    SPEC_CLASS = specs.declare(
        stock=keys.DistributionValidatorSpec,
        parameters={executor.THRESHOLDS_KEY: str},
        inputs={executor.SAMPLE_KEY: artifacts.SpanSample, executor.BASELINE_SAMPLE_KEY: artifacts.SpanSample},
        outputs={executor.REPORT_KEY: artifacts.DriftReport},
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        statistics: channel.BaseChannel,
        baseline_statistics: channel.BaseChannel,
        sample: channel.BaseChannel,
        baseline_sample: channel.BaseChannel,
        thresholds: Mapping[str, float],
        include_split_pairs: Sequence[tuple[str, str]] = ((features.TRAIN_SPLIT, features.TRAIN_SPLIT),),
    ):
        """Makes the component.

        Args:
          statistics: of the new span.
          baseline_statistics: of the accepted span.
          sample: of the new span.
          baseline_sample: of the accepted span.
          thresholds: by feature, those that are not to be calibrated.
          include_split_pairs: what is compared. The train split alone by default: eval holds
            other identities in each span and too few images to tell drift from chance.

        Raises:
          errors.UsageError: a feature that is not compared, or a threshold out of range.
        """
        spec = self.SPEC_CLASS(
            statistics=statistics,
            baseline_statistics=baseline_statistics,
            sample=sample,
            baseline_sample=baseline_sample,
            distribution_validator_config=comparators.config(thresholds),
            include_split_pairs=json_utils.dumps([tuple(pair) for pair in include_split_pairs]),
            thresholds=json.dumps(dict(thresholds), sort_keys=True),
        )
        super().__init__(spec=spec)
