"""The graph on Kubeflow Pipelines v2: compiled, rehearsed without a cluster, submitted to one."""
