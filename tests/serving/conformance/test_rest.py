"""What a client of TensorFlow Serving's REST API may rely on, whichever server answers."""

import base64

import pytest

PREDICT = "/v1/models/affine:predict"


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


def refused(reply):
    return reply.status_code, reply.json()["error"]


@pytest.mark.parametrize(
    ("path", "y"),
    [
        ("/v1/models/affine", 3.5),
        ("/v1/models/affine/versions/1", 2.5),
        ("/v1/models/affine/versions/2", 3.5),
        ("/v1/models/affine/labels/stable", 2.5),
        ("/v1/models/affine/labels/canary", 3.5),
    ],
)
def test_a_version_is_found_by_number_by_label_and_as_the_latest(rest, path, y):
    assert rest.post(f"{path}:predict", json={"instances": [1.0]}).json() == {"predictions": [y]}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"instances": [1.0, 2.0]}, {"predictions": [2.5, 3.0]}),
        ({"instances": [{"x": 1.0}, {"x": 2.0}]}, {"predictions": [2.5, 3.0]}),
        ({"inputs": [1.0, 2.0]}, {"outputs": [2.5, 3.0]}),
        ({"inputs": {"x": [1.0, 2.0]}}, {"outputs": [2.5, 3.0]}),
        ({"signature_name": "serving_default", "instances": [5]}, {"predictions": [4.5]}),
    ],
)
def test_rows_answer_in_rows_and_columns_in_columns(rest, body, answer):
    assert rest.post("/v1/models/half_plus_two:predict", json=body).json() == answer


def test_several_outputs_are_named_in_each_row(rest):
    body = {"instances": [{"point": [1, 2], "count": 1, "text": b64(b"\x00\x01")}]}
    reply = rest.post("/v1/models/mixed:predict", json=body)
    assert reply.json() == {"predictions": [{"sum": 4.0, "more": 2, "echo_bytes": b64(b"\x00\x01\xff")}]}


def test_several_outputs_are_named_in_columns(rest):
    body = {"inputs": {"point": [[1, 2], [3, 4]], "count": [1, 2], "text": ["a", "b"]}}
    reply = rest.post("/v1/models/mixed:predict", json=body)
    assert reply.json() == {
        "outputs": {"sum": [4.0, 9.0], "more": [2, 3], "echo_bytes": [b64(b"a\xff"), b64(b"b\xff")]}
    }


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_go_in_and_out_as_bare_words(rest, number):
    reply = rest.post(PREDICT, content=f'{{"instances": [{number}]}}')
    assert reply.status_code == 200 and number in reply.text


@pytest.mark.parametrize("path", ["/v1/models/affine/versions/1", "/v1/models/half_plus_two/versions/123"])
def test_status_tells_what_became_of_a_version(rest, path):
    ok = {"error_code": "OK", "error_message": ""}
    expected = [{"version": path.rpartition("/")[2], "state": "AVAILABLE", "status": ok}]
    assert rest.get(path).json() == {"model_version_status": expected}


def test_status_without_a_version_tells_of_all(rest):
    found = rest.get("/v1/models/affine").json()["model_version_status"]
    assert {entry["version"] for entry in found} == {"1", "2"}


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/v1/models/affine/metadata", "2"),
        ("/v1/models/affine/versions/1/metadata", "1"),
        ("/v1/models/affine/labels/stable/metadata", "1"),
    ],
)
def test_metadata_tells_the_signatures_of_a_version(rest, path, version):
    reply = rest.get(path).json()
    assert (reply["model_spec"]["name"], reply["model_spec"]["version"]) == ("affine", version)
    definition = reply["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert definition["method_name"] == "tensorflow/serving/predict"
    assert definition["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert [dimension["size"] for dimension in definition["inputs"]["x"]["tensor_shape"]["dim"]] == ["-1"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/models/nowhere", "Servable not found for request: Latest(nowhere)"),
        ("/v1/models/affine/versions/9", "Servable not found for request: Specific(affine, 9)"),
    ],
)
def test_predicting_with_what_is_not_there_is_404(rest, path, said):
    assert refused(rest.post(f"{path}:predict", json={"instances": [1.0]})) == (404, said)


def test_predicting_with_an_unknown_label_is_400(rest):
    reply = rest.post("/v1/models/affine/labels/old:predict", json={"instances": [1.0]})
    assert refused(reply) == (400, "Unrecognized servable version label: old")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v1/models/nowhere", "Could not find any versions of model nowhere"),
        ("/v1/models/affine/versions/9", "Could not find version 9 of model affine"),
        ("/v1/models/nowhere/metadata", "Servable not found for request: Latest(nowhere)"),
    ],
)
def test_asking_for_what_is_not_there_is_404(rest, path, said):
    assert refused(rest.get(path)) == (404, said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"{", "JSON Parse error: "),
        (b"{}", "Missing 'inputs' or 'instances' key"),
        (b'{"instances": []}', "No values in 'instances' array"),
        (b'{"instances": 3}', "Expecting 'instances' to be an list/array"),
        (b'{"instances": ["a"]}', "is not of expected type: float"),
        (b'{"inputs": {"z": [1.0]}}', "Missing named input: x in 'inputs' object."),
        (b'{"instances": [1.0], "signature_name": 3}', "'signature_name' key must be a string value."),
        (b'{"instances": [1.0], "signature_name": "guess"}', '"guess" not found in signature def'),
    ],
)
def test_a_body_that_is_not_right_is_400_and_says_why(rest, body, said):
    status, found = refused(rest.post(PREDICT, content=body))
    assert status == 400 and said in found


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/models/affine:guess"),
        ("POST", "/v1/models/affine"),
        ("GET", "/v1/models/affine:predict"),
        ("GET", "/v1/models/affine/versions/one"),
        ("GET", "/v1/models/affine/versions/1/size"),
    ],
)
def test_a_path_that_is_none_is_a_malformed_request(rest, method, path):
    assert refused(rest.request(method, path)) == (400, f"Malformed request: {method} {path}")


def test_a_version_beyond_int64_is_400(rest):
    number = "9223372036854775808"
    reply = rest.get(f"/v1/models/affine/versions/{number}")
    assert refused(reply) == (400, f"Failed to convert version: {number} to numeric.")


def test_a_path_outside_the_api_is_404(rest):
    assert rest.get("/elsewhere").status_code == 404


def test_prometheus_finds_the_requests_counted(rest):
    rest.post(PREDICT, json={"instances": [1.0]})
    text = rest.get("/monitoring/prometheus/metrics").text
    assert "# TYPE :tensorflow:serving:request_count counter" in text
    assert ':tensorflow:serving:request_count{model_name="affine",status="OK"}' in text
