"""The schema as the house keeps it, in SchemaGen's place: inferred schemas drift with the data."""

from tfx.dsl.components.base import base_component
from tfx.dsl.components.base import executor_spec
from tfx.types import standard_artifacts

from longtail.components import specs
from longtail.components.curated_schema import content
from longtail.components.curated_schema import executor


class CuratedSchema(base_component.BaseComponent):
    """Writes the schema of an ingested example.

    Outputs:
      schema: every feature, `class_id` too; for Transform.
      statistics_schema: the features of `longtail.components.data.features.STATISTICS` alone; for
        ExampleValidator, which calls a feature without statistics a dropped column.
    """

    SPEC_CLASS = specs.declare(
        parameters={executor.BOUNDS_KEY: str, executor.VERSION_KEY: str},
        outputs={
            executor.SCHEMA_KEY: standard_artifacts.Schema,
            executor.STATISTICS_SCHEMA_KEY: standard_artifacts.Schema,
        },
    )
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, bounds: str, version: str | None = None):
        """Makes the component.

        Args:
          bounds: JSON object that tightens domains, as `content.schema` reads it.
          version: what the cache key holds for the schema in the code; its digest by default.

        Raises:
          errors.UsageError: `bounds` cannot be.
        """
        content.schema(bounds)  # A wrong bound is found before anything runs.
        super().__init__(self.SPEC_CLASS(bounds=bounds, version=content.version() if version is None else version))
