"""A client is told what was wrong, never where in the code."""

import grpc
import pytest
import tensorflow as tf

from serving.model_server import request_errors
from serving.model_server import servable


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
        decoder.run({"image": tf.constant(b"no image")})
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


def test_what_has_no_http_status_of_its_own_is_500():
    assert request_errors.internal().http_status == 500
