"""The drift benchmark answers in the common form, on spans too small for its figures to mean anything."""

import collections
import json

import pytest
import typer.testing

from longtail.benchmarks import drift
from longtail.benchmarks import drift_scenarios
from longtail.models import errors
from longtail.pipeline.cli import bench

SMALL = ["drift", "--identities", "24", "--epochs", "1"]


def run(*more):
    return typer.testing.CliRunner().invoke(bench.app, [*SMALL, *more])


@pytest.fixture(scope="module")
def report():
    return json.loads(run("--kinds", "inversion,long tail", "--json").stdout)


def test_json_is_one_object_of_counts_and_cases(report):
    assert report["bench"] == "drift" and report["machine"]["data"] == "glyphs"
    assert all(set(row) == {"name", "value", "unit", "ratio", "target", "ok"} for row in report["results"])
    assert len(report["results"]) == 1 + len(drift_scenarios.SEVERITIES) + len(report["cases"])


def test_a_span_of_inverted_images_is_found_by_features_whose_thresholds_are_calibrated(report):
    (case,) = (case for case in report["cases"] if case["severity"] == 1.0)
    assert case["stopped"] and {"image/brightness", "image/ink"} <= set(case["features"])


def test_clean_long_tailed_spans_pass_against_accepted_spans_of_two_seeds(report):
    clean = [case for case in report["cases"] if not case["severity"]]
    assert {case["kind"] for case in clean} == {"long tail"} and not any(case["stopped"] for case in clean)
    assert {case["seed"] for case in clean} == {0, 1} == set(report["machine"]["accepted_seeds"])


def test_what_has_no_case_is_neither_reached_nor_missed():
    assert {row["ok"] for row in drift._results([])} == {None}


def test_an_unknown_kind_is_refused_with_those_that_are_known():
    error = run("--kinds", "schema,typo").exception
    assert isinstance(error, errors.UsageError)
    assert "'typo'" in str(error) and "label shares" in str(error) and "new images" in str(error)


def _cases():
    pools = (drift_scenarios.open_pool("", 24, seed) for seed in drift_scenarios.SEEDS)
    return [case for pool in pools for case in drift_scenarios.cases(pool)]


def test_there_are_thirty_planted_cases_and_twenty_clean_ones():
    severities = [case.severity for case in _cases()]
    assert severities.count(0.0) >= 20 and len(severities) - severities.count(0.0) >= 30


def test_every_kind_has_cases():
    assert {case.kind for case in _cases()} == set(drift_scenarios.kinds())


def test_no_image_of_a_planted_span_is_in_the_accepted_one_but_where_that_is_planted():
    pool = drift_scenarios.open_pool("", 24)
    tailed = drift_scenarios.long_tailed(pool, drift_scenarios.ACCEPTED_TURN, fresh=False)
    before = {False: set(drift_scenarios.accepted(pool)), True: set(tailed)}
    repeated = {case.kind for case in drift_scenarios.cases(pool) if before[case.tailed] & set(case.shots)}
    assert repeated == {"delivered again"}


def test_a_long_tailed_span_has_identities_of_many_images_and_of_one_and_not_all():
    pool = drift_scenarios.open_pool("", 40)
    counts = collections.Counter(shot.identity for shot in drift_scenarios.long_tailed(pool, 0))
    assert max(counts.values()) >= 10 and min(counts.values()) == 1 and len(counts) < 40


def test_data_that_does_not_suffice_is_refused(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "c").mkdir(parents=True)
    for name in ("b/1.png", "c/1.png"):
        (tmp_path / "a" / name).write_bytes(b"")
    assert isinstance(run("--data", str(tmp_path)).exception, errors.UsageError)
