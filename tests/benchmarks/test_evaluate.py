"""The benchmark of scoring answers in the common form, at sizes where no figure means anything."""

import json

import pytest
import typer.testing

from longtail.benchmarks import evaluate
from longtail.models import errors
from longtail.pipeline.cli import bench

SMALL = ["--dim", "8", "--rounds", "1", "--distractors", "200", "--probes", "20", "--queries", "30", "--gallery", "90"]


def test_json_is_one_object_with_every_time_beside_its_product_and_every_peak():
    result = typer.testing.CliRunner().invoke(bench.app, ["evaluate", *SMALL, "--json"], catch_exceptions=False)
    report = json.loads(result.stdout)
    times, peaks = (
        [row for row in report["results"] if row["unit"] == unit and row["value"] > 0] for unit in ("s", "MiB")
    )
    assert report["bench"] == "evaluate"
    assert all(row["ratio"] > 0 for row in times) and all(row["target"] for row in peaks)
    assert [row["name"].split(" 30")[0] for row in times[:3]] == [
        "evaluation",
        "evaluation with query expansion",
        "evaluation with re-ranking",
    ]
    assert len(times) == len(peaks) == 4


def test_a_peer_that_is_not_compiled_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(errors.UsageError, match="no rank_cy.*cythonize"):
        evaluate.run(8, 1, 200, 20, (30, 90), peer=str(tmp_path))
