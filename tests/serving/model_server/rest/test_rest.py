"""The REST side answers as TF Serving does, errors too."""

import base64

import numpy as np
import pytest

from longtail.models.export import signatures
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
        ("/v1/models/other/labels/stable", "Could not find any versions of model other"),
        ("/v1/models/other/metadata", "Servable not found for request: Latest(other)"),
    ],
)
def test_asking_for_what_is_not_there_is_404(rest, path, said):
    reply = rest.get(path)
    assert (reply.status_code, reply.json()) == (404, {"error": said})


ROW = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: "


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{", "JSON Parse error"),
        (b"\xff\xfe\x00", "JSON Parse error"),
        (b"[" * 100_000, "JSON Parse error"),
        (b'{"a": ' * 1_000 + b"1" + b"}" * 1_000, "Missing 'inputs'"),
        (b'{"instances": ["\xff"]}', "JSON Parse error"),
        (b"[1]", "JSON Value: Is not object"),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b'{"inputs": [], "instances": []}', "expecting only one of 'inputs' or 'instances' keys to exist"),
        (b'{"instances": 3}', "Expecting 'instances' to be an list/array"),
        (b'{"instances": []}', "No values in 'instances' array"),
        (b'{"instances": [{"b64": "%%%"}]}', ROW.format(0) + "Unable to base64 decode"),
        (b'{"instances": ["a", {"b64": "QQ=QQ"}]}', ROW.format(1) + "Unable to base64 decode"),
        (b'{"instances": [7]}', ROW.format(0) + "JSON Value: 7 is not of expected type: string"),
        (b'{"instances": [null]}', ROW.format(0) + "JSON Value: None is not of expected type: string"),
        (rb'{"instances": ["\ud800"]}', "JSON Parse error"),
        (rb'{"instances": [NaN, "\ud800"]}', "is not of expected type: string"),
        (rb'{"instances": ["\ud800"], "x": NaN}', "invalid surrogate pair"),
        (rb'{"instances": [{"b64": "\ud800"}], "x": NaN}', "Unable to base64 decode"),
        (b'{"instances": ' + b"[" * 700 + b'"a"' + b"]" * 700 + b"}", "at most 32 can be"),
        (b'{"instances": ' + b"[" * 31 + b'"a"' + b"]" * 31 + b"}", "expects shape"),
        (b'{"instances": [' + b'{"image_bytes": ' * 700 + b'"a"' + b"}" * 700 + b"]}", "not formatted correctly"),
        (b'{"signature_name": "pixels", "instances": ' + b"[" * 700 + b"1" + b"]" * 700 + b"}", "at most 32 can be"),
        (b'{"instances": [["a"], "b"]}', "expected lists of 1 at level 1, as the first of them is"),
        (b'{"instances": [["a"], ["b", "c"]]}', "expected lists of 1 at level 1"),
        (b'{"instances": [["a"]]}', "expects shape [?] but [1,1] is provided"),
        (b'{"instances": [{"image": "a"}]}', "JSON object: keys are 'image' and must be equal to"),
        (b'{"instances": [{"image_bytes": "a"}, "b"]}', "Expecting object but got value/list at item 1 of input list"),
        (b'{"instances": ["a", {"image_bytes": "b"}]}', "Expecting object but got value/list at item 0 of input list"),
        (b'{"inputs": {"image": "a"}}', "Missing named input: image_bytes in 'inputs' object."),
        (b'{"signature_name": 1, "instances": ["a"]}', "'signature_name' key must be a string value."),
        (b'{"signature_name": "x", "instances": ["a"]}', 'Serving signature name: "x" not found in signature def'),
        (b'{"signature_name": "pixels", "instances": [[[1.5]]]}', "JSON Value: 1.5 is not of expected type: uint8"),
        (b'{"signature_name": "pixels", "instances": [[[256]]]}', "JSON Value: 256 is not of expected type: uint8"),
        (b'{"signature_name": "pixels", "instances": [[[NaN]]]}', "not of expected type: uint8"),
        (b'{"signature_name": "pixels", "instances": [[["a"]]]}', "JSON Value: 'a' is not of expected type: uint8"),
        (b'{"signature_name": "pixels", "instances": [[[1]], [[1, 2]]]}', "expected lists of 1 at level 2"),
        (b'{"signature_name": "pixels", "inputs": [[[1], [1, 2]]]}', "expected lists of 1 at level 2"),
        (b'{"signature_name": "pixels", "instances": [[[1]]]}', "expects shape"),
    ],
)
def test_a_malformed_request_is_400_and_says_why_in_one_line(rest, body, said):
    reply = rest.post("/v1/models/tiny:predict", content=body)
    assert reply.status_code == 400
    assert said in reply.json()["error"] and "\n" not in reply.json()["error"]


@pytest.mark.parametrize("verb", ["classify", "regress"])
def test_what_reads_tf_examples_is_not_implemented(rest, verb):
    reply = rest.post(f"/v1/models/tiny:{verb}", json={"examples": [{"x": 1}]})
    assert reply.status_code == 501 and "not implemented" in reply.json()["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/tiny:explain"),
        ("POST", "/v1/models/tiny:PREDICT"),
        ("POST", "/v1/models/tiny"),
        ("POST", "/v1/models/tiny:predict?x=1"),
        ("PUT", "/v1/models/tiny:predict"),
        ("DELETE", "/v1/models/tiny"),
        ("GET", "/v1/models/tiny:predict"),
        ("GET", "/v1/models/tiny/versions/1:predict"),
        ("GET", "/v1/models/tiny/versions/1/labels/stable"),
        ("GET", "/v1/foo"),
        ("GET", "/v1/gallery:identify"),
    ],
)
def test_a_path_or_method_that_is_not_there_is_a_malformed_request(rest, method, path):
    reply = rest.request(method, path)
    assert (reply.status_code, reply.json()) == (400, {"error": f"Malformed request: {method} {path}"})


def test_a_model_has_to_be_named(rest):
    reply = rest.get("/v1/models")
    assert (reply.status_code, reply.json()) == (400, {"error": "Missing model name in request."})


def test_a_name_may_be_percent_encoded(rest):
    assert rest.get("/v1/models/t%69ny").status_code == 200


def test_an_unknown_label_is_400(rest):
    reply = rest.post("/v1/models/tiny/labels/stable:predict", json={"instances": ["a"]})
    assert (reply.status_code, reply.json()) == (400, {"error": "Unrecognized servable version label: stable"})


def test_head_is_get_without_the_body(rest):
    asked, found = rest.head("/v1/models/tiny"), rest.get("/v1/models/tiny")
    assert (asked.status_code, asked.content) == (200, b"")
    assert asked.headers["content-length"] == str(len(found.content))


@pytest.mark.parametrize(("headers", "status"), [({"origin": "https://elsewhere"}, 200), ({}, 400)])
def test_a_preflight_allows_no_page_of_another_site(rest, headers, status):
    reply = rest.options("/v1/models/tiny:predict", headers=headers)
    assert reply.status_code == status and "access-control-allow-origin" not in reply.headers


def test_columns_that_are_no_inputs_are_left_alone(rest, in_process):
    image = conftest.encode(4)
    reply = rest.post("/v1/models/tiny:predict", json={"inputs": {"image_bytes": [b64(image)], "mask": [1]}})
    np.testing.assert_allclose(reply.json()["outputs"]["embedding"], in_process([image]), atol=1e-5)


@pytest.mark.parametrize("version", ["9223372036854775808", "9" * 900])
def test_a_version_beyond_int64_is_400(rest, version):
    reply = rest.get(f"/v1/models/tiny/versions/{version}")
    assert (reply.status_code, reply.json()) == (400, {"error": f"Failed to convert version: {version} to numeric."})


@pytest.mark.parametrize("version", ["one", "-1", "1.0", "%C2%B2"])
def test_a_version_that_is_no_number_is_a_malformed_request(rest, version):
    reply = rest.get(f"/v1/models/tiny/versions/{version}")
    assert reply.status_code == 400 and "Malformed request" in reply.json()["error"]


def test_any_other_path_is_404(rest):
    reply = rest.get("/admin")
    assert (reply.status_code, reply.json()) == (404, {"error": "Not Found"})


def test_without_a_gallery_identify_says_how_to_have_one(rest):
    reply = rest.post("/v1/gallery:identify", json={"instances": [b64(b"")]})
    assert reply.status_code == 400 and "--gallery" in reply.json()["error"]
