"""Whether the last blessed model still knows what it sees: drift that no scalar of an image shows."""

import json
from collections.abc import Mapping

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import channel
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import specs
from longtail.components.embedding_drift import executor


class EmbeddingDrift(base_component.BaseComponent):
    """Embeds the samples of the new and of the accepted span with one model, the last blessed, and compares.

    Images of held-out identities alone: the model was trained on the accepted span's others, and any image that it was
    not trained on would seem to have drifted from those.

    Outputs:
      report: rows as `distances.compare` makes them; at a cold start, without a model, or where a sample is too
        small or has too few identities, none but a note that says so.

    Cost: one pass of the model over half of both samples (2 x 1000 images by default, never more than 2 x 2000), and
    for a thousand images a side about 32 MiB of distances and two seconds for the deals.
    """

    SPEC_CLASS = specs.declare(
        parameters={executor.THRESHOLDS_KEY: str},
        inputs={
            executor.SAMPLE_KEY: artifacts.SpanSample,
            executor.BASELINE_SAMPLE_KEY: artifacts.SpanSample,
            executor.BASELINE_MODEL_KEY: standard_artifacts.Model,
        },
        outputs={executor.REPORT_KEY: artifacts.DriftReport},
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        sample: channel.BaseChannel,
        baseline_sample: channel.BaseChannel,
        baseline_model: channel.BaseChannel,
        thresholds: Mapping[str, float],
    ):
        """Makes the component.

        Args:
          sample: of the new span.
          baseline_sample: BaselineFinder's.
          baseline_model: BaselineFinder's; custom property `found` 0 says there is none.
          thresholds: by feature, those that are not to be calibrated; others than its own are left out.
        """
        spec = self.SPEC_CLASS(
            sample=sample,
            baseline_sample=baseline_sample,
            baseline_model=baseline_model,
            thresholds=json.dumps(dict(thresholds), sort_keys=True),
        )
        super().__init__(spec=spec)
