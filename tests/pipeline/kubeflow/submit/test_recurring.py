"""`longtail submit --recurring` against a server that answers as Kubeflow Pipelines does, over real sockets."""

import json

import pytest
import yaml

from longtail.models import errors
from longtail.pipeline.kubeflow.submit import recurring
from tests.pipeline.kubeflow.submit import conftest
from tests.pipeline.kubeflow.submit import kfp_server

EVERY_NIGHT = ("--recurring", "0 0 3 * * *")


def test_a_recurring_run_of_the_uploaded_file_is_made(kfp, server, command, file):
    done = command("--endpoint", server.address, "--experiment", "mine", *EVERY_NIGHT)
    [made] = kfp.stored["recurringRuns"].values()
    page = f"{server.address}/#/recurringrun/details/{made['recurring_run_id']}"
    assert done.stdout == f"recurring run glyphs of pipeline glyphs, at 0 0 3 * * *, made: {page}\n"
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert (made["display_name"], made["max_concurrency"], made["mode"]) == ("glyphs", "1", "ENABLE")
    assert made["no_catchup"] is True
    assert made["runtime_config"] == {"parameters": {"data": "gs://b/images"}, "pipeline_root": "gs://b/longtail"}
    with open(file, "rb") as content:
        assert kfp.uploads[made["pipeline_version_reference"]["pipeline_version_id"]] == content.read()
    assert kfp.stored["experiments"][made["experiment_id"]]["display_name"] == "mine"
    assert not kfp.stored["runs"]


def test_sent_again_it_is_found_in_one_line_and_no_second_one_is_made(kfp, server, command):
    first = json.loads(command("--endpoint", server.address, "--json", *EVERY_NIGHT).stdout)
    again = command("--endpoint", server.address, *EVERY_NIGHT)
    assert first["made"] and "is there already, nothing was made: " in again.stdout
    assert again.stdout.count("\n") == 1 and first["page"] in again.stdout
    assert len(kfp.stored["recurringRuns"]) == 1 and kfp.count("POST", "/recurringruns") == 1


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_dropped_connection_makes_no_second_one(kfp, server, command, drop):
    kfp.faults.append(kfp_server.Fault("POST", "/recurringruns", drop=drop))
    assert command("--endpoint", server.address, *EVERY_NIGHT).exit_code == 0
    assert len(kfp.stored["recurringRuns"]) == 1


def test_another_schedule_or_file_under_the_same_name_is_refused_as_two_would_run_side_by_side(
    kfp, server, command, file
):
    command("--endpoint", server.address, *EVERY_NIGHT)
    other = command("--endpoint", server.address, "--recurring", "0 0 4 * * *")
    assert isinstance(other.exception, errors.WorkError)
    assert "has a recurring run named glyphs already, with another schedule (0 0 3 * * *); name" in str(other.exception)
    with open(file, "w", encoding="utf-8") as anew:
        yaml.safe_dump({**conftest.SPEC, "sdkVersion": "next"}, anew)
    other = command("--endpoint", server.address, *EVERY_NIGHT, "--param", "rate=0.5")
    assert "already, with another pipeline file and other parameters (rate); name" in str(other.exception)
    assert len(kfp.stored["recurringRuns"]) == 1
    assert command("--endpoint", server.address, *EVERY_NIGHT, "--run", "second").exit_code == 0


@pytest.mark.parametrize(
    "cron", ["0 0 3 * * *", "0 */5 * * * ?", "0 0 8-18/2 1,15 JAN-jun Mon-Fri", "30 0 0 31 12 0", "0  0 3  * * *"]
)
def test_six_fields_as_kubeflow_reads_them_are_taken(cron):
    assert recurring.check_cron(cron) == " ".join(cron.split())


@pytest.mark.parametrize(
    "words, message",
    [
        (("--recurring", "*/5 * * * *"), "would take the first of five fields for them; write '0 */5 * * * *'"),
        (("--recurring", "* * *"), "give six fields, seconds, minutes, hours, day of the month, month, day of the"),
        (("--recurring", ""), "it has 0"),
        (("--recurring", "60 * * * * *"), "seconds is '60'; give *, numbers from 0 to 59"),
        (("--recurring", "0 0 3 0 * *"), "day of the month is '0'"),
        (("--recurring", "0 0 3 * 13 *"), "month is '13'"),
        (("--recurring", "0 0 3 * * 7"), "day of the week is '7'; give *, numbers from 0 to 6"),
        (("--recurring", "0 0 9-3 * * *"), "hours is '9-3'"),
        (("--recurring", "0 */0 * * * *"), "minutes is '*/0'"),
        (("--recurring", "0 0 3 L * *"), "day of the month is 'L'"),
        ((*EVERY_NIGHT, "--wait"), "--wait: a recurring run has no end to wait for"),
    ],
)
def test_a_wrong_schedule_is_told_before_anything_is_sent(kfp, server, command, words, message):
    refused = command("--endpoint", server.address, *words)
    assert isinstance(refused.exception, errors.UsageError) and message in str(refused.exception)
    assert not kfp.requests


def test_data_with_a_span_in_it_is_refused_as_no_schedule_counts_spans(kfp, server, command):
    parameters = ("--param", "data=gs://b/span-{SPAN}", "--param", "span=2")
    refused = command("--endpoint", server.address, *EVERY_NIGHT, parameters=parameters)
    assert isinstance(refused.exception, errors.UsageError) and not kfp.requests
    assert "gs://b/span-{SPAN} would be the same delivery each time" in str(refused.exception)
