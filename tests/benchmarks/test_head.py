"""The head's benchmark answers in the common form, at sizes where no figure means anything."""

import json

import pytest
import typer.testing

from longtail.models import errors
from longtail.pipeline.cli import bench

SMALL = ["head", "--classes", "40", "--dim", "8", "--batch", "4", "--rounds", "1"]


def run(*more):
    return typer.testing.CliRunner().invoke(bench.app, [*SMALL, *more])


@pytest.fixture(scope="module")
def report():
    return json.loads(run("--json").stdout)


@pytest.fixture
def rows(report):
    return {row["name"]: row for row in report["results"]}


def test_json_is_one_object_with_every_head_its_update_and_its_state(report, rows):
    assert report["bench"] == "head" and report["machine"]["cores"] >= 1
    for kind in ("plain", "leap-full", "leap-vanilla", "noise-all", "closed", "corrected", "directional"):
        assert rows[f"{kind} C=40"]["value"] > 0.0
    for kind in ("naive-statistics", "naive-draw", "update", "state"):
        assert rows[f"{kind} C=40"]["value"] > 0.0
        assert set(rows[f"{kind} C=40"]) == {"name", "value", "unit", "ratio", "target", "ok"}


def test_every_timed_row_has_a_cloud(rows):
    assert rows["rows with a cloud C=40"]["value"] == 1.0


def test_tail_health_is_held_against_a_whole_training_step(rows):
    [name] = [name for name in rows if name.startswith("tail health a step with conv4 C=40 (56 steps")]
    assert rows[name]["value"] > 0.0 and rows[name]["target"] == 1.01


def test_measured_state_is_the_formula(rows):
    assert rows["state C=40"]["ratio"] == 1.0


def test_whole_steps_of_every_head_compile_under_xla(rows):
    assert sum("XLA" in name and row["value"] is not None for name, row in rows.items()) == 9


@pytest.mark.parametrize("bad", [["--classes", "ten"], ["--classes", "3"], ["--rounds", "0"]])
def test_sizes_that_cannot_be_are_refused(bad):
    result = run(*bad)
    assert isinstance(result.exception, errors.UsageError)
