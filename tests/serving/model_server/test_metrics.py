"""The metrics are TF Serving's, in Prometheus' text format, and count what happened."""

import json
import re

import grpc
import prometheus_client.parser
import pytest

from longtail.serving.model_server import metrics
from tests.serving import conftest


def samples(page):
    """Name and labels of each line -> its value; Prometheus' own parser reads it, and puts _total behind counters."""
    return {
        (sample.name.removesuffix("_total"), tuple(sorted(sample.labels.items()))): sample.value
        for family in prometheus_client.parser.text_string_to_metric_families(page)
        for sample in family.samples
    }


def value(name, **labels):
    return samples(metrics.page().decode()).get((name.removesuffix("_total"), tuple(sorted(labels.items()))), 0)


def test_an_answered_request_is_counted_and_timed_and_a_failed_one_counted():
    count, latency = ":tensorflow:serving:request_count", ":tensorflow:serving:request_latency"
    labels = {"model_name": "timed", "API": "Predict", "entrypoint": "GRPC"}
    metrics.request("timed", "Predict", "GRPC", grpc.StatusCode.OK, 0.0005)
    metrics.request("timed", "Predict", "GRPC", grpc.StatusCode.NOT_FOUND, 0.1)
    assert value(count, model_name="timed", status="OK") == 1
    assert value(count, model_name="timed", status="NOT_FOUND") == 1
    assert value(f"{latency}_count", **labels) == 1 and value(f"{latency}_sum", **labels) == 500
    assert value(f"{latency}_bucket", le="340.122", **labels) == 0
    assert value(f"{latency}_bucket", le="612.22", **labels) == 1


def test_buckets_are_those_of_tf_serving():
    metrics.request("bounds", "", "REST", grpc.StatusCode.OK, 1e9)
    lines = re.findall(r'request_latency_bucket\{.*le="(.*?)",model_name="bounds"', metrics.page().decode())
    limits = [float(line) for line in lines]
    assert limits[:3] == [10, 18, 32.4] and limits[-2:] == [1.47476e9, float("inf")] and len(limits) == 34


def test_a_batch_counts_each_request():
    name = ":tensorflow:serving:batching_session:"
    before = {key: value(f"{name}{key}") for key in ("wrapped_run_count", "input_batch_size_count")}
    metrics.batch("batched", [1, 2], [0.001, 0.002], 0.01)
    assert value(f"{name}wrapped_run_count") == before["wrapped_run_count"] + 1
    assert value(f"{name}input_batch_size_count") == before["input_batch_size_count"] + 2
    latency = ":tensorflow:serving:runtime_latency"
    assert value(f"{latency}_sum", model_name="batched", API="Predict", runtime="TF1") == 23_000


def test_loads_and_warm_ups_are_counted():
    metrics.loaded("/m/1", True, 0.5)
    metrics.loaded("/m/1", False, 0.5)
    metrics.warmed("/m/1", grpc.StatusCode.OK, 3, 0.5)
    loads = ":tensorflow:cc:saved_model:load_attempt_count"
    assert [value(loads, model_path="/m/1", status=status) for status in ("success", "fail")] == [1, 1]
    assert value(":tensorflow:cc:saved_model:load_latency", model_path="/m/1") == 500_000
    assert value(":tensorflow:serving:model_warmup_records_read", model_path="/m/1", status="OK") == 3


def test_labels_are_escaped():
    name = 'a"b\\c\nd'
    metrics.logged(name, grpc.StatusCode.OK)
    assert value(":tensorflow:serving:request_log_count", model_name=name, status_code="OK") == 1


def test_a_reason_that_is_none_of_ours_is_a_mistake():
    with pytest.raises(KeyError):
        metrics.refused("no reason")


def test_the_process_is_told():
    assert value("process_resident_memory_bytes") > 1 << 20 and value("process_cpu_seconds_total") > 0


def test_a_server_counts_what_it_answers(rest, tiny_client):
    def counted():
        page = samples(rest.get(metrics.PATH).text)
        labels = {"model_name": "tiny", "status": "OK"}
        return {
            entrypoint: page.get((":tensorflow:serving:request_latency_count", tuple(sorted(of.items()))), 0)
            for entrypoint, of in {
                "REST": {"model_name": "tiny", "API": "predict", "entrypoint": "REST"},
                "GRPC": {"model_name": "tiny", "API": "Predict", "entrypoint": "GRPC"},
            }.items()
        }, page.get((":tensorflow:serving:request_count", tuple(sorted(labels.items()))), 0)

    before, requests = counted()
    tiny_client.embed([conftest.encode(0)])
    rest.post("/v1/models/tiny:predict", json={"instances": ["a"]})
    after, more = counted()
    assert {key: after[key] - before[key] for key in after} == {"REST": 1, "GRPC": 1} and more == requests + 2


def test_a_name_that_no_model_has_makes_no_label(rest):
    rest.post("/v1/models/made-up:predict", content=json.dumps({"instances": ["a"]}))
    page = rest.get(metrics.PATH)
    assert "made-up" not in page.text and page.headers["content-type"].startswith("text/plain")
    assert samples(page.text)[":tensorflow:serving:request_count", (("model_name", ""), ("status", "NOT_FOUND"))]
