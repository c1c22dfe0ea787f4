"""Writes the curated schema, once for Transform and once for what statistics can be checked for."""

import os
from typing import Any

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from longtail.components.curated_schema import content
from longtail.components.data import features
from longtail.models import files

BOUNDS_KEY = "bounds"
VERSION_KEY = "version"
SCHEMA_KEY = "schema"
STATISTICS_SCHEMA_KEY = "statistics_schema"

SCHEMA_FILE = "schema.pbtxt"


class Executor(base_executor.BaseExecutor):
    """Writes `schema.pbtxt` of both outputs."""

    def Do(  # noqa: N802 - TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the whole schema, and the part of it that StatisticsGen's allowlist covers."""
        bounds = exec_properties[BOUNDS_KEY]
        _write(content.schema(bounds), output_dict[SCHEMA_KEY])
        _write(content.schema(bounds, features.STATISTICS), output_dict[STATISTICS_SCHEMA_KEY])


def _write(schema: schema_pb2.Schema, output: list[types.Artifact]) -> None:
    """Writes `schema` as text; TFX reads the only file of the folder, so what is unfinished lies outside."""
    uri = artifact_utils.get_single_uri(output).rstrip("/")
    fileio.makedirs(uri)
    files.write(os.path.join(uri, SCHEMA_FILE), text_format.MessageToString(schema), os.path.dirname(uri))
