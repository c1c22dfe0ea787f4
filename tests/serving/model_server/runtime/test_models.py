"""A server's models are what its config says, and change with it; requests in between are answered."""

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.config import model_server_config_pb2

from longtail.serving.model_server.runtime import loader
from longtail.serving.model_server.runtime import models as models_lib
from longtail.serving.model_server.runtime import request_errors
from tests.serving import conftest

STATE = get_model_status_pb2.ModelVersionStatus
CODE = grpc.StatusCode


def config(folder, *names, **more):
    """The config of these models in `folder`; `more` adds text to the one of that name."""
    models = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" {more.get(name, "")} }}'
        for name in names
    )
    return text_format.Parse(f"model_config_list {{ {models} }}", model_server_config_pb2.ModelServerConfig())


def labels(**versions):
    return " ".join(f'version_labels {{ key: "{label}" value: {version} }}' for label, version in versions.items())


def states(models, name):
    return {state.version: state.state for state in models.states(name)}


def refusal(call, *arguments):
    with pytest.raises(request_errors.RequestError) as raised:
        call(*arguments)
    return raised.value.code, raised.value.message


@pytest.fixture
def served(push_affine, tmp_path):
    """Models a and b; a has the versions 1 to 3, the latest serves."""
    for version in (1, 2, 3):
        push_affine("a", version)
    push_affine("b", 1)
    models = models_lib.Models()
    models.reload(config(tmp_path, "a", "b"))
    return models


def test_each_model_answers_by_its_name(served):
    assert [(served.get(name).name, served.get(name).version) for name in ("a", "b")] == [("a", 3), ("b", 1)]


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ("", {3}),
        ("model_version_policy { latest {} }", {3}),
        ("model_version_policy { latest { num_versions: 2 } }", {2, 3}),
        ("model_version_policy { all {} }", {1, 2, 3}),
        ("model_version_policy { specific { versions: 1 versions: 2 } }", {1, 2}),
    ],
)
def test_the_policy_says_which_versions_serve(served, tmp_path, policy, versions):
    served.reload(config(tmp_path, "a", "b", a=policy))
    assert {version for version, state in states(served, "a").items() if state == STATE.AVAILABLE} == versions
    assert served.get("a").version == max(versions)


def test_a_specific_version_that_is_not_there_is_told_once(served, tmp_path, caplog):
    served.reload(config(tmp_path, "a", a="model_version_policy { specific { versions: 1 versions: 7 } }"))
    served.poll()
    assert served.get("a").version == 1
    assert sum("version 7 is to serve" in record.message for record in caplog.records) == 1


def test_a_model_that_both_configs_have_is_left_as_it_is(served, tmp_path):
    before = served.get("a")
    served.reload(config(tmp_path, "a"))
    assert served.get("a") is before


def test_a_model_taken_out_ends_when_its_last_request_is_done(served, tmp_path):
    running = served.acquire("b")
    served.reload(config(tmp_path, "a"))
    assert refusal(served.get, "b") == (CODE.NOT_FOUND, "Servable not found for request: Latest(b)")
    assert states(served, "b") == {1: STATE.UNLOADING}
    running.release()
    assert served.wait_for("b", 1, STATE.END, timeout_s=60)


def test_a_model_taken_out_comes_back(served, tmp_path):
    served.reload(config(tmp_path, "a"))
    served.reload(config(tmp_path, "a", "b"))
    assert served.get("b").version == 1 and states(served, "b") == {1: STATE.AVAILABLE}


def test_a_new_model_that_does_not_load_is_told_in_tf_servings_words_and_serves_when_it_does(
    served, push_affine, tmp_path
):
    conftest.push_broken(tmp_path / "b", 2)
    (tmp_path / "c").mkdir()
    code, message = refusal(served.reload, config(tmp_path, "a", "c"))
    assert code == CODE.UNKNOWN and message.startswith("1 model(s) did not become available: {{{name: c}")
    assert not served.ready() and served.get("a").version == 3
    push_affine("c", 1)
    served.poll()
    assert served.ready() and served.get("c").version == 1


def test_a_broken_version_is_named_with_its_error_in_the_answer_to_the_reload(served, tmp_path):
    (tmp_path / "c").mkdir()
    conftest.push_broken(tmp_path / "c", 4)
    code, message = refusal(served.reload, config(tmp_path, "a", "b", "c"))
    assert code == CODE.UNKNOWN
    assert message.startswith("1 model(s) did not become available: {{{name: c version: 4} due to error: ")
    assert f"{tmp_path}/c/4" in message


def test_one_model_whose_folder_is_out_of_reach_keeps_no_other_from_its_new_version(
    served, push_affine, monkeypatch, caplog
):
    def fail():
        raise OSError("out of reach")

    monkeypatch.setattr(served.source("a"), "poll", fail)
    push_affine("b", 2)
    served.poll()
    served.poll()
    assert served.get("b").version == 2
    assert sum("model a: looking for versions" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Illegal to list a model without a name"),
        ('name: "a" base_path: "/x"', 'set model_platform: "tensorflow"'),
        ('name: "a" base_path: "/x" model_type: OTHER', 'set model_platform: "tensorflow"'),
        ('name: "a" base_path: "/x" model_platform: "x"', "Model a requests unsupported platform x"),
        ('name: "a" base_path: "x" model_platform: "tensorflow"', "to have an absolute path or URI; got base_path()=x"),
    ],
)
def test_a_config_that_cannot_be_is_refused(text, said):
    parsed = text_format.Parse(
        f"model_config_list {{ config {{ {text} }} }}", model_server_config_pb2.ModelServerConfig()
    )
    code, message = refusal(models_lib.Models().reload, parsed)
    assert code == CODE.INVALID_ARGUMENT and said in message


def test_the_deprecated_model_type_still_says_tensorflow(push_affine, tmp_path):
    folder = push_affine("a", 1)
    models = models_lib.Models()
    models.reload(
        text_format.Parse(
            f'model_config_list {{ config {{ name: "a" base_path: "{folder}" model_type: TENSORFLOW }} }}',
            model_server_config_pb2.ModelServerConfig(),
        )
    )
    assert models.get("a").version == 1


def test_a_label_answers_with_the_version_it_points_at(served, tmp_path):
    served.reload(config(tmp_path, "a", a=labels(stable=3, same=3)))
    assert (served.get("a", label="stable").version, served.acquire("a", label="same").version) == (3, 3)


def test_a_label_may_not_point_at_a_version_that_does_not_serve_and_nothing_is_changed(served, tmp_path):
    served.reload(config(tmp_path, "a", "b", a=labels(stable=3)))
    code, message = refusal(served.reload, config(tmp_path, "a", a=labels(stable=1)))
    assert (code, message) == (
        CODE.FAILED_PRECONDITION,
        "Request to assign label to version 1 of model a, which is not currently available for inference",
    )
    assert served.get("a", label="stable").version == 3 and served.get("b").version == 1


def test_a_version_and_its_label_come_with_two_reloads(served, tmp_path):
    both = "model_version_policy { specific { versions: 1 versions: 3 } }"
    served.reload(config(tmp_path, "a", a=both))
    served.reload(config(tmp_path, "a", a=f"{both} {labels(old=1)}"))
    assert served.get("a", label="old").version == 1


@pytest.fixture
def early(push_affine, tmp_path):
    """A model of version 1, on a server that lets labels come before their versions."""
    push_affine("a", 1)
    models = models_lib.Models(labels_before_versions=True)
    models.reload(config(tmp_path, "a", a=labels(canary=2)))
    return models


def test_where_it_is_allowed_a_new_label_waits_for_its_version(early, push_affine):
    missing = refusal(lambda: early.get("a", label="canary"))
    assert missing == (CODE.NOT_FOUND, "Servable not found for request: Specific(a, 2)")
    push_affine("a", 2)
    early.poll()
    assert early.get("a", label="canary").version == 2


def test_even_there_a_label_in_use_may_not_move_to_a_version_that_does_not_serve(early, tmp_path):
    code, _ = refusal(early.reload, config(tmp_path, "a", a=labels(canary=3)))
    assert code == CODE.FAILED_PRECONDITION


def test_an_unknown_label_is_an_invalid_argument(served):
    for call in (served.get, served.acquire):
        assert refusal(call, "a", None, "x") == (CODE.INVALID_ARGUMENT, "Unrecognized servable version label: x")


def test_a_request_that_met_a_version_at_its_end_gets_the_next(served, push_affine, monkeypatch):
    source, old = served.source("b"), served.get("b")
    push_affine("b", 2)
    served.poll()
    new, answers = source.get(), [old]
    monkeypatch.setattr(source, "get", lambda version: answers.pop() if answers else new)
    assert served.acquire("b") is new


def test_what_serves_is_ready_until_it_is_to_stop(served):
    assert served.ready()
    served.begin_stop()
    assert not served.ready() and served.get("a").version == 3


def test_closing_unloads_every_version(served):
    served.close(60.0)
    assert (states(served, "a"), states(served, "b")) == ({3: STATE.END}, {1: STATE.END})


def test_a_logging_config_is_told_to_make_no_difference(served, tmp_path, caplog):
    served.reload(config(tmp_path, "a", a='logging_config { log_collector_config { type: "x" } }'))
    assert "model a: logging_config is not used; --request-log keeps requests" in caplog.text


def test_options_reach_every_model(push_affine, tmp_path):
    folder = push_affine("a", 1)
    conftest.push_broken(folder, 2)
    models = models_lib.Models(loader.Options(retries=0))
    models.reload(config(tmp_path, "a"))
    assert states(models, "a") == {1: STATE.AVAILABLE, 2: STATE.END}
