"""The benchmark of feature transfer answers in the common form, at sizes where no figure means anything."""

import json

import typer.testing

from longtail.pipeline.cli import bench


def test_json_is_one_object_with_a_step_of_every_stage():
    words = ["--side", "16", "--width", "0.05", "--classes", "9", "--batch", "4", "--rounds", "1", "--json"]
    result = typer.testing.CliRunner().invoke(bench.app, ["transfer", *words], catch_exceptions=False)
    report = json.loads(result.stdout)
    stages = ("stage 0", "stage 1", "stage 2", "stage 1, its three batches joined")
    assert report["bench"] == "transfer" and [row["name"] for row in report["results"]] == [
        f"{stage}: a step" for stage in stages
    ]
    assert [row["target"] for row in report["results"]] == [None, 0.25, None, 0.25]
    assert all(row["value"] > 0 for row in report["results"])
