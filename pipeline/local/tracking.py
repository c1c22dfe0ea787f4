"""MLflow: a run's parameters, metrics, report and model, where MLFLOW_TRACKING_URI is set; nothing otherwise."""

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from longtail.models import errors
from longtail.models.metrics import metric
from longtail.pipeline.report import run_view

VARIABLE = "MLFLOW_TRACKING_URI"

_LONGEST = 500  # characters of a parameter, which every version of a server takes


def check() -> None:
    """Refuses to begin a run that could not be logged.

    Raises:
      errors.UsageError: MLflow is asked for and not installed.
    """
    if os.environ.get(VARIABLE) and importlib.util.find_spec("mlflow") is None:
        raise errors.UsageError(
            f"{VARIABLE} is set, but there is no MLflow to log with; install mlflow-skinny, or unset {VARIABLE}"
        )


def track(root: str, page: str) -> None:
    """Logs the last run in a root as a run of MLflow's experiment MLFLOW_EXPERIMENT_NAME, else that of its recipe.

    Args:
      root: of the run.
      page: the report.
    """
    if not os.environ.get(VARIABLE):
        return
    import mlflow

    run = run_view.load(root)
    summary = run.summary
    if "MLFLOW_EXPERIMENT_NAME" not in os.environ:
        mlflow.set_experiment(run.pipeline)
    with mlflow.start_run(run_name=f"span {run.about['span']}") as logged:
        mlflow.log_params({key: str(value)[:_LONGEST] for key, value in run_view.flat(run.about["recipe"]).items()})
        mlflow.set_tags({"root": root, "run_id": run.about["run_id"], "stopped": run.about["stopped"] or ""})
        if os.path.exists(page):
            mlflow.log_artifact(page)
        if summary is not None:
            mlflow.set_tags({"blessed": summary["blessed"], "reason": summary["reason"]})
            mlflow.log_metrics(_metrics(summary))
            if summary["pushed_model"]:
                mlflow.log_artifacts(summary["pushed_model"], "model")
    if summary is None:
        mlflow.MlflowClient().set_terminated(logged.info.run_id, "FAILED")


def _metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Every metric of every slice, such as `mAP` and `tail/mAP`, and of the pixels and the last blessed model."""
    scores = summary["metrics"]
    named = {f"{name}/": scores[name] for name in ("head", "tail", "many", "medium", "few", "pixels")}
    groups = {"": scores, **named, "last_blessed/": summary["baseline"]}
    return {
        f"{prefix}{each.name}": group[each.name]
        for prefix, group in groups.items()
        for each in metric.METRICS
        if group and group[each.name] is not None
    }
