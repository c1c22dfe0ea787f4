"""The latest version that loads serves; what does not load is told and changes nothing."""

import shutil

import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2

from models import signatures
from serving import errors
from serving.model_server import loader
from serving.model_server import request_errors
from tests.serving import conftest

STATE = get_model_status_pb2.ModelVersionStatus


@pytest.fixture
def source(model_folder):
    loaded = loader.ModelSource("tiny", str(model_folder))
    loaded.poll()
    return loaded


def states(source):
    return {state.version: state.state for state in source.states("tiny")}


def test_the_latest_version_serves(source):
    assert source.get("tiny").version == 1


def test_a_pushed_version_takes_over_and_the_old_one_ends(source, model_folder):
    conftest.push(model_folder / "1", model_folder, 3)
    source.poll()
    assert source.get("tiny").version == 3
    assert states(source) == {3: STATE.AVAILABLE, 1: STATE.END}


def test_a_version_below_the_serving_one_is_not_loaded(source, model_folder):
    conftest.push(model_folder / "1", model_folder, 0)
    source.poll()
    assert states(source) == {1: STATE.AVAILABLE}


def test_a_broken_version_is_told_and_the_old_one_serves_on(source, model_folder):
    conftest.push_broken(model_folder, 2)
    source.poll()
    assert source.get("tiny").version == 1
    [broken] = source.states("tiny", 2)
    assert broken.state == STATE.END and broken.error_code != 0 and "saved_model.pb" in broken.error_message


def test_a_broken_version_is_tried_again_when_its_files_change(source, model_folder):
    conftest.push_broken(model_folder, 2)
    source.poll()
    shutil.rmtree(model_folder / "2")
    conftest.push(model_folder / "1", model_folder, 2)
    source.poll()
    assert states(source)[2] == STATE.AVAILABLE


def test_a_broken_version_is_not_tried_again_while_its_files_do_not_change(source, model_folder, caplog):
    conftest.push_broken(model_folder, 2)
    for _ in range(3):
        source.poll()
    assert sum("does not load" in record.message for record in caplog.records) == 1


def test_at_the_start_a_broken_latest_version_yields_to_the_one_below(model_folder):
    conftest.push_broken(model_folder, 2)
    source = loader.ModelSource("tiny", str(model_folder))
    source.poll()
    assert source.get("tiny").version == 1


def test_a_version_whose_warm_up_fails_does_not_serve(source, model_folder):
    shutil.copytree(model_folder / "1", model_folder / "2.partial")
    (model_folder / "2.partial" / signatures.WARMUP_FILE).write_bytes(b"no records " * 9)
    (model_folder / "2.partial").rename(model_folder / "2")
    source.poll()
    assert states(source) == {1: STATE.AVAILABLE, 2: STATE.END}


def test_a_dangling_link_in_a_version_is_a_failed_load_which_is_told(source, model_folder):
    (model_folder / "3").mkdir()
    (model_folder / "3" / "saved_model.pb").symlink_to("nowhere")
    source.poll()
    assert source.get("tiny").version == 1
    [broken] = source.states("tiny", 3)
    assert broken.state == STATE.END and "saved_model.pb" in broken.error_message


def test_a_dangling_link_that_is_mended_is_tried_again(source, model_folder):
    (model_folder / "3").mkdir()
    (model_folder / "3" / "saved_model.pb").symlink_to("nowhere")
    source.poll()
    shutil.rmtree(model_folder / "3")
    conftest.push(model_folder / "1", model_folder, 3)
    source.poll()
    assert states(source) == {3: STATE.AVAILABLE, 1: STATE.END}


def test_a_version_deleted_while_it_is_walked_is_told_and_the_old_one_serves_on(source, model_folder, monkeypatch):
    conftest.push(model_folder / "1", model_folder, 3)
    stat = tf.io.gfile.stat

    def stat_too_late(path):
        shutil.rmtree(model_folder / "3", ignore_errors=True)
        return stat(path)

    monkeypatch.setattr(tf.io.gfile, "stat", stat_too_late)
    source.poll()
    assert source.get("tiny").version == 1
    assert states(source) == {1: STATE.AVAILABLE, 3: STATE.END}


def test_a_held_version_answers_by_its_number_after_another_took_over(source, model_folder):
    held = source.hold(1)
    conftest.push(model_folder / "1", model_folder, 2)
    source.poll()
    assert source.get("tiny", 1) is held and source.get("tiny").version == 2
    assert states(source) == {2: STATE.AVAILABLE, 1: STATE.AVAILABLE}


def test_a_released_version_ends_unless_it_is_the_latest(source, model_folder):
    conftest.push(model_folder / "1", model_folder, 2)
    source.hold(1)
    source.hold(2)
    source.poll()
    source.release(1)
    source.release(2)
    assert states(source) == {2: STATE.AVAILABLE, 1: STATE.END}
    with pytest.raises(request_errors.RequestError, match="Specific"):
        source.get("tiny", 1)


def test_holding_a_version_that_ended_loads_it_beside_the_latest(source, model_folder):
    conftest.push(model_folder / "1", model_folder, 2)
    source.poll()
    assert source.hold(1).version == 1 and source.get("tiny").version == 2


def test_a_version_that_is_not_there_or_broken_cannot_be_held(source, model_folder):
    conftest.push_broken(model_folder, 0)
    assert source.hold(7) is None and source.hold(0) is None
    assert states(source) == {1: STATE.AVAILABLE, 0: STATE.END}


def test_a_held_version_that_becomes_the_latest_is_not_loaded_again(source, model_folder):
    conftest.push(model_folder / "1", model_folder, 2)
    held = source.hold(2)
    source.poll()
    assert source.get("tiny") is held


def test_when_every_version_is_deleted_the_last_one_serves_on(source, model_folder):
    shutil.rmtree(model_folder)
    source.poll()
    assert source.get("tiny").version == 1


def test_deleting_the_serving_version_rolls_back_to_the_one_before(source, model_folder):
    conftest.push(model_folder / "1", model_folder, 2)
    source.poll()
    shutil.rmtree(model_folder / "2")
    source.poll()
    assert states(source) == {1: STATE.AVAILABLE, 2: STATE.END}


@pytest.mark.parametrize(("asked", "message"), [(("other",), "Latest(other)"), (("tiny", 7), "Specific(tiny, 7)")])
def test_what_does_not_serve_is_not_found_in_tf_servings_words(source, asked, message):
    with pytest.raises(request_errors.RequestError) as raised:
        source.get(*asked)
    assert raised.value.message == f"Servable not found for request: {message}"


def test_a_model_folder_without_a_version_is_bad_usage(tmp_path):
    with pytest.raises(errors.UsageError, match="no version folder"):
        loader.check_folder(str(tmp_path))


def test_a_missing_model_folder_is_bad_usage(tmp_path):
    with pytest.raises(errors.UsageError, match="no such folder"):
        loader.check_folder(str(tmp_path / "nowhere"))


def test_a_version_folder_in_place_of_its_model_says_what_to_serve(model_folder):
    with pytest.raises(errors.UsageError, match=f"serve {model_folder}$"):
        loader.check_folder(str(model_folder / "1"))
