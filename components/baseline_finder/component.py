"""What a run is compared with: the last accepted span's statistics and sample, and the last pushed model."""

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import channel
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.components import specs
from longtail.components.baseline_finder import executor
from longtail.models.export import versions

last_accepted = registry_lib.last_accepted
last_version = versions.last_complete


def pin(found: int | None) -> str:
    """Returns the pin of what `last_accepted` or `last_version` found."""
    return executor.NONE if found is None else str(found)


def pin_span(registry: str, span: int, fingerprint: str = "") -> str:
    """Returns the pin of what `last_accepted` finds, `<span>@<digest of its statistics>`.

    The digest is there for the cache alone, which must not answer with what a span's entry held
    before it was replaced; and so is the number of withdrawn identities, which were taken out of it.

    Raises:
      errors.WorkError: the entry that is found cannot be read.
    """
    found = registry_lib.last_accepted(registry, span, fingerprint)
    if found is None:
        return executor.NONE
    withdrawn = len(ledger.read(registry).withdrawals.digests)
    return f"{found}@{registry_lib.accepted_fingerprint(registry, found)}{f'-{withdrawn}' if withdrawn else ''}"


class BaselineFinder(base_component.BaseComponent):
    """Copies the baselines into artifacts.

    What is found depends on the registry and the model folder, which are no inputs of the
    component. A run that may be answered from the cache must therefore pin both; with 'auto' switch
    the cache off.

    Outputs:
      baseline_statistics: of the nearest accepted span below `span`, else the nearest above, else
        what was accepted as `span` itself from other data; the span's own at a cold start.
        Custom properties `cold_start` (1 or 0) and `baseline_span` (-1 at a cold start).
      baseline_sample: the sample and the table of the same span, with the same custom properties.
      baseline_model: a copy of the last complete version, in the serving folder of a TFX Model
        (`Format-Serving`). Custom properties `found` (1 or 0) and `version` (-1 for none).
    """

    SPEC_CLASS = specs.declare(
        parameters={
            executor.SPAN_KEY: int,
            executor.REGISTRY_KEY: str,
            executor.MODELS_KEY: str,
            executor.PINNED_SPAN_KEY: str,
            executor.PINNED_VERSION_KEY: str,
            executor.MODEL_NAME_KEY: str,
        },
        inputs={
            executor.STATISTICS_KEY: standard_artifacts.ExampleStatistics,
            executor.SAMPLE_KEY: artifacts.SpanSample,
        },
        outputs={
            executor.BASELINE_STATISTICS_KEY: standard_artifacts.ExampleStatistics,
            executor.BASELINE_SAMPLE_KEY: artifacts.SpanSample,
            executor.BASELINE_MODEL_KEY: standard_artifacts.Model,
        },
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        statistics: channel.BaseChannel,
        sample: channel.BaseChannel,
        span: int,
        registry: str,
        models: str,
        pinned_span: str = executor.AUTO,
        pinned_version: str = executor.AUTO,
        model_name: str = "",
    ):
        """Makes the component.

        Args:
          statistics: of the span itself.
          sample: SpanSampler's, of the span itself.
          span: the span's number.
          registry: folder of accepted baselines.
          models: folder of pushed versions, `<models>/<version>/`.
          pinned_span: 'auto' finds it, 'none' is a cold start, a number is that span; what follows
            an '@' only tells one pin from another. See `pin_span`.
          pinned_version: likewise, of the model.
          model_name: stands where `{MODEL}` is in `registry` and `models`.
        """
        spec = self.SPEC_CLASS(
            statistics=statistics,
            sample=sample,
            span=span,
            registry=registry,
            models=models,
            pinned_span=pinned_span,
            pinned_version=pinned_version,
            model_name=model_name,
        )
        super().__init__(spec=spec)
