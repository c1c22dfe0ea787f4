"""Takes a sample of a span, by which the drift gate's chance is measured and the next span is compared."""

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import channel
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import config
from longtail.components import specs
from longtail.components.span_sampler import executor
from longtail.models import settings


class SpanSampler(base_component.BaseComponent):
    """Draws a span's sample.

    Outputs:
      sample: `sample.tfrecord.gz` and `table.npz`, as `longtail.components.data.samples` says. Custom
        properties `images`
        and `fingerprint`, of the span's data.

    Cost: the examples are read twice in one process, and nothing is decoded; about 70 bytes of memory an image.
    """

    SPEC_CLASS = specs.declare(
        parameters={executor.IMAGES_KEY: int},
        inputs={executor.EXAMPLES_KEY: standard_artifacts.Examples},
        outputs={executor.SAMPLE_KEY: artifacts.SpanSample},
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, examples: channel.BaseChannel, images: int):
        """Makes the component.

        Args:
          examples: Examples with the splits `train` and `eval`.
          images: how many images are kept whole, at most; half of train, half of eval.

        Raises:
          errors.UsageError: too few images to compare anything.
        """
        settings.check_values(config.Drift, "drift.", sample=images)
        super().__init__(self.SPEC_CLASS(examples=examples, images=images))
