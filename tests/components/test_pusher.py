"""Pusher: what TFX's own promises, and that a version folder appears complete."""

import json
import os
import pathlib

import pytest
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from longtail.components.pusher import executor
from longtail.models import errors
from longtail.models.export import signatures

MODEL_FILES = ["saved_model.pb", "variables/variables.index"]


@pytest.fixture
def push(tmp_path):
    """Returns f(blessed) -> the PushedModel artifact of a real run into the folder `served`.

    Every run has a model of its own, unless it is given the `number` of an earlier one.
    """
    served = tmp_path / "served"
    runs = []

    def run(blessed=1, number=None, thresholds="", card=None):
        number = len(runs) if number is None else number
        model = standard_artifacts.Model()
        model.uri = str(tmp_path / f"model{number}")
        folder = os.path.join(model.uri, "Format-Serving")
        os.makedirs(os.path.join(folder, "variables"), exist_ok=True)
        for name in ("saved_model.pb", "variables/variables.index"):
            with open(os.path.join(folder, name), "w") as file:
                file.write(f"{name} of model {number}")
        if card:
            os.makedirs(os.path.join(folder, "assets.extra"))
            with open(os.path.join(folder, signatures.MODEL_CARD_FILE), "w") as file:
                json.dump(card, file)
        blessing = standard_artifacts.ModelBlessing()
        blessing.set_int_custom_property("blessed", blessed)
        pushed = standard_artifacts.PushedModel()
        pushed.uri = str(tmp_path / f"pushed{len(runs)}")
        runs.append(pushed)
        destination = pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(served))
        )
        inputs = {"model": [model], "model_blessing": [blessing]}
        if thresholds:
            evaluation = standard_artifacts.ModelEvaluation()
            evaluation.uri = str(tmp_path / "evaluation")
            os.makedirs(evaluation.uri, exist_ok=True)
            with open(os.path.join(evaluation.uri, "thresholds.json"), "w") as file:
                file.write(thresholds)
            inputs["evaluation"] = [evaluation]
        executor.Executor().Do(
            inputs,
            {"pushed_model": [pushed]},
            {"push_destination": proto_utils.proto_to_json(destination)},
        )
        return pushed

    run.served = served
    return run


def _files(folder):
    return sorted(
        os.path.relpath(os.path.join(parent, name), folder)
        for parent, _, names in os.walk(folder)
        for name in names
    )


def test_a_blessed_model_is_copied_whole_to_its_version_and_to_the_artifact(push):
    pushed = push()
    destination = pushed.get_string_custom_property("pushed_destination")
    assert _files(destination) == ["assets.extra/pushed.json", *MODEL_FILES]
    assert _files(pushed.uri) == MODEL_FILES


def test_the_evaluators_thresholds_lie_beside_the_pushed_model(push):
    pushed = push(thresholds='{"thresholds": []}')
    for folder in (pushed.get_string_custom_property("pushed_destination"), pushed.uri):
        with open(os.path.join(folder, "assets.extra", "thresholds.json")) as file:
            assert file.read() == '{"thresholds": []}'


def test_a_pushed_model_is_marked_as_tfx_marks_it(push):
    pushed = push()
    version = pushed.get_string_custom_property("pushed_version")
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_destination") == str(push.served / version)


def test_a_model_that_is_not_blessed_is_not_pushed(push):
    pushed = push(blessed=0)
    assert pushed.get_int_custom_property("pushed") == 0
    assert not push.served.exists()


def test_versions_ascend_within_one_second(push):
    versions = [int(push().get_string_custom_property("pushed_version")) for _ in range(3)]
    assert versions == sorted(set(versions))


def test_a_version_is_above_every_version_there_even_one_of_the_future(push):
    (push.served / "99999999999").mkdir(parents=True)
    (push.served / "notes").mkdir()
    assert push().get_string_custom_property("pushed_version") == "100000000000"


def test_there_is_no_version_behind_the_last_number(push):
    os.makedirs(push.served / str(2**63 - 1))
    with pytest.raises(errors.UsageError, match="version 9223372036854775807 is the last number there can be"):
        push()


def test_nothing_but_the_finished_version_is_left_in_the_folder(push):
    version = push().get_string_custom_property("pushed_version")
    assert os.listdir(push.served) == [version]


def test_the_version_folder_does_not_exist_before_it_is_complete(push, monkeypatch):
    seen = []
    rename = executor.fileio.rename

    def watch(source, destination, overwrite=False):
        seen.append((_files(source), os.path.exists(destination)))
        rename(source, destination, overwrite)

    monkeypatch.setattr(executor.fileio, "rename", watch)
    push()
    assert seen == [(["assets.extra/pushed.json", *MODEL_FILES], False)]


def test_a_push_that_fails_leaves_nothing_behind_and_names_the_folder(push, monkeypatch):
    def fail(*_, **__):
        raise OSError("No space left on device\nmore")

    monkeypatch.setattr(executor.fileio, "rename", fail)
    with pytest.raises(
        errors.WorkError, match="served: .* be pushed here: No space left on device$"
    ):
        push()
    assert os.listdir(push.served) == []


def test_a_destination_that_is_a_file_is_an_error_that_names_it(push):
    push.served.write_text("not a folder")
    with pytest.raises(errors.WorkError, match="served: the model cannot be pushed here"):
        push()


def test_an_empty_model_is_not_pushed(tmp_path):
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "model")
    with pytest.raises(errors.WorkError, match="Format-Serving: no SavedModel to push"):
        executor.Executor().Do(
            {"model": [model]},
            {"pushed_model": [standard_artifacts.PushedModel()]},
            {"push_destination": "{}"},
        )


def test_what_a_killed_push_of_the_same_model_left_is_cleared_away(push, monkeypatch):
    # Clean-up does not run in a killed process; the next push of model 0 finds its leavings.
    with monkeypatch.context() as killed:
        killed.setattr(executor.io_utils, "delete_dir", lambda path: None)
        killed.setattr(executor, "_next_version", lambda base: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            push()
    assert len(os.listdir(push.served)) == 1
    version = push(number=0).get_string_custom_property("pushed_version")
    assert os.listdir(push.served) == [version]


def test_a_model_that_is_there_already_keeps_its_version(push):
    destinations = [push(number=0).get_string_custom_property("pushed_destination") for _ in range(2)]
    assert destinations[0] == destinations[1]
    assert [str(push.served / name) for name in os.listdir(push.served)] == destinations[:1]


def test_a_training_that_was_done_again_is_no_second_version_and_the_artifact_is_what_is_served(push):
    trained = {"training": "of these data and settings", "span": 1}
    first, again = push(card=trained), push(card=trained)  # other files, as an export never repeats its graph's bytes
    [version] = os.listdir(push.served)
    assert again.get_string_custom_property("pushed_version") == version
    folders = (first.uri, again.uri, push.served / version)
    assert len({pathlib.Path(folder, "saved_model.pb").read_text() for folder in folders}) == 1


def test_another_span_or_training_is_another_version(push):
    for training, span in (("a", 1), ("a", 2), ("b", 2)):
        push(card={"training": training, "span": span})
    assert len(os.listdir(push.served)) == 3


def test_a_model_whose_version_is_not_whole_is_pushed_again(push):
    first = push().get_string_custom_property("pushed_destination")
    os.remove(os.path.join(first, "saved_model.pb"))
    second = push(number=0).get_string_custom_property("pushed_destination")
    assert first != second and "saved_model.pb" in _files(second)


def test_a_name_of_other_digits_is_no_version(push):
    (push.served / "²").mkdir(parents=True)
    assert push().get_int_custom_property("pushed") == 1


def test_a_version_that_is_there_already_takes_the_new_thresholds_and_keeps_its_model(push):
    trained = {"training": "of these data and settings", "span": 1}
    first, again = (push(card=trained, thresholds=text) for text in ('{"thresholds": []}', '{"thresholds": [1]}'))
    served = again.get_string_custom_property("pushed_destination")
    assert served == first.get_string_custom_property("pushed_destination")
    for folder in (again.uri, served):
        assert pathlib.Path(folder, signatures.THRESHOLDS_FILE).read_text() == '{"thresholds": [1]}'
        assert pathlib.Path(folder, "saved_model.pb").read_text() == "saved_model.pb of model 0"
    assert not [name for name in _files(served) if ".writing-" in name]
