"""What the drift gate finds of injected drift, and what it takes for drift that is none."""

import collections
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tfx import types
from tfx.components.example_validator import executor as example_validator
from tfx.types import standard_artifacts

from longtail.benchmarks import drift_scenarios
from longtail.benchmarks import timing
from longtail.components import artifacts
from longtail.components import registry as registry_lib
from longtail.components.baseline_finder import executor as baseline_finder
from longtail.components.curated_schema import executor as curated_schema
from longtail.components.data import features
from longtail.components.data import identity_counts
from longtail.components.distribution_validator import comparators
from longtail.components.distribution_validator import executor as distribution_validator
from longtail.components.drift import rows as rows_lib
from longtail.components.drift_gate import executor as drift_gate
from longtail.components.embedding_drift import executor as embedding_drift
from longtail.components.span_sampler import executor as span_sampler
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models.export import preprocess
from longtail.models.export import saved_model
from longtail.models.training import data as training_data
from longtail.models.training import loop

SURE = 0.25  # from this severity on, every kind is to be found

_IMAGE = (28, 28, 1)
_SAMPLE = 2000
log = logging.getLogger("longtail")


class Gate:
    """The components between ingestion and training, as the pipeline runs them, in a folder of their own.

    Only two stand-ins: examples are written by ingestion's own functions, and statistics made by TFDV's own generators,
    without Beam.
    """

    def __init__(self, folder: str, models: str, bounds: dict[str, Any], images: int = _SAMPLE):
        self._folder, self._models, self._bounds, self._images = folder, models, bounds, images

    def judge(self, examples: list[bytes], span: int, registry: str) -> dict[str, Any]:
        """Sends a span through, and returns the gate's report on it."""
        shutil.rmtree(self._folder, ignore_errors=True)
        made = {"examples": self._artifact(standard_artifacts.Examples, "examples")}
        made["statistics"] = self._artifact(standard_artifacts.ExampleStatistics, "statistics")
        made["examples"][0].splits = made["statistics"][0].splits = [features.TRAIN_SPLIT, features.EVAL_SPLIT]
        made["statistics"][0].span = span
        parsed = [(tf.train.Example.FromString(example).features.feature, example) for example in examples]
        counts = {}
        for split in made["examples"][0].splits:
            rows = [row for row in parsed if _in_train(row[0]) == (split == features.TRAIN_SPLIT)]
            _write_examples(os.path.join(made["examples"][0].uri, f"Split-{split}"), [example for _, example in rows])
            path = registry_lib.statistics_path(made["statistics"][0].uri, split)
            _write_statistics(path, [found for found, _ in rows])
            named = (found[features.IDENTITY].bytes_list.value[0].decode() for found, _ in rows)
            counts[split] = collections.Counter(named)
        identity_counts.write(made["examples"][0].uri, counts)
        try:
            self._run(made, {"span": span, "registry": registry, "models": self._models})
        except errors.WorkError as error:
            if not str(error).startswith("stopped by the drift gate"):
                raise
        with tf.io.gfile.GFile(registry_lib.report_path(registry, span)) as file:
            return json.loads(file.read())

    def _run(self, made: dict[str, list[types.Artifact]], properties: dict[str, Any]) -> None:
        """Runs the executors in the graph's order; their outputs join `made`."""
        anomalies, report, sample = standard_artifacts.ExampleAnomalies, artifacts.DriftReport, artifacts.SpanSample

        def do(executor: Any, inputs: dict[str, str], outputs: Mapping[str, tuple[str, type]], **more: Any) -> None:
            given = {key: self._artifact(kind, name) for key, (name, kind) in outputs.items()}
            executor().Do({key: made[name] for key, name in inputs.items()}, given, {**properties, **more})
            made.update({name: given[key] for key, (name, _) in outputs.items()})

        both = {"sample": "sample", "baseline_sample": "baseline_sample"}
        measured = {"statistics": "statistics", "baseline_statistics": "baseline_statistics"}
        schemas = {key: (key, standard_artifacts.Schema) for key in ("schema", "statistics_schema")}
        do(curated_schema.Executor, {}, schemas, bounds=json.dumps(self._bounds))
        do(span_sampler.Executor, {"examples": "examples"}, {"sample": ("sample", sample)}, images=self._images)
        checked = {"statistics": "statistics", "schema": "statistics_schema"}
        do(example_validator.Executor, checked, {"anomalies": ("schema_anomalies", anomalies)}, exclude_splits="[]")
        found = {
            "baseline_statistics": ("baseline_statistics", standard_artifacts.ExampleStatistics),
            "baseline_sample": ("baseline_sample", sample),
            "baseline_model": ("baseline_model", standard_artifacts.Model),
        }
        do(baseline_finder.Executor, {"statistics": "statistics", "sample": "sample"}, found)
        do(
            distribution_validator.Executor,
            {**measured, **both},
            {"anomalies": ("drift_anomalies", anomalies), "report": ("data_report", report)},
            distribution_validator_config=comparators.config({}),
            include_split_pairs=json.dumps([[features.TRAIN_SPLIT] * 2]),
            thresholds="{}",
        )
        embedded = {**both, "baseline_model": "baseline_model"}
        do(embedding_drift.Executor, embedded, {"report": ("embedding_report", report)}, thresholds="{}")
        keys = ("schema_anomalies", "drift_anomalies", "data_report", "embedding_report")
        judged = {**measured, **{key: key for key in ("examples", "sample", *keys)}}
        do(drift_gate.Executor, judged, {"blessing": ("blessing", artifacts.DataBlessing)})

    def _artifact(self, kind: type[types.Artifact], name: str) -> list[types.Artifact]:
        made = kind()
        made.uri = os.path.join(self._folder, name)
        return [made]


def _write_examples(folder: str, examples: list[bytes]) -> None:
    os.makedirs(folder)
    with tf.io.TFRecordWriter(os.path.join(folder, "data_tfrecord-00000-of-00001.gz"), "GZIP") as writer:
        for example in examples:
            writer.write(example)


def _in_train(found: Any) -> bool:
    return found[features.SPLIT].bytes_list.value[0] == features.TRAIN


def _write_statistics(path: str, examples: list[Any]) -> None:
    """Statistics of the features that StatisticsGen is told to look at."""
    rows = []
    for found in examples:
        values = ((name, getattr(found[name], found[name].WhichOneof("kind"))) for name in features.STATISTICS)
        rows.append({name: value.value[0] for name, value in values})
    statistics = tfdv.generate_statistics_from_dataframe(pd.DataFrame(rows))
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(statistics.SerializeToString())


def _train(pool: drift_scenarios.Pool, shots: tuple[drift_scenarios.Shot, ...], epochs: int, folder: str) -> None:
    """Pushes version 1, trained on the accepted span's train identities."""
    found = [tf.train.Example.FromString(pool.example(shot)).features.feature for shot in shots]
    rows = [(row[features.IDENTITY].bytes_list.value[0], row) for row in found if _in_train(row)]
    encoded = [row[features.ENCODED].bytes_list.value[0] for _, row in rows]
    _, labels = np.unique([identity for identity, _ in rows], return_inverse=True)
    config = config_lib.TrainConfig(
        model=config_lib.Model(image=_IMAGE, weight_decay=5e-4),
        augment=config_lib.Augmentation(shift=0.1, rotation=15),
        training=config_lib.Training(epochs=epochs),
    )
    decode = preprocess.Preprocess(_IMAGE)
    data = training_data.TrainingSet(np.array(encoded, object), labels.astype(np.int64), np.bincount(labels))
    saved_model.export(loop.train(config, data, decode).embedder, decode, os.path.join(folder, "1"))


def run(data: str = "", identities: int = 400, epochs: int = 24, kinds: str = "") -> dict[str, Any]:
    """Sends clean and injected spans through the gate, each against an accepted span.

    Injected ones against one of the first of `drift_scenarios.SEEDS`; clean ones against one of each, and long-tailed
    clean ones against long-tailed ones.

    Args:
      data: folder or .zip of `folder/identity/image`; the built-in glyphs where empty.
      identities: of the accepted span, six images each, a quarter of them held out.
      epochs: how long the model is trained that embeds.
      kinds: only cases whose kind is among these, comma-separated; all where empty.

    Returns:
      {"bench", "machine", "results"} of the benchmarks' common form. A case's `ratio` is threshold / distance of the
      feature that stood out most: an injected case is found where it is below 1, `inf` where the schema broke, so that
      the ratio is 0. Of a clean case it is distance / threshold. `cases` says which features were found, and the seed
      of the accepted span. What has no case is neither reached nor missed.

    Raises:
      errors.UsageError: data that does not suffice, or an unknown kind.
    """
    wanted = {kind.strip() for kind in kinds.split(",") if kind.strip()} or set(drift_scenarios.kinds())
    unknown = sorted(wanted - set(drift_scenarios.kinds()))
    if unknown:
        raise errors.UsageError(f"--kinds: no kind {unknown[0]!r}; known are {', '.join(drift_scenarios.kinds())}")
    started, found = time.monotonic(), []
    for seed in drift_scenarios.SEEDS:
        pool = drift_scenarios.open_pool(data, identities, seed)
        chosen = [case for case in drift_scenarios.cases(pool) if case.kind in wanted]
        for outcome in _judged(pool, chosen, epochs):
            found.append(outcome)
            log.info("%s", _line(outcome, time.monotonic() - started))
    spent = {"data": os.path.basename(data) or "glyphs", "seconds": round(time.monotonic() - started)}
    machine = {**timing.machine(), **spent, "accepted_seeds": sorted({one["seed"] for one in found})}
    return {"bench": "drift", "machine": machine, "results": _results(found), "cases": found}


def _judged(pool: drift_scenarios.Pool, chosen: list[drift_scenarios.Case], epochs: int) -> Iterator[dict[str, Any]]:
    """Has a model trained, spans accepted, and then each case judged."""
    if not chosen:
        return
    with tempfile.TemporaryDirectory() as folder:
        models = os.path.join(folder, "models")
        shots = drift_scenarios.accepted(pool)
        _train(pool, shots, epochs, models)
        gate = Gate(os.path.join(folder, "span"), models, _bounds([pool.example(shot) for shot in shots]))
        registries = {tailed: os.path.join(folder, f"registry-{tailed}") for tailed in {one.tailed for one in chosen}}
        for tailed, registry in registries.items():
            span = drift_scenarios.long_tailed(pool, drift_scenarios.ACCEPTED_TURN, fresh=False) if tailed else shots
            gate.judge([pool.example(shot) for shot in span], 1, registry)
        for case in chosen:
            own = os.path.join(folder, "own")
            shutil.copytree(registries[case.tailed], own)
            report = gate.judge([pool.example(shot) for shot in case.shots], 2, own)
            yield {**_outcome(case, report), "seed": pool.seed}
            shutil.rmtree(own)


def _bounds(examples: list[bytes]) -> dict[str, Any]:
    """The schema's bounds as a house would set them: no image larger than those that are known."""
    sizes = [tf.train.Example.FromString(example).features.feature for example in examples]
    highest = {key: max(size[key].int64_list.value[0] for size in sizes) for key in (features.HEIGHT, features.WIDTH)}
    return {key: {"max": value} for key, value in highest.items()}


def _outcome(case: drift_scenarios.Case, report: dict[str, Any]) -> dict[str, Any]:
    """What the gate said of a case."""
    worst = next((row for row in report["features"] if row["distance"] is not None), None)
    drifted = [row["feature"] for row in report["features"] if row["verdict"] != rows_lib.OK]
    broken = sorted({row["feature"] for row in report["schema"]})
    return {
        "kind": case.kind,
        "severity": case.severity,
        "images": len(case.shots),
        "stopped": report["verdict"] == drift_gate.REFUSED,
        "features": [*(f"schema: {name}" for name in broken), *drifted],
        "most": worst and {key: worst[key] for key in ("feature", "distance", "threshold")},
    }


def _line(one: dict[str, Any], seconds: float) -> str:
    what = f"{one['kind']} {one['severity']:.0%}" if one["severity"] else f"clean, {one['kind']}"
    return f"{what}: {', '.join(one['features']) if one['stopped'] else 'passed'}  ({seconds:.0f} s)"


def _results(found: list[dict[str, Any]]) -> list[dict[str, object]]:
    """Counts by severity, then a row a case."""
    clean = [one for one in found if not one["severity"]]
    alarms = sum(one["stopped"] for one in clean)
    rows = [timing.row("false alarms", alarms, f"of {len(clean)} clean", target=0 if clean else None)]
    for severity in drift_scenarios.SEVERITIES:
        these = [one for one in found if one["severity"] == severity]
        missed = sum(not one["stopped"] for one in these)
        target = 0 if these and severity >= SURE else None
        rows.append(timing.row(f"missed at {severity:.0%}", missed, f"of {len(these)} injected", target=target))
    for number, one in enumerate(found):
        most = one["most"] or {"feature": "", "distance": 0.0, "threshold": 1.0}
        most_allowed: float | None = 1.0
        if not one["severity"]:
            name, ratio = f"clean: {one['kind']} {number + 1}", most["distance"] / most["threshold"]
        else:
            name, most_allowed = f"{one['kind']} {one['severity']:.0%}", 1.0 if one["severity"] >= SURE else None
            broken = any(feature.startswith("schema: ") for feature in one["features"])
            ratio = 0.0 if broken else most["threshold"] / max(most["distance"], 1e-9)
        rows.append(timing.row(name, most["distance"], most["feature"], ratio, most_allowed))
    return rows
