"""What is asked is kept, whole and by chance, and no request waits for it or fails of it."""

import base64
import dataclasses
import logging
import pathlib

import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from longtail.models import errors
from longtail.models.export import signatures
from longtail.serving import client
from longtail.serving.model_server import request_log
from longtail.serving.model_server import server as server_lib
from tests.serving import conftest


@dataclasses.dataclass(frozen=True)
class Answered:
    """What the log is told of the model that answered."""

    name: str = "tiny"
    version: int = 1


def options(model_folder, folder, **changes):
    kept = request_log.Options(str(folder), **changes)
    return server_lib.Options(str(model_folder), grpc_port=0, rest_port=0, request_log=kept)


def records(folder):
    """The logs in the complete files of a folder."""
    paths = sorted(map(str, pathlib.Path(folder).glob("*.tfrecord")))
    found = [record for path in paths for record in tf.data.TFRecordDataset(path).as_numpy_iterator()]
    return [prediction_log_pb2.PredictionLog.FromString(record) for record in found]


def images(log):
    return list(log.predict_log.request.inputs[signatures.IMAGE_BYTES].string_val)


def request(*contents):
    return request_log.of_tensors("", {signatures.IMAGE_BYTES: tf.constant(contents)})


def post(server, path, body):
    reply = httpx.post(f"http://{server.rest_address}{path}", json=body, trust_env=False, timeout=60)
    return reply.status_code


def b64(image):
    return {"b64": base64.b64encode(image).decode()}


def started(folder, **changes):
    log = request_log.RequestLog(request_log.Options(str(folder), **changes))
    log.start()
    return log


def test_images_asked_over_grpc_are_kept_as_they_came(model_folder, tmp_path):
    asked = [conftest.encode(0), conftest.encode(1)]
    with (
        server_lib.ModelServer(options(model_folder, tmp_path / "log")) as server,
        client.Client(server.grpc_address, "tiny") as opened,
    ):
        opened.embed(asked)
    [log] = records(tmp_path / "log")
    assert images(log) == asked
    assert (log.log_metadata.model_spec.name, log.log_metadata.model_spec.version.value) == ("tiny", 1)


def test_images_asked_over_rest_are_kept_as_if_over_grpc(model_folder, tmp_path):
    asked = [conftest.encode(0), conftest.encode(1)]
    with server_lib.ModelServer(options(model_folder, tmp_path / "log")) as server:
        assert post(server, "/v1/models/tiny:predict", {"instances": [b64(image) for image in asked]}) == 200
    [log] = records(tmp_path / "log")
    assert images(log) == asked and log.log_metadata.model_spec.signature_name == signatures.SERVING


def test_images_that_the_gallery_is_asked_about_are_kept(model_folder, tmp_path, in_process):
    image = conftest.encode(0)
    conftest.write_gallery(tmp_path / "gallery", in_process([image]))
    changed = dataclasses.replace(options(model_folder, tmp_path / "log"), gallery=str(tmp_path / "gallery"))
    with server_lib.ModelServer(changed) as server:
        assert post(server, "/v1/gallery:identify", {"instances": [b64(image)]}) == 200
    assert [images(log) for log in records(tmp_path / "log")] == [[image]]


def test_requests_that_were_refused_or_hold_no_image_bytes_are_not_kept(model_folder, tmp_path):
    pixels = {"signature_name": "pixels", "instances": np.zeros((1, 16, 16, 1), int).tolist()}
    with server_lib.ModelServer(options(model_folder, tmp_path / "log")) as server:
        assert post(server, "/v1/models/tiny:predict", {"instances": [1]}) == 400
        assert post(server, "/v1/models/tiny:predict", pixels) == 200
    assert list((tmp_path / "log").iterdir()) == []


def test_a_full_file_is_finished_while_requests_come(tmp_path):
    log = started(tmp_path, file_bytes=200)
    for number in range(6):
        log.offer(Answered(), lambda number=number: request(b"%d" % number * 60))
    log.stop(60)
    assert len(list(tmp_path.glob("*.tfrecord"))) == 3
    assert sorted(images(entry)[0][:1] for entry in records(tmp_path)) == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_a_file_of_a_quiet_server_is_finished_when_it_is_old(tmp_path):
    log = started(tmp_path, file_s=0.0)
    log.offer(Answered(), lambda: request(b"image"))
    while not list(tmp_path.glob("*.tfrecord")):
        pass
    assert [images(entry) for entry in records(tmp_path)] == [[b"image"]]
    log.stop(60)


def test_a_file_being_written_has_another_name(tmp_path):
    log = started(tmp_path)
    log.offer(Answered(), lambda: request(b"image"))
    while not list(tmp_path.iterdir()):
        pass
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    log.stop(60)
    assert [path.suffix for path in tmp_path.iterdir()] == [".tfrecord"]


def test_what_does_not_fit_the_queue_is_dropped_counted_and_said(tmp_path, caplog):
    caplog.set_level(logging.INFO, "longtail")
    log = request_log.RequestLog(request_log.Options(str(tmp_path), waiting_bytes=150))
    for _ in range(5):
        log.offer(Answered(), lambda: request(b"x" * 60))  # nobody writes yet
    log.start()
    log.stop(60)
    assert (log.written, log.dropped) == (1, 4)
    assert "1 requests written, 4 dropped" in caplog.text


def test_a_rate_keeps_that_share_of_the_requests(tmp_path, monkeypatch):
    draws = iter([0.2, 0.3, 0.24, 0.9])
    monkeypatch.setattr(request_log.random, "random", lambda: next(draws))
    log = started(tmp_path, rate=0.25)
    for number in range(4):
        log.offer(Answered(), lambda number=number: request(b"%d" % number))
    log.stop(60)
    assert [images(entry) for entry in records(tmp_path)] == [[b"0"], [b"2"]]
    assert records(tmp_path)[0].log_metadata.sampling_config.sampling_rate == 0.25


def test_a_folder_that_vanishes_fails_no_request_and_is_said(model_folder, tmp_path, caplog):
    with server_lib.ModelServer(options(model_folder, tmp_path / "log")) as server:
        (tmp_path / "log").rmdir()
        (tmp_path / "log").write_text("no folder any more")
        with client.Client(server.grpc_address, "tiny") as opened:
            assert opened.embed([conftest.encode(0)]).status.tolist() == [0]
    assert server.request_log.dropped == 1
    assert "1 requests dropped: " in caplog.text


def test_a_folder_that_cannot_be_written_is_bad_usage_before_anything_is_loaded(model_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.UsageError, match="request log .*file/log cannot be written .*name another folder"):
        server_lib.ModelServer(options(model_folder, tmp_path / "file" / "log")).start()


def test_a_rate_of_nothing_is_bad_usage(tmp_path):
    with pytest.raises(errors.UsageError, match="above 0, at most 1. Received: 0"):
        request_log.RequestLog(request_log.Options(str(tmp_path), rate=0.0))
