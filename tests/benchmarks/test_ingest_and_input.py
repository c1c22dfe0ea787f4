"""The benchmarks of ingestion and training input answer in the common form, at sizes where no figure means anything."""

import json
import types

import pytest
import typer.testing

from longtail.benchmarks import ingest
from longtail.models import errors
from longtail.pipeline.cli import bench


def rows(*words):
    report = json.loads(typer.testing.CliRunner().invoke(bench.app, [*words, "--json"], catch_exceptions=False).stdout)
    assert report["bench"] == words[0]
    return {row["name"]: row["value"] for row in report["results"]}


def test_ingestion_is_measured_beside_a_plain_loop(monkeypatch, processes):
    quick = types.SimpleNamespace(run=lambda command, **options: processes.run(*command[2:]))
    monkeypatch.setattr(ingest, "subprocess", quick)  # its four processes have TFX imported
    found = rows("ingest", "--images", "120", "--side", "16")
    assert min(found.values()) > 0
    assert {"plain loop, 120 images", "ingestion, 120 images", "ingestion's peak, 120 images"} < set(found)


def test_training_input_is_measured_beside_decoding_alone():
    found = rows("input", "--images", "80", "--side", "16", "--rounds", "1")
    assert min(found.values()) > 0
    assert found["index in memory, 80 images"] == 24.0
    assert {"a step, one batch, 80 images", "a step, images read and decoded, 80 images"} < set(found)


def test_a_number_that_is_none_is_bad_usage():
    with pytest.raises(errors.UsageError, match="--images: whole numbers with commas between, not 'many'"):
        typer.testing.CliRunner().invoke(bench.app, ["ingest", "--images", "many"], catch_exceptions=False)
