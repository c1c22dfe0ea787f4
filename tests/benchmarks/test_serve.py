"""The serving benchmark's own arithmetic, its generators at tiny counts, and its form."""

import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import typer.testing

from longtail.benchmarks import bench_server
from longtail.benchmarks import latency
from longtail.benchmarks import raw
from longtail.benchmarks import serve
from longtail.benchmarks import server_process
from longtail.benchmarks import timing
from longtail.benchmarks import workload
from longtail.models import errors
from longtail.pipeline.cli import bench
from tests.load import hostile
from tests.load import hostile_requests
from tests.load import soak

ALONE = bench_server.ONE_CORE
ALL, OTHER = bench_server.Setting(1, -1, 2), bench_server.Setting(2, 2, 1)


def run(*more):
    return typer.testing.CliRunner().invoke(bench.app, ["serve", *more])


@pytest.fixture(scope="module")
def small_bench(tmp_path_factory):
    """The small model, served."""
    built = bench_server.BenchServer("conv4", str(tmp_path_factory.mktemp("bench")), images=3)
    with built.running(settings=[ALONE]):
        yield built


# -- arithmetic


def test_at_least_and_at_most_are_told_apart():
    assert timing.row("a", 1.0, "s", 0.8, 0.75, at_least=True)["ok"] is True
    assert timing.row("a", 1.0, "s", 0.7, 0.75, at_least=True)["ok"] is False
    assert timing.row("a", 1.0, "s", 0.8, 0.75)["ok"] is False


def test_the_limit_is_the_best_setting_of_every_core_and_each_round_is_held_against_its_own():
    found = serve.Rounds(
        raw={
            ALL: {0: 100.0, 1: 200.0, 2: 400.0},
            OTHER: {0: 90.0, 1: 180.0, 2: 1000.0},
            ALONE: {0: 900.0, 1: 900.0, 2: 900.0},
        },
        served={"a": {0: 50.0, 1: 150.0, 2: 400.0}, "b": {1: 100.0}},
        calls={},
    )
    assert found.best == ALL
    assert found.ratio("a", found.best) == pytest.approx(0.75)  # the median of 0.5, 0.75 and 1
    assert found.ratio("b", found.best) == pytest.approx(0.5)


def test_rows_name_the_case_and_what_an_image_costs():
    case = bench_server.Case("so asked", 1, 2, 2, target=0.75)
    found = serve.Rounds({ALL: {0: 1000.0}, ALONE: {0: 1100.0}}, {"so asked": {0: 500.0}}, {"so asked": {0: 500.0}})
    limit, one_core, share, to_one_core, cost = serve.rows_of("conv4", [case], found)
    assert "every core" in limit["name"] and limit["value"] == 1000.0 and limit["target"] is None
    assert "one core" in one_core["name"] and one_core["value"] == 1100.0
    assert (share["value"], share["ratio"], share["target"], share["ok"]) == (500.0, 0.5, 0.75, False)
    assert to_one_core["ratio"] == pytest.approx(500.0 / 1100.0, abs=1e-4) and to_one_core["target"] is None
    assert cost["value"] == 2000.0 and cost["unit"] == "CPU-us"


def test_memory_is_held_against_the_first_window_after_settling():
    found = [(float(at), 500 if at < 60 else 100 + (at >= 120) * 3) for at in range(240)]
    assert soak.growth(found, settle_s=60.0, window_s=60.0) == (100, pytest.approx(1.03))


def test_a_peak_of_a_moment_is_no_growth():
    found = [(float(at), 100 + 50 * (at % 20 == 0)) for at in range(240)]
    assert soak.growth(found, settle_s=60.0, window_s=60.0) == (100, 1.0)


def test_calls_around_a_change_are_those_due_until_a_little_after_it():
    calls = np.array([[9.9, 0.1], [10.0, 0.1], [12.0, 0.1], [13.9, 0.1], [14.1, 0.1]])
    assert soak.around(calls, [(10.0, 12.0)]).tolist() == [False, True, True, True, False]


SPENDS = "sum(range(20_000_000)); print(1, flush=True)"


@contextlib.contextmanager
def parent_of(work):
    """A process whose child runs `work`, once that has printed a line."""
    command = [sys.executable, "-c", f"import subprocess as s, sys; s.run([sys.executable, '-c', {work!r}]); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        yield process.pid
        process.communicate("\n" * 2)


def own_seconds(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, stat[11:13])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("work", [SPENDS, f"{SPENDS}; input()"], ids=["ended", "living"])
def test_a_process_counts_what_its_child_used(work):
    with parent_of(work) as pid:
        while server_process.cpu_seconds(pid) < own_seconds(pid) + 0.05:  # an ended child counts once it is waited for
            pass


def test_photographs_are_jpegs_of_many_sizes_and_a_photographs_weight():
    pictures = workload.photographs(16, 96)
    shapes = {tuple(tf.io.decode_jpeg(picture).shape) for picture in pictures}
    assert len(shapes) > 8 and all(shape[2] == 3 and 76 <= min(shape[:2]) <= max(shape) <= 128 for shape in shapes)
    assert 2500 < np.median([len(picture) for picture in pictures]) < 6000
    assert pictures == workload.photographs(16, 96)


# -- generators


@pytest.mark.parametrize(
    "case",
    [
        bench_server.Case("gRPC", 2, 3, 2),
        bench_server.Case("REST", 1, 2, 2, rest=True),
    ],
    ids=lambda case: case.name,
)
def test_the_generator_counts_answers_and_brings_them_back(small_bench, case):
    counted = small_bench.loaded(small_bench.plan(case, 0.3))
    assert counted["answered"] >= 1 and counted["failed"] == 0
    assert 0.0 < counted["cpu_s"] < 60.0 and counted["seconds"] >= 0.3
    small_bench.check(case, counted)


def test_answers_of_another_model_are_found_out(small_bench):
    case = bench_server.Case("gRPC", 1, 1, 1)
    counted = small_bench.loaded(small_bench.plan(case, 0.05))
    counted["answers"] = {1: counted["answers"][0]}
    with pytest.raises(errors.WorkError, match="are not the model's"):
        small_bench.check(case, counted)


def test_calls_come_at_the_asked_rate_and_are_timed_from_when_they_were_due(small_bench):
    lines = []
    plan = small_bench.plan(bench_server.Case("gRPC", 1, 0, 2), 3.0, rate=60.0)
    calls = small_bench.loaded(plan, lines.append)["calls"]
    assert 100 < len(calls) < 280 and (calls[:, 1] > 0.0).all()
    assert (np.diff(np.sort(calls[:, 0])) > 0.0).all()
    assert 0 < sum(line["answered"] for line in lines) <= len(calls)


def test_failed_calls_are_counted_and_told(small_bench):
    case = bench_server.Case("gRPC", 1, 1, 1)
    plan = small_bench.plan(case, 0.05)
    wrong = workload.write_bodies(os.path.join(small_bench.folder, "wrong"), [b"no request"])
    before = small_bench.failed
    with pytest.raises(errors.WorkError, match="answered nothing"):
        small_bench.loaded(dataclasses.replace(plan, bodies=wrong))
    assert small_bench.failed > before


def test_the_model_alone_gives_images_a_second(small_bench):
    assert small_bench.raw(ALONE, 2, 0.05) > 0.0


def test_batches_go_round_the_images():
    assert [batch.tolist() for batch in itertools.islice(raw.batches([b"a", b"b", b"c"], 2), 3)] == [
        [b"a", b"b"],
        [b"c", b"a"],
        [b"b", b"c"],
    ]


def test_a_pushed_version_is_waited_for_and_its_first_request_timed(small_bench):
    asker = latency.Asker(small_bench.server.grpc_address)
    first, ratio = asker.first_to_median(workload.grpc_body(small_bench.photographs[:1], 1))
    with pytest.raises(errors.WorkError, match="version 99 did not become available"):
        asker.wait_for(99, timeout_s=0.05)
    asker.close()
    assert first > 0.0 and ratio > 0.0


# -- hostile requests


def test_the_same_seed_sends_the_same_requests(small_bench):
    first, second = (
        list(itertools.islice(hostile_requests.Hostile("a", small_bench.photographs, seed), 60)) for seed in (7, 7)
    )
    assert first == second
    other = list(itertools.islice(hostile_requests.Hostile("a", small_bench.photographs, 8), 60))
    assert first != other


def test_a_report_of_hostile_requests_is_of_the_common_form(small_bench):
    report = json.loads(json.dumps(hostile.report(small_bench, 20, seed=0)))
    assert report["bench"] == "serve-hostile" and report["machine"]["cores"] >= 1
    assert {tuple(row) for row in report["results"]} == {("name", "value", "unit", "ratio", "target", "ok")}
    assert sum(report["kinds"].values()) == 20 and sum(report["codes"].values()) == 20


@pytest.mark.parametrize(
    ("code", "text", "fault"),
    [
        ("INVALID_ARGUMENT", b'Traceback (most recent call last):\n  File "a.py"', "trace"),
        ("400", b"at tensorflow/core/kernels/a.cc:12", "trace"),
        ("UNKNOWN", b"Exception calling application", "internal"),
        ("500", b"", "internal"),
        ("DEADLINE_EXCEEDED", b"", "no answer"),
        ("INVALID_ARGUMENT", b"input a: expects shape [?] but [2,2] is provided", None),
    ],
)
def test_answers_that_tell_of_the_servers_inside_are_faults(code, text, fault):
    verdict = hostile.Verdict()
    verdict.add(hostile_requests.Request("kind", "gRPC", "target", b""), code, text)
    assert [found for found, *_ in verdict.faults] == ([] if fault is None else [fault])


# -- the command


@pytest.mark.parametrize("bad", [["--rounds", "0"], ["--models", "none"]])
def test_numbers_that_cannot_be_are_refused(bad):
    assert isinstance(run(*bad).exception, errors.UsageError)


def test_a_soak_without_changes_and_no_hostile_request_are_refused():
    with pytest.raises(errors.UsageError, match="four changes of version"):
        soak.run(30.0, 20.0)
    with pytest.raises(errors.UsageError, match="count must be >= 1"):
        hostile.run(-1)
