"""Takes a sample of a span, by which the drift gate's chance is measured and the next span is compared."""

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import channel
from tfx.types import component_spec
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import config
from longtail.components.span_sampler import executor
from longtail.models import settings


class SpanSamplerSpec(component_spec.ComponentSpec):
    """Channels and parameters of `SpanSampler`."""

    PARAMETERS = {executor.IMAGES_KEY: component_spec.ExecutionParameter(type=int)}
    INPUTS = {executor.EXAMPLES_KEY: component_spec.ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {executor.SAMPLE_KEY: component_spec.ChannelParameter(type=artifacts.SpanSample)}


class SpanSampler(base_component.BaseComponent):
    """Draws a span's sample.

    Outputs:
        sample: `sample.tfrecord.gz` and `table.npz`, as `longtail.components.data.samples` says. Custom
            properties `images`
            and `fingerprint`, of the span's data.

    Cost: the examples are read twice in one process, and nothing is decoded; about 70 bytes of memory an image.
    """

    SPEC_CLASS = SpanSamplerSpec
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
        spec = SpanSamplerSpec(examples=examples, images=images, sample=channel.Channel(type=artifacts.SpanSample))
        super().__init__(spec=spec)
