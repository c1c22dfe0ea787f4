"""Ingested examples, their statistics and the way through the gate, small, for tests."""

import collections
import hashlib
import json
import os
import shutil

import numpy as np
import pandas as pd
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tfx.components.example_validator import executor as example_validator
from tfx.components.statistics_gen import executor as statistics_gen
from tfx.dsl.components.base import base_beam_executor
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.components.baseline_finder import executor as baseline_finder
from longtail.components.curated_schema import executor as curated_schema
from longtail.components.data import features
from longtail.components.data import identity_counts
from longtail.components.data import samples
from longtail.components.distribution_validator import comparators
from longtail.components.distribution_validator import executor as distribution_executor
from longtail.components.drift_gate import executor as drift_gate
from longtail.components.span_window import windows

# The last one keeps TFX from packing itself up for every component.
BEAM_ARGS = ["--direct_running_mode=in_memory", "--direct_num_workers=1", "--sdk_container_image=none"]
NOBODY = ledger.Withdrawals()


def beam_context(folder):
    """A Beam executor's context, as the local runner makes it."""
    return base_beam_executor.BaseBeamExecutor.Context(beam_pipeline_args=list(BEAM_ARGS), tmp_dir=str(folder))


def artifact(kind, folder):
    """An artifact of `kind` at `folder`, as a list of one."""
    result = kind()
    result.uri = str(folder)
    return [result]


def image(identity, number, seed=0, content=None, **scalars):
    """The features of one made-up image, with scalars like those of pen strokes on paper."""
    path = f"{identity}/{number:03d}.png"
    digest = hashlib.sha256((content or f"{seed}/{path}").encode())
    draw = np.random.default_rng(int.from_bytes(digest.digest()[:8], "big"))
    ink = draw.normal(0.06, 0.01)
    values = {
        features.ENCODED: digest.digest(),
        features.FORMAT: b"png",
        features.HEIGHT: 105,
        features.WIDTH: 105,
        features.PATH: path.encode(),
        features.SHA256: digest.hexdigest().encode(),
        features.IDENTITY: identity.encode(),
        features.CAMERA: -1,
        features.SPLIT: features.TRAIN,
        features.BRIGHTNESS: 1.0 - ink,
        features.CONTRAST: draw.normal(0.23, 0.01),
        features.SHARPNESS: draw.normal(0.09, 0.01),
        features.INK: ink,
        features.ASPECT: 1.0,
        features.KILOBYTES: draw.normal(0.3, 0.02),
    }
    return {**values, **scalars}


def images(seed=0, identities=20, each=5, prefix="clean", **scalars):
    """The images of a span: `each` of every identity."""
    return [
        image(f"{prefix}{seed}-{identity:03d}", number, seed, **scalars)
        for identity in range(identities)
        for number in range(each)
    ]


def inverted(span):
    """The same images with dark and light exchanged."""
    changed = {features.INK: features.BRIGHTNESS, features.BRIGHTNESS: features.INK}
    return [{key: one[changed.get(key, key)] for key in one} for one in span]


def serialise(values):
    """A tf.Example of `values`."""
    example = tf.train.Example()
    for key, value in values.items():
        feature = example.features.feature[key]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.float_list.value.append(value)
    return example.SerializeToString()


def ingested(folder, train, evaluation=None):
    """An Examples artifact as ingestion leaves it: splits `train` and `eval`, two files each."""
    result = artifact(standard_artifacts.Examples, folder)
    if evaluation is None:
        evaluation = [{**row, features.SPLIT: features.QUERY} for row in train[-10:]]
    splits = {"train": train, "eval": evaluation}
    result[0].splits = list(splits)
    for split, rows in splits.items():
        path = os.path.join(result[0].uri, f"Split-{split}")
        os.makedirs(path)
        for shard in range(2):
            name = os.path.join(path, f"data_tfrecord-{shard:05d}-of-00002.gz")
            with tf.io.TFRecordWriter(name, "GZIP") as writer:
                for values in rows[shard::2]:
                    writer.write(serialise(values))
    named = {split: [one[features.IDENTITY].decode() for one in rows] for split, rows in splits.items()}
    identity_counts.write(result[0].uri, {split: collections.Counter(found) for split, found in named.items()})
    return result


def window(folder, *sources, withdrawals=NOBODY):
    """A SpanWindow artifact of Examples, spans 1, 2 and so on; the last is the new one."""
    order = []
    for source in sources:
        if os.path.exists(os.path.join(source.uri, identity_counts.FILE)):
            order += sorted(set(identity_counts.read(source.uri)["train"]).difference(order))
    spans = tuple(windows.Span(number, source.uri, "", 0, 0) for number, source in enumerate(sources, 1))
    numbers = {name: number for number, name in enumerate(order)}
    windows.write(str(folder), windows.Window(len(sources), spans, withdrawals, numbers))
    return artifact(artifacts.SpanWindow, folder)


def generated_statistics(folder, train):
    """Statistics of a span by the stock StatisticsGen, through Beam, with the house's allowlist; and its sample."""
    result = artifact(standard_artifacts.ExampleStatistics, os.path.join(folder, "statistics"))
    options = tfdv.StatsOptions(feature_allowlist=list(features.STATISTICS))
    statistics_gen.Executor(beam_context(folder)).Do(
        {"examples": ingested(os.path.join(folder, "examples"), train)},
        {"statistics": result},
        {"stats_options_json": options.to_json()},
    )
    draw_sample(folder, os.path.join(folder, "examples"))
    return result


def statistics(folder, train):
    """The same by TFDV in memory, which takes a fiftieth of the time."""
    result = artifact(standard_artifacts.ExampleStatistics, os.path.join(folder, "statistics"))
    result[0].splits = ["train", "eval"]
    for split, rows in (("train", train), ("eval", train[-10:])):
        made = [{key: one[key] for key in features.STATISTICS if key in one} for one in rows]
        found = tfdv.generate_statistics_from_dataframe(pd.DataFrame(made))
        path = registry_lib.statistics_path(result[0].uri, split)
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(found.SerializeToString())
    ingested(os.path.join(folder, "examples"), train)
    draw_sample(folder, os.path.join(folder, "examples"))
    return result


def draw_sample(folder, examples, images=1000):
    """SpanSampler's sample of `examples`, at `folder`."""
    sides = (sorted(tf.io.gfile.glob(os.path.join(examples, f"Split-{split}", "*"))) for split in ("train", "eval"))
    samples.draw(*sides, os.path.join(folder, "sample"), images)


def sample_of(span_statistics):
    """The sample that `statistics` drew beside the statistics."""
    return artifact(artifacts.SpanSample, os.path.join(os.path.dirname(span_statistics[0].uri), "sample"))


def accept(registry, span, span_statistics, baseline=-1, data=""):
    """Makes a span a baseline without asking the gate."""
    sample = sample_of(span_statistics)[0].uri
    kept = registry_lib.keep(str(registry), span, span_statistics[0].uri, ["train", "eval"], sample)
    registry_lib.accept(str(registry), span, kept, baseline, data)


def schemas(folder, bounds="{}"):
    """The two schema artifacts: of everything, and of what has statistics."""
    outputs = {
        key: artifact(standard_artifacts.Schema, os.path.join(folder, key))
        for key in (curated_schema.SCHEMA_KEY, curated_schema.STATISTICS_SCHEMA_KEY)
    }
    curated_schema.Executor().Do({}, outputs, {"bounds": bounds, "version": "v"})
    return outputs[curated_schema.SCHEMA_KEY], outputs[curated_schema.STATISTICS_SCHEMA_KEY]


def validate_schema(folder, span_statistics, schema):
    """The stock ExampleValidator's anomalies."""
    result = artifact(standard_artifacts.ExampleAnomalies, os.path.join(folder, "anomalies"))
    inputs = {"statistics": span_statistics, "schema": schema}
    example_validator.Executor().Do(inputs, {"anomalies": result}, {"exclude_splits": "[]"})
    return result


def validate_drift(folder, current, baseline, config=None, thresholds=None, samples_of=None):
    """Our DistributionValidator's anomalies and report; `config` may be JSON text, as on Kubeflow."""
    outputs = {
        "anomalies": artifact(standard_artifacts.ExampleAnomalies, os.path.join(folder, "drift")),
        "report": artifact(artifacts.DriftReport, os.path.join(folder, "report")),
    }
    sample, baseline_sample = samples_of or (sample_of(current), sample_of(baseline))
    distribution_executor.Executor().Do(
        {
            "statistics": current,
            "baseline_statistics": baseline,
            "sample": sample,
            "baseline_sample": baseline_sample,
        },
        outputs,
        {
            "distribution_validator_config": config or comparators.config(thresholds or {}),
            "include_split_pairs": json.dumps([["train", "train"]]),
            "thresholds": json.dumps(thresholds or {}),
        },
    )
    return outputs["anomalies"], outputs["report"]


def find_baseline(folder, current, span, registry, models="", fingerprint="", **pins):
    """BaselineFinder's outputs by name; `fingerprint` is of the span's data."""
    outputs = {
        "baseline_statistics": artifact(standard_artifacts.ExampleStatistics, os.path.join(folder, "baseline")),
        "baseline_sample": artifact(artifacts.SpanSample, os.path.join(folder, "baseline_sample")),
        "baseline_model": artifact(standard_artifacts.Model, os.path.join(folder, "model")),
    }
    properties = {"span": span, "registry": str(registry), "models": str(models), **pins}
    sample = sample_of(current)
    sample[0].set_string_custom_property("fingerprint", fingerprint)
    inputs = {"statistics": current, "sample": sample}
    baseline_finder.Executor().Do(inputs, outputs, properties)
    return outputs


def pass_gate(folder, current, span, registry, accept_drift="", bounds="{}", fingerprint="", reports=None):
    """Takes a span's statistics from BaselineFinder to DriftGate, and returns the blessing."""
    folder = os.path.join(folder, f"run-{span}")
    shutil.rmtree(folder, ignore_errors=True)
    current[0].span = span
    found = find_baseline(folder, current, span, registry)
    baseline = found["baseline_statistics"]
    blessing = artifact(artifacts.DataBlessing, os.path.join(folder, "blessing"))
    both = (sample_of(current), found["baseline_sample"])
    drift, report = validate_drift(folder, current, baseline, samples_of=both)
    sample = sample_of(current)
    sample[0].set_string_custom_property("fingerprint", fingerprint)
    inputs = {
        "examples": artifact(standard_artifacts.Examples, os.path.join(os.path.dirname(current[0].uri), "examples")),
        "statistics": current,
        "baseline_statistics": baseline,
        "schema_anomalies": validate_schema(folder, current, schemas(folder, bounds)[1]),
        "drift_anomalies": drift,
        "data_report": report,
        "sample": sample,
        **(reports or {}),
    }
    properties = {
        "span": span,
        "registry": str(registry),
        "accept_drift": accept_drift,
    }
    drift_gate.Executor().Do(inputs, {"blessing": blessing}, properties)
    return blessing[0]
