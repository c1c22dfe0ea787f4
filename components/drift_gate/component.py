"""The gate between data and training: without its blessing nothing after it can run."""

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import channel
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import specs
from longtail.components.drift_gate import executor


class DriftGate(base_component.BaseComponent):
    """Refuses a span that breaks the schema, or that drifted from the last accepted one.

    A refused span fails the component, so there is no blessing for anything downstream to consume;
    its report is `<registry>/drift/span-NNNNNNNN.json`, and what was judged, its statistics and its
    sample, is kept beside it (see `registry`), whatever the verdict. Only an accepted span becomes a
    baseline: a refused one must never become what the next is compared with. Other
    data under the number of an accepted span is compared like any other, and takes its place only
    when accepted. Who is in an accepted span, and on which side, goes into the ledger (see `ledger`). A
    gate that is answered from the cache judges and archives nothing: the very same data was accepted
    here before, and the registry keeps what was accepted last.

    Outputs:
      blessing: `blessing.json`, the report. Custom properties `blessed` (1), `span`,
        `baseline_span` (-1 at a cold start), `verdict` and `accept_drift`.
    """

    SPEC_CLASS = specs.declare(
        parameters={
            executor.SPAN_KEY: int,
            executor.REGISTRY_KEY: str,
            executor.ACCEPT_DRIFT_KEY: str,
            executor.MODEL_NAME_KEY: str,
        },
        inputs={
            executor.EXAMPLES_KEY: standard_artifacts.Examples,
            executor.STATISTICS_KEY: standard_artifacts.ExampleStatistics,
            executor.BASELINE_STATISTICS_KEY: standard_artifacts.ExampleStatistics,
            executor.SCHEMA_ANOMALIES_KEY: standard_artifacts.ExampleAnomalies,
            executor.DRIFT_ANOMALIES_KEY: standard_artifacts.ExampleAnomalies,
            executor.SAMPLE_KEY: artifacts.SpanSample,
        },
        optional_inputs=dict.fromkeys(executor.REPORT_KEYS, artifacts.DriftReport),
        outputs={executor.BLESSING_KEY: artifacts.DataBlessing},
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: channel.BaseChannel,
        statistics: channel.BaseChannel,
        baseline_statistics: channel.BaseChannel,
        schema_anomalies: channel.BaseChannel,
        drift_anomalies: channel.BaseChannel,
        sample: channel.BaseChannel,
        span: int,
        registry: str,
        accept_drift: str = "",
        model_name: str = "",
        **reports: channel.BaseChannel,
    ):
        """Makes the component.

        Args:
          examples: ImageExampleGen's, of the span: where it lies and who is in it is remembered of an accepted one.
          statistics: of the span.
          baseline_statistics: BaselineFinder's, which know the span they come from.
          schema_anomalies: ExampleValidator's.
          drift_anomalies: DistributionValidator's.
          sample: SpanSampler's, of the span; it knows the data's fingerprint, by which BaselineFinder knows the
            same data again.
          span: the span's number.
          registry: folder of accepted baselines and of reports.
          accept_drift: why drift is accepted this once; kept in the metadata store. It does not
            excuse a broken schema, whose bounds are to be changed instead.
          model_name: stands where `{MODEL}` is in `registry`.
          **reports: DriftReports of more distances to judge, by the names in `executor.REPORT_KEYS`.
        """
        spec = self.SPEC_CLASS(
            examples=examples,
            statistics=statistics,
            baseline_statistics=baseline_statistics,
            schema_anomalies=schema_anomalies,
            drift_anomalies=drift_anomalies,
            sample=sample,
            **reports,
            span=span,
            registry=registry,
            model_name=model_name,
            accept_drift=accept_drift,
        )
        super().__init__(spec=spec)
