"""Reads a compiled pipeline with the kfp SDK, strictly, and prints what it found; run by the SDK's own Python."""

import json
import sys

import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2


def main(path):
    """Raises where a field is unknown or of another type than today's protos have it."""
    with open(path, encoding="utf-8") as file:
        documents = list(yaml.safe_load_all(file))
    spec = json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
    deployment = json_format.ParseDict(documents[0]["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig())
    platform = pipeline_spec_pb2.PlatformSpec()
    for document in documents[1:]:
        json_format.ParseDict(document, platform)
    nodes = {}
    for label, fields in platform.platforms["kubernetes"].deployment_spec.executors.items():
        config = kubernetes_executor_config_pb2.KubernetesExecutorConfig()
        json_format.ParseDict(json_format.MessageToDict(fields), config)
        nodes[label] = {"labels": dict(config.node_selector.labels), "tolerations": len(config.tolerations)}
    loaded = components.load_component_from_file(path)
    inputs = {name: [one.type, one.default] for name, one in loaded.component_spec.inputs.items()}
    limits = {}
    for label, executor in deployment.executors.items():
        found = executor.container.resources
        limits[label] = [
            found.resource_cpu_limit,
            found.resource_memory_limit,
            found.accelerator.resource_type,
            found.accelerator.resource_count,
        ]
    print(
        json.dumps(
            {
                "name": loaded.component_spec.name,
                "inputs": inputs,
                "tasks": sorted(spec.root.dag.tasks),
                "limits": limits,
                "nodes": nodes,
                "retries": {name: task.retry_policy.max_retry_count for name, task in spec.root.dag.tasks.items()},
                "cached": sorted(n for n, t in spec.root.dag.tasks.items() if t.caching_options.enable_cache),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
