"""Chooses, after the gate, which accepted spans a run trains on and is scored by."""

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import channel
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import specs
from longtail.components.span_window import executor
from longtail.components.span_window import windows


class SpanWindow(base_component.BaseComponent):
    """Names the accepted spans of a run's window; nothing of them is copied.

    In it are the run's own span and, of those accepted below it and not withdrawn, all, none, or the last N-1. What is
    chosen depends on the registry, which is no input of the component. A run that may be answered from the cache must
    therefore pin it; with 'auto' switch the cache off.

    Outputs:
      window: `window.json` and `numbers.json`, as `windows.read` reads them. Custom properties `span`, the run's own,
        and `spans`, how many there are.
    """

    SPEC_CLASS = specs.declare(
        parameters={
            executor.SPAN_KEY: int,
            executor.REGISTRY_KEY: str,
            executor.MODEL_NAME_KEY: str,
            executor.DATA_WINDOW_KEY: str,
            executor.PINNED_WINDOW_KEY: str,
        },
        inputs={executor.EXAMPLES_KEY: standard_artifacts.Examples, executor.BLESSING_KEY: artifacts.DataBlessing},
        outputs={executor.WINDOW_KEY: artifacts.SpanWindow},
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        blessing: channel.BaseChannel,
        span: int,
        registry: str,
        window: str,
        pinned_window: str = windows.AUTO,
        model_name: str = "",
    ):
        """Makes the component.

        Args:
          examples: ImageExampleGen's, of the run's own span.
          blessing: the drift gate's; not read, but without it nothing runs.
          span: the run's own.
          registry: folder of accepted spans.
          window: 'all', 'one' or 'last N', as `data.window` says.
          pinned_window: 'auto' chooses when the step runs; else what `windows.pin` returned.
          model_name: stands where `{MODEL}` is in `registry`.
        """
        spec = self.SPEC_CLASS(
            examples=examples,
            blessing=blessing,
            span=span,
            registry=registry,
            data_window=window,
            pinned_window=pinned_window,
            model_name=model_name,
        )
        super().__init__(spec=spec)
