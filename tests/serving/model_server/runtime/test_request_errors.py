"""A client is told what was wrong, never where in the code."""

import grpc
import numpy as np
import pytest
import tensorflow as tf

from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import servable


class Decoder(tf.Module):
    """Fails on bytes that are no PNG."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="image")])
    def decode(self, image):
        return {"pixels": tf.io.decode_png(image)}


@pytest.fixture
def decoder(tmp_path):
    module = Decoder()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.decode)
    return servable.Servable("decoder", 1, str(tmp_path / "1")).signature("")


def test_a_failure_in_the_graph_keeps_its_code_and_loses_its_trace(decoder):
    with pytest.raises(request_errors.RequestError) as raised:
        decoder.run({"image": np.array(b"no image", object)})
    assert raised.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.message.startswith("Unknown image file format") and "\n" not in raised.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("one line", "one line"),
        ("Graph execution error:\n\nDetected at node x\n  File 'a.py', line 3\nbad input [Op:f]", "bad input"),
        ("{{function_node __wrapped__f}} bad shape [Op:f] name: ", "bad shape name:"),
        ("", "ValueError"),
    ],
)
def test_the_line_that_says_what_was_wrong_is_found(text, said):
    assert request_errors.first_line(ValueError(text)) == said


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.FAILED_PRECONDITION, 400),
        (grpc.StatusCode.OUT_OF_RANGE, 400),
        (grpc.StatusCode.UNAUTHENTICATED, 401),
        (grpc.StatusCode.PERMISSION_DENIED, 403),
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.ABORTED, 409),
        (grpc.StatusCode.ALREADY_EXISTS, 409),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.CANCELLED, 499),
        (grpc.StatusCode.UNKNOWN, 500),
        (grpc.StatusCode.DATA_LOSS, 500),
        (grpc.StatusCode.UNIMPLEMENTED, 501),
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    ],
)
def test_codes_become_the_http_status_that_tf_serving_gives_them(code, status):
    assert request_errors.RequestError(code, "").http_status == status


def test_what_has_no_http_status_of_its_own_is_500():
    assert request_errors.of(ValueError("a")).http_status == 500


def test_a_message_is_cut_where_tf_serving_cuts_it():
    assert request_errors.invalid("x" * 1025).message == "x" * 1024 + "...TRUNCATED"
    assert request_errors.invalid("x" * 1024).message == "x" * 1024


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (request_errors.invalid("a"), grpc.StatusCode.INVALID_ARGUMENT, "a"),
        (tf.errors.DataLossError(None, None, "b"), grpc.StatusCode.DATA_LOSS, "b"),
        (OSError("c"), grpc.StatusCode.DATA_LOSS, "c"),
        (ValueError("d\ne"), grpc.StatusCode.UNKNOWN, "d"),
    ],
)
def test_whatever_a_load_failed_of_has_a_code_and_a_line(error, code, line):
    assert request_errors.told(error) == (code, line)
