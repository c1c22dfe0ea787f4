"""A compiled pipeline's file as YAML: which of its documents is what, and what the installed protos do not know yet."""

import copy
from typing import Any

import yaml

from longtail.models import errors

SCHEMA_VERSION = "2.1.0"

# Fields of today's pipeline_spec.proto which the installed protos are too old to know.
_NEWER_RESOURCES = (
    "cpuRequest",
    "memoryRequest",
    "resourceCpuLimit",
    "resourceCpuRequest",
    "resourceMemoryLimit",
    "resourceMemoryRequest",
)
_NEWER_ACCELERATOR = ("resourceCount", "resourceType")

# libyaml's reader is ten times as fast; both are safe.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(path: str) -> list[Any]:
    """The documents of a file.

    Raises:
      errors.UsageError: the file is missing or no YAML.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return [document for document in yaml.load_all(file, Loader=_LOADER) if document is not None]
    except OSError as error:
        raise errors.UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"{path}: not YAML ({' '.join(str(error).split())})") from error


def split(documents: list[Any], path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pipeline spec and the platform spec among a file's documents.

    Raises:
      errors.UsageError: there is no pipeline spec of the version that Kubeflow runs, or there are several.
    """
    if not all(isinstance(document, dict) for document in documents):
        raise errors.UsageError(f"{path}: not a compiled pipeline; `longtail compile` makes one")
    if any("pipelineSpec" in document for document in documents):
        raise errors.UsageError(f"{path}: a pipeline job in JSON; Kubeflow Pipelines takes the spec alone, as .yaml")
    specs = [document for document in documents if "pipelineInfo" in document or "root" in document]
    platforms = [document for document in documents if "platforms" in document]
    if len(specs) != 1 or len(platforms) > 1:
        raise errors.UsageError(
            f"{path}: {len(specs)} pipeline specs and {len(platforms)} platform specs in it; it must hold one pipeline "
            "spec and may hold one platform spec"
        )
    version = specs[0].get("schemaVersion")
    if version != SCHEMA_VERSION:
        raise errors.UsageError(
            f"{path}: schemaVersion is {version}; Kubeflow Pipelines runs {SCHEMA_VERSION} "
            "(with TFX: use_pipeline_spec_2_1=True)"
        )
    return specs[0], platforms[0] if platforms else {}


def without_newer(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document as older protos know it, and what was taken out: resources by executor, cache keys by task."""
    stripped = copy.deepcopy(document)
    cache_keys, resources = {}, {}
    for name, task in dig(stripped, "root", "dag", "tasks").items():
        key = dig(task, "cachingOptions").pop("cacheKey", "")
        if key:
            cache_keys[name] = key
    for label, executor in dig(stripped, "deploymentSpec", "executors").items():
        found = dig(executor, "container", "resources")
        resources[label] = copy.deepcopy(found)
        for key in _NEWER_RESOURCES:
            found.pop(key, None)
        for key in _NEWER_ACCELERATOR:
            dig(found, "accelerator").pop(key, None)
    return stripped, {"cache_keys": cache_keys, "resources": resources}


def schema(text: str) -> dict[str, Any] | None:
    """The content of an artifact's instance schema, None where it is no mapping."""
    try:
        described = yaml.safe_load(text) or {}
    except yaml.YAMLError:
        return None
    return described if isinstance(described, dict) else None


def dig(value: Any, *keys: str) -> dict[str, Any]:
    """A mapping within a mapping; {} where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
