"""The REST side answers as TF Serving does, errors too."""

import base64

import numpy as np
import pytest

from models import signatures
from tests.serving import conftest


def b64(data: bytes) -> dict:
    return {"b64": base64.b64encode(data).decode()}


@pytest.mark.parametrize("path", ["/v1/models/tiny:predict", "/v1/models/tiny/versions/1:predict"])
def test_rows_answer_in_rows(rest, in_process, path):
    images = [conftest.encode(0), conftest.encode(1, "jpeg"), conftest.encode(2, "grey")]
    reply = rest.post(path, json={"instances": [b64(image) for image in images]})
    found = [row[signatures.EMBEDDING] for row in reply.json()["predictions"]]
    np.testing.assert_allclose(found, in_process(images), atol=1e-5)


def test_rows_may_name_their_input(rest, in_process):
    image = conftest.encode(3)
    reply = rest.post("/v1/models/tiny:predict", json={"instances": [{"image_bytes": b64(image)}]})
    np.testing.assert_allclose(reply.json()["predictions"][0]["embedding"], in_process([image])[0], atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda column: column, lambda column: {"image_bytes": column}])
def test_columns_answer_in_columns(rest, in_process, wrap):
    images = [conftest.encode(4), conftest.encode(5)]
    reply = rest.post("/v1/models/tiny:predict", json={"inputs": wrap([b64(image) for image in images])})
    np.testing.assert_allclose(reply.json()["outputs"]["embedding"], in_process(images), atol=1e-5)


def test_a_broken_image_gets_status_1_in_its_row(rest):
    body = {"instances": [b64(conftest.encode(0)), b64(b"no image")]}
    rows = rest.post("/v1/models/tiny:predict", json=body).json()["predictions"]
    assert [row["status"] for row in rows] == [0, signatures.STATUS_UNDECODABLE]


def test_the_pixels_signature_takes_nested_lists(rest):
    body = {"signature_name": "pixels", "instances": np.zeros((2, 16, 16, 1), int).tolist()}
    rows = rest.post("/v1/models/tiny:predict", json=body).json()["predictions"]
    assert [row["status"] for row in rows] == [0, 0]


@pytest.mark.parametrize("path", ["/v1/models/tiny", "/v1/models/tiny/versions/1"])
def test_status_is_tf_servings(rest, path):
    ok = {"error_code": "OK", "error_message": ""}
    expected = [{"version": "1", "state": "AVAILABLE", "status": ok}]
    assert rest.get(path).json() == {"model_version_status": expected}


def test_metadata_tells_the_signatures(rest):
    reply = rest.get("/v1/models/tiny/metadata").json()
    definitions = reply["metadata"]["signature_def"]["signature_def"]
    assert reply["model_spec"]["version"] == "1"
    assert definitions["serving_default"]["inputs"]["image_bytes"]["dtype"] == "DT_STRING"
    assert [size["size"] for size in definitions["pixels"]["inputs"]["pixels"]["tensor_shape"]["dim"]] == [
        "-1",
        "16",
        "16",
        "1",
    ]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/models/other:predict", "Servable not found for request: Latest(other)"),
        ("/v1/models/tiny/versions/8:predict", "Servable not found for request: Specific(tiny, 8)"),
    ],
)
def test_predicting_with_what_is_not_there_is_404(rest, path, said):
    reply = rest.post(path, json={"instances": [b64(b"")]})
    assert (reply.status_code, reply.json()) == (404, {"error": said})


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/models/other", "Could not find any versions of model other"),
        ("/v1/models/tiny/versions/8", "Could not find version 8 of model tiny"),
        ("/v1/models/other/metadata", "Servable not found for request: Latest(other)"),
    ],
)
def test_asking_for_what_is_not_there_is_404(rest, path, said):
    reply = rest.get(path)
    assert (reply.status_code, reply.json()) == (404, {"error": said})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON Parse error"),
        (b"{", "JSON Parse error"),
        (b"\xff\xfe\x00", "JSON Parse error"),
        (b"[" * 100_000, "JSON Parse error"),
        (b"[1]", "is not an object"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b'{"inputs": [], "instances": []}', "only one of"),
        (b'{"instances": 3}', "list/array"),
        (b'{"instances": []}', "No values"),
        (b'{"instances": [{"b64": "%%%"}]}', "base64"),
        (b'{"instances": [7]}', "expects a string"),
        (rb'{"instances": ["\ud800"]}', "invalid surrogate pair"),
        (rb'{"instances": [{"b64": "\ud800"}]}', "base64"),
        (b'{"instances": ' + b"[" * 700 + b'"a"' + b"]" * 700 + b"}", "700 dimensions"),
        (b'{"instances": ' + b"[" * 253 + b'"a"' + b"]" * 253 + b"}", "expects shape"),
        (b'{"instances": [' + b'{"image_bytes": ' * 700 + b'"a"' + b"}" * 700 + b"]}", "expects a string"),
        (b'{"signature_name": "pixels", "instances": ' + b"[" * 700 + b"1" + b"]" * 700 + b"}", "700 dimensions"),
        (b'{"instances": [["a"], "b"]}', "differ in size"),
        (b'{"instances": [["a"]]}', "expects shape [?] but [1,1] is provided"),
        (b'{"instances": [{"image": "a"}]}', "must be equal to: image_bytes"),
        (b'{"instances": [{"image_bytes": "a"}, "b"]}', "but got list at item 1"),
        (b'{"inputs": {"image": "a"}}', "Missing named input: image_bytes"),
        (b'{"inputs": {"image_bytes": ["a"], "mask": [1]}}', "does not have named input: mask"),
        (b'{"signature_name": 1, "instances": ["a"]}', "must be a string"),
        (b'{"signature_name": "classify", "instances": ["a"]}', "classify"),
        (b'{"signature_name": "pixels", "instances": [[[1.5]]]}', "not of type uint8"),
        (b'{"signature_name": "pixels", "instances": [[[256]]]}', "out of the range"),
        (b'{"signature_name": "pixels", "instances": [[[NaN]]]}', "not of type uint8"),
        (b'{"signature_name": "pixels", "instances": [[["a"]]]}', "not of type uint8"),
        (b'{"signature_name": "pixels", "instances": [[[1]], [[1, 2]]]}', "differ in size"),
        (b'{"signature_name": "pixels", "instances": [[[1]]]}', "expects shape"),
    ],
)
def test_a_malformed_request_is_400_and_says_why_in_one_line(rest, body, said):
    reply = rest.post("/v1/models/tiny:predict", content=body)
    assert reply.status_code == 400
    assert said in reply.json()["error"] and "\n" not in reply.json()["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/tiny:classify"),
        ("POST", "/v1/models/tiny/versions/1:classify"),
        ("GET", "/v1/models/tiny:predict"),
        ("GET", "/v1/models/tiny/versions/1:predict"),
    ],
)
def test_a_verb_that_is_not_there_is_a_malformed_request(rest, method, path):
    reply = rest.request(method, path)
    assert (reply.status_code, reply.json()) == (400, {"error": f"Malformed request: {method} {path}"})


@pytest.mark.parametrize("version", ["9223372036854775808", "9" * 5000])
def test_a_version_beyond_int64_is_400(rest, version):
    reply = rest.get(f"/v1/models/tiny/versions/{version}")
    assert (reply.status_code, reply.json()) == (400, {"error": f"Failed to convert version: {version} to numeric."})


@pytest.mark.parametrize("version", ["one", "-1", "1.0", "²"])
def test_a_version_that_is_no_number_is_a_malformed_request(rest, version):
    reply = rest.get(f"/v1/models/tiny/versions/{version}")
    assert reply.status_code == 400 and "Malformed request" in reply.json()["error"]


def test_any_other_path_is_404(rest):
    reply = rest.get("/admin")
    assert (reply.status_code, reply.json()) == (404, {"error": "Not Found"})


def test_without_a_gallery_identify_says_how_to_have_one(rest):
    reply = rest.post("/v1/gallery:identify", json={"instances": [b64(b"")]})
    assert reply.status_code == 400 and "--gallery" in reply.json()["error"]
