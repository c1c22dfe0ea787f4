"""`longtail submit` against a server that answers as Kubeflow Pipelines does, over real sockets."""

import json
import ssl

import pytest
import trustme
import yaml

from longtail.models import errors
from longtail.pipeline.kubeflow.submit import kfp_api
from longtail.pipeline.kubeflow.submit import submission
from tests.pipeline.kubeflow.submit import conftest
from tests.pipeline.kubeflow.submit import kfp_server


@pytest.fixture
def send(server, file):
    """Submits as the command does, with pauses a test can wait for."""

    def sent(run="first", token=conftest.TOKEN, path=file, **given):
        asked = submission.prepare(path, "mine", run, {"data": "gs://b/images", **given})
        with kfp_api.Api(kfp_api.Options(server.address, token, pause_s=0.001)) as api:
            return submission.submit(api, asked)

    return sent


def test_a_run_of_the_uploaded_file_is_started(kfp, send, file):
    run, started = send(span="2", rate="0.5", mirror="true", image="[28, 28, 1]")
    assert started
    assert run == kfp.stored["runs"][run["run_id"]]
    assert run["runtime_config"]["parameters"] == {
        "data": "gs://b/images", "span": 2, "rate": 0.5, "mirror": True, "image": [28, 28, 1]
    }  # fmt: skip
    assert run["runtime_config"]["pipeline_root"] == "gs://b/longtail"
    with open(file, "rb") as content:
        assert kfp.uploads[run["pipeline_version_reference"]["pipeline_version_id"]] == content.read()
    assert kfp.stored["experiments"][run["experiment_id"]]["display_name"] == "mine"
    assert kfp.stored["pipelines"][run["pipeline_version_reference"]["pipeline_id"]]["name"] == "glyphs"


def test_sent_again_it_is_found_and_nothing_is_sent(kfp, send):
    first, _ = send()
    again, started = send()
    assert (again["run_id"], started) == (first["run_id"], False)
    assert {path for method, path in kfp.requests if method == "POST"} == {
        "/experiments", "/pipelines", "/pipelines/upload_version", "/runs"
    }  # fmt: skip
    assert all(len(stored) == 1 for stored in kfp.stored.values())


def test_another_run_of_the_same_file_uploads_nothing(kfp, send):
    send("first")
    _, started = send("second")
    assert started and len(kfp.stored["runs"]) == 2
    assert kfp.count("POST", "/pipelines/upload_version") == 1


def test_a_changed_file_is_another_version_of_the_same_pipeline(kfp, send, tmp_path):
    send("first")
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**conftest.SPEC, "sdkVersion": "next"}))
    send("second", path=str(other))
    assert len(kfp.stored["pipelines"]) == 1 and len(kfp.stored["pipeline_versions"]) == 2


def test_without_a_name_file_and_parameters_make_one(send, file):
    names = [send("", span=span)[0]["display_name"] for span in ("1", "1", "2")]
    assert names[0] == names[1] != names[2] and all(name.startswith("glyphs-") for name in names)


def test_a_run_of_that_name_with_other_parameters_is_an_error(kfp, send):
    send(span="1")
    with pytest.raises(errors.WorkError, match=r"run named first already, with other parameters \(span\); name this"):
        send(span="2")
    assert len(kfp.stored["runs"]) == 1


def test_a_run_of_that_name_of_another_file_is_an_error(kfp, send, tmp_path):
    send()
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**conftest.SPEC, "sdkVersion": "next"}))
    with pytest.raises(errors.WorkError, match="already, with another pipeline file; name this"):
        send(path=str(other))


def test_names_are_told_apart_by_case_and_found_on_any_page(kfp, send):
    kfp.page_size = 1
    for name in ("FIRST", "First", "first"):
        send(name)
    _, started = send("first")
    assert not started and len(kfp.stored["runs"]) == 3


@pytest.mark.parametrize("path", ["/experiments", "/pipelines", "/pipelines/upload_version", "/runs"])
@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_dropped_connection_doubles_nothing(kfp, send, path, drop):
    kfp.faults.append(kfp_server.Fault("POST", path, drop=drop))
    run, started = send()
    assert {kind: len(stored) for kind, stored in kfp.stored.items()} == dict.fromkeys(kfp.stored, 1)
    assert kfp.count("POST", path) == (2 if drop == "before" else 1)
    assert run["run_id"] in kfp.stored["runs"]
    assert started == (path != "/runs" or drop == "before")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_or_broken_server_is_asked_again(kfp, send, status):
    headers = {"Retry-After": "0"}
    kfp.faults += [kfp_server.Fault(method, "/runs", status, headers=headers) for method in ("GET", "POST")]
    _, started = send()
    assert started and len(kfp.stored["runs"]) == 1 and kfp.count("POST", "/runs") == 2


def test_a_server_that_stays_broken_is_given_up(kfp, send):
    kfp.faults += [kfp_server.Fault("POST", "/runs", 500) for _ in range(9)]
    with pytest.raises(errors.WorkError, match=r"/runs: 500 .*ordered by the test.* \(5 tries\); try again"):
        send()
    assert kfp.count("POST", "/runs") == 5 and not kfp.stored["runs"]


def test_a_conflict_with_one_who_was_quicker_takes_theirs(kfp, send):
    kfp.faults.append(kfp_server.Fault("POST", "/experiments", 409))
    with pytest.raises(errors.WorkError, match="409"):
        send()  # nobody was: the server's word stands
    made = kfp.add("experiments", "experiment_id", {"display_name": "mine"}, ())
    looked = []

    def look():
        looked.append(True)
        return made if len(looked) > 1 else None

    asked = {"json": {"display_name": "mine"}}
    with kfp_server.Server(kfp) as other, kfp_api.Api(kfp_api.Options(other.address, conftest.TOKEN)) as api:
        assert api.create(look, "/experiments", **asked) == (made, False)


def test_a_token_that_is_not_accepted_is_one_line(send):
    with pytest.raises(errors.WorkError, match=r"401 .*LONGTAIL_KFP_TOKEN is not accepted or has run out") as caught:
        send(token="wrong")
    assert "wrong" not in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(errors.WorkError, match=r"401 .*LONGTAIL_KFP_TOKEN is not set"):
        send(token="")


@pytest.mark.parametrize(
    "status, advice", [(403, "name another --namespace"), (404, "404 Not Found"), (302, "put a token there")]
)
def test_refusals_are_one_line_and_not_tried_again(kfp, send, status, advice):
    kfp.faults.append(kfp_server.Fault("GET", "/experiments", status, headers={"Location": "/login"}))
    with pytest.raises(errors.WorkError, match=advice):
        send()
    assert len(kfp.requests) == 1


def test_a_server_that_is_not_there_is_one_line(file):
    asked = submission.prepare(file, "mine", "", {"data": "x"})
    options = kfp_api.Options("http://localhost:1", tries=2, pause_s=0.001)
    with kfp_api.Api(options) as api, pytest.raises(errors.WorkError, match=r"does not answer: Connection refused"):
        submission.submit(api, asked)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


def test_a_certificate_is_verified(kfp, tls, authority, command, tmp_path):
    trusted, wrong = tmp_path / "ca.pem", tmp_path / "wrong.pem"
    authority.cert_pem.write_to_path(str(trusted))
    trustme.CA().cert_pem.write_to_path(str(wrong))
    with kfp_server.Server(kfp, tls) as server:
        for options in ([], ["--ca", str(wrong)]):
            refused = command("--endpoint", server.address, *options)
            assert isinstance(refused.exception, errors.WorkError)
            assert "its certificate is not trusted" in str(refused.exception) and "--ca" in str(refused.exception)
        assert not kfp.requests
        accepted = command("--endpoint", server.address, "--ca", str(trusted), "--json")
        assert accepted.exit_code == 0 and json.loads(accepted.stdout)["started"] is True


def test_a_certificate_of_another_host_is_refused(kfp, authority, command, tmp_path):
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("kfp.example").configure_cert(context)
    with kfp_server.Server(kfp, context) as server:
        refused = command("--endpoint", server.address, "--ca", str(trusted))
    assert "Hostname mismatch" in str(refused.exception) and not kfp.requests


def test_waiting_ends_with_the_run(kfp, server, command, monkeypatch):
    monkeypatch.setattr("longtail.pipeline.cli.submit._LOOK_EVERY_S", 0.0)
    kfp.states.extend([{"state": "RUNNING"}, {"state": "RUNNING"}, {"state": "SUCCEEDED"}])
    kfp.faults.append(kfp_server.Fault("GET", "/runs/runs-4", drop="before"))
    done = command("--endpoint", server.address, "--run", "first", "--wait")
    assert done.exit_code == 0 and not kfp.states
    assert f"run first of pipeline glyphs started: {server.address}/#/runs/details/runs-4" in done.stdout
    assert [line.strip() for line in done.stderr.splitlines()] == ["RUNNING", "SUCCEEDED"]


def test_a_run_that_fails_names_its_tasks(kfp, server, command):
    task = {"display_name": "DriftGate", "state": "FAILED", "error": {"message": "stopped by the\ndrift gate"}}
    kfp.states.append({"state": "FAILED", "run_details": {"task_details": [task]}})
    failed = command("--endpoint", server.address, "--wait")
    assert failed.exception.exit_status == 1
    assert "ended FAILED (DriftGate: stopped by the drift gate); its logs are at http" in str(failed.exception)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--param", "sapn=2"], "no parameter 'sapn'; did you mean span?"),
        (["--param", "span=two"], "span is of type NUMBER_INTEGER. Received: 'two'"),
        (["--param", "span=1.5"], "span is of type NUMBER_INTEGER"),
        (["--param", "rate=nan"], "rate is of type NUMBER_DOUBLE"),
        (["--param", "mirror=yes"], "mirror is of type BOOLEAN"),
        (["--param", "image={}"], "image is of type LIST"),
        (["--param", "span"], "--param span: give KEY=VALUE"),
        (["--param", "data=twice"], "--param data is given twice"),
        (["--run", "x" * 256], "must be 1 to 255 letters"),
        (["--endpoint", "host:8080"], "--endpoint host:8080 is no address"),
        (["--endpoint", "http://kfp.example"], "would carry the token of LONGTAIL_KFP_TOKEN unencrypted"),
        (["--ca", "nowhere.pem"], "--ca nowhere.pem: no such file"),
    ],
)
def test_what_can_be_told_here_is_told_before_anything_is_sent(kfp, server, command, words, message):
    refused = command("--endpoint", server.address, *words)
    assert isinstance(refused.exception, errors.UsageError) and message in str(refused.exception)
    assert not kfp.requests


def test_a_parameter_without_default_must_be_given(kfp, server, command):
    refused = command("--endpoint", server.address, parameters=())
    assert "parameter data has no default; give it: --param data=VALUE" in str(refused.exception)
    assert isinstance(refused.exception, errors.UsageError) and not kfp.requests
