"""The drift benchmark answers in the common form, on spans too small for its figures to mean anything."""

import json

import pytest
import typer.testing

from benchmarks import planted
from models import errors
from pipeline.commands import bench

SMALL = ["drift", "--identities", "24", "--epochs", "1"]


def run(*more):
    return typer.testing.CliRunner().invoke(bench.app, [*SMALL, *more])


@pytest.fixture(scope="module")
def report():
    return json.loads(run("--kinds", "schema", "--json").stdout)


def test_json_is_one_object_of_counts_and_cases(report):
    assert report["bench"] == "drift" and report["machine"]["data"] == "glyphs"
    assert all(set(row) == {"name", "value", "unit", "ratio", "target", "ok"} for row in report["results"])
    assert len(report["results"]) == 1 + 2 * len(planted.SEVERITIES)


def test_a_broken_schema_is_found_by_the_feature_that_breaks_it(report):
    assert {case["stopped"] for case in report["cases"]} == {True}
    assert {"schema: image/height", "schema: image/width"} <= set(report["cases"][0]["features"])


def test_there_are_thirty_planted_cases_and_twenty_clean_ones():
    pool = planted.open_pool("", 24)
    severities = [case.severity for case in planted.cases(pool)]
    assert severities.count(0.0) >= 20 and len(severities) - severities.count(0.0) >= 30


def test_no_image_of_a_planted_span_is_in_the_accepted_one_but_where_that_is_planted():
    pool = planted.open_pool("", 24)
    accepted = set(planted.accepted(pool))
    repeated = {case.kind for case in planted.cases(pool) if accepted & set(case.shots)}
    assert repeated == {"delivered again"}


def test_data_that_does_not_suffice_is_refused(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "c").mkdir(parents=True)
    for name in ("b/1.png", "c/1.png"):
        (tmp_path / "a" / name).write_bytes(b"")
    assert isinstance(run("--data", str(tmp_path)).exception, errors.UsageError)
