"""What a report shows of a run's training and of how good its model is."""

import collections
import os
from typing import Any

import tensorflow as tf

from longtail.models import head_tail
from longtail.models.metrics import metric
from longtail.pipeline.report import plots
from longtail.pipeline.report import run_view

_SLICES = ("head", "tail", "many", "medium", "few")
_HEALTH = {
    "angular_mean": "mean angle to the centre, rad",
    "angular_variance": "variance of the angle, rad²",
    "cloud_width": "width of the cloud, rad",
    "weight_norm": "length of the class weights",
}
_TRAINING = {"epoch_loss": "loss", "epoch_learning_rate": "learning rate", "epoch_samples_with_cloud": "with a cloud"}


def training(run: run_view.Run) -> list[dict[str, Any]]:
    """Charts over epochs; none where nothing was trained."""
    artifact = run.output("Trainer", "model_run")
    if artifact is None:
        return []
    read = {side: _scalars(os.path.join(artifact.folder, side)) for side in ("train", "head", "tail")}
    charts = [
        _over_epochs(caption, {caption: read["train"][tag]}) for tag, caption in _TRAINING.items() if read["train"][tag]
    ]
    for name, caption in _HEALTH.items():
        sides = {side: read[side][f"tail_health/{name}"] for side in ("head", "tail")}
        if any(sides.values()):
            charts.append(_over_epochs(caption, sides))
    return charts


def _scalars(folder: str) -> dict[str, list[tuple[float, float]]]:
    """TensorBoard's scalars: tag -> (step, value), histograms left out; an epoch that was done twice as it was last."""
    found: dict[str, dict[float, float]] = collections.defaultdict(dict)
    for path in sorted(tf.io.gfile.glob(os.path.join(folder, "*tfevents*"))):
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                if not value.tensor.tensor_shape.dim:
                    found[value.tag][float(event.step + 1)] = float(tf.make_ndarray(value.tensor))
    return collections.defaultdict(list, {tag: sorted(points.items()) for tag, points in found.items()})


def _over_epochs(caption: str, lines: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    points = [point for line in lines.values() for point in line]
    ends = ", ".join(f"{name} ends at {line[-1][1]:.4g}" for name, line in lines.items() if line)
    return {
        "caption": caption,
        "chart": plots.curves(
            [plots.Line(name, line) for name, line in lines.items()],
            plots.around("epoch", [epoch for epoch, _ in points]),
            plots.around(caption, [value for _, value in points], zero=True),
            f"{caption} over epochs: {ends}",
        ),
    }


def scores(run: run_view.Run) -> dict[str, Any] | None:
    """Tables, curves and pictures of the evaluation; None where nothing was evaluated."""
    figures = run.read("RetrievalEvaluator", "evaluation", "metrics.json")
    if figures is None:
        return None
    details = run.read("RetrievalEvaluator", "evaluation", "details.json")
    thresholds = run.read("RetrievalEvaluator", "evaluation", "thresholds.json") or {}
    marks = thresholds.get("thresholds", [])
    return {
        **figures,
        "titles": [each.title for each in metric.METRICS],
        "rows": _rows(figures),
        "rule": head_tail.rule(figures["head_threshold"], "held-out identities"),
        "thresholds": marks,
        "smallest": thresholds.get("smallest_fmr"),
        "difference": _difference(figures["difference"]),
        "roc": _roc(details["curves"], marks) if details and details["curves"] else None,
        "similarities": _similarities(details["curves"], marks) if details and details["curves"] else None,
        "details": details,
    }


def _rows(figures: dict[str, Any]) -> list[dict[str, Any]]:
    candidate, pixels = figures["candidate"], figures["candidate"]["pixels"]
    groups = {"all": candidate, **{name: candidate[name] for name in _SLICES}}
    if pixels:
        groups[pixels["embedding"]] = pixels
    if figures["baseline"]:
        groups["last blessed model"] = figures["baseline"]
    for one in figures.get("by_span", ()):
        groups[f"span {one['span']}"] = one["candidate"]
        groups[f"span {one['span']}, last blessed model"] = one["baseline"]
    return [
        {
            "name": name,
            "figures": [each.show(group[each.name]) for each in metric.METRICS],
            "interval": interval(group.get("mAP_interval")),
            "identities": group["identities"],
            "queries": group["queries"],
        }
        for name, group in groups.items()
        if group and group["queries"]
    ]


def interval(ends: list[float] | None) -> str:
    """Two shares in percent."""
    return f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}" if ends else "-"


def _difference(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    low, high = (100 * end for end in found["interval"])
    return f"{100 * found['mAP']:+.2f} points of mAP (95 % interval {low:+.2f} to {high:+.2f})"


def _roc(curves: dict[str, Any], marks: list[dict[str, Any]]) -> Any:
    candidate = curves["candidate"]
    pairs = candidate["pairs"]
    said = f"area {candidate['auc']:.4f}, equal error rate {100 * candidate['eer']:.2f} %"
    return plots.curves(
        [plots.Line(_name(name), [tuple(point) for point in curve["points"]]) for name, curve in curves.items()],
        plots.Axis("false match rate", 1 / pairs["different"], 1, logarithmic=True),
        plots.Axis("true match rate", 0, 1),
        f"ROC: {said}, of {pairs['same']} pairs of the same identity and {pairs['different']} of different ones",
        [plots.Mark(f"{one['threshold']:.3f}", one["fmr"], 1 - one["fnmr"]) for one in marks],
    )


def _name(model: str) -> str:
    return {"candidate": "this model"}.get(model, model)


def _similarities(curves: dict[str, Any], marks: list[dict[str, Any]]) -> Any:
    candidate = curves["candidate"]
    ends = candidate["ends"]
    middles = [(low + high) / 2 for low, high in zip(ends[:-1], ends[1:], strict=True)]
    lines = {"the same identity": candidate["same"], "different identities": candidate["different"]}
    means = {
        name: sum(middle * share for middle, share in zip(middles, shares, strict=True))
        for name, shares in lines.items()
    }
    said = ", ".join(f"pairs of {name} at {mean:.2f} on average" for name, mean in means.items())
    return plots.curves(
        [plots.Line(name, list(zip(middles, shares, strict=True))) for name, shares in lines.items()],
        plots.around("cosine similarity", ends),
        plots.around("share of the pairs", [share for shares in lines.values() for share in shares], zero=True),
        f"Similarities: {said}",
        [plots.Mark(f"FMR {one['fmr']:g}", one["threshold"]) for one in marks],
    )
