"""The latest version that loads serves; what does not load is told and changes nothing."""

import logging
import os
import shutil
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_status_pb2
from tensorflow_serving.apis import prediction_log_pb2

from longtail.models import errors
from longtail.models.export import signatures
from longtail.serving.model_server.runtime import inference
from longtail.serving.model_server.runtime import loader
from longtail.serving.model_server.runtime import request_errors
from tests.serving import conftest
from tests.serving.model_server import pushes

STATE = get_model_status_pb2.ModelVersionStatus


@pytest.fixture
def model_folder(push_affine):
    """A model folder of the test's own, version 1 inside, named "tiny"."""
    return push_affine("tiny", 1)


@pytest.fixture
def source(model_folder):
    loaded = loader.ModelSource("tiny", str(model_folder))
    loaded.poll()
    return loaded


def states(source):
    return {state.version: state.state for state in source.known()}


def test_the_latest_version_serves(source):
    assert source.get().version == 1


def test_a_pushed_version_takes_over_and_the_old_one_ends(source, model_folder):
    conftest.push(model_folder / "1", model_folder, 3)
    source.poll()
    assert source.get().version == 3
    assert states(source) == {3: STATE.AVAILABLE, 1: STATE.END}


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_a_version_is_loaded_in_a_thread_that_gives_way_to_requests_and_no_other_does(model_folder, caplog):
    def of_this_thread():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    class Priorities(logging.Handler):
        def emit(self, record):
            found[record.getMessage().split(" is loaded")[0]] = of_this_thread()

    caplog.set_level(logging.INFO, "longtail")
    found, before, handler = {}, of_this_thread(), Priorities()
    log = logging.getLogger("longtail")
    log.addHandler(handler)
    try:
        loader.ModelSource("tiny", str(model_folder)).poll()
    finally:
        log.removeHandler(handler)
    assert found["model tiny version 1"] > before == of_this_thread()


def test_a_version_below_the_serving_one_is_not_loaded(source, model_folder):
    conftest.push(model_folder / "1", model_folder, 0)
    source.poll()
    assert states(source) == {1: STATE.AVAILABLE}


def test_a_broken_version_is_told_and_the_old_one_serves_on(source, model_folder):
    conftest.push_broken(model_folder, 2)
    source.poll()
    assert source.get().version == 1
    [broken] = [state for state in source.known() if state.version == 2]
    assert broken.state == STATE.END and broken.error_code != 0 and f"{model_folder}/2" in broken.error_message


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
    assert source.get().version == 1


def warm_up_record(signature="", **inputs):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        log.predict_log.request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return log.SerializeToString()


def remove_variables(folder):
    shutil.rmtree(folder / "variables")


def remove_index(folder):
    (folder / "variables" / "variables.index").unlink()


def cut_variables(folder):
    [data] = (folder / "variables").glob("variables.data*")
    data.write_bytes(data.read_bytes()[:3])


def cut_graph(folder):
    graph = folder / "saved_model.pb"
    graph.write_bytes(graph.read_bytes()[:-100])


def remove_graph(folder):
    (folder / "saved_model.pb").unlink()


def warm_up_in_vain(folder):
    pushes.write_warm_up(folder, [warm_up_record("guess", x=[1.0])])


def warm_up_of_another_model(folder):
    pushes.write_warm_up(folder, [warm_up_record(image_bytes=["a"])])


def warm_up_that_is_none(folder):
    pushes.write_warm_up(folder, [b"no log \xff"])


def warm_up_that_is_no_record_file(folder):
    pushes.write_warm_up(folder, [])
    (folder / signatures.WARMUP_FILE).write_bytes(b"no records " * 9)


@pytest.mark.parametrize(
    ("break_it", "code", "said"),
    [
        (remove_graph, grpc.StatusCode.NOT_FOUND, "Could not find SavedModel .pb"),
        (cut_graph, grpc.StatusCode.DATA_LOSS, "Cannot parse file"),
        (remove_variables, grpc.StatusCode.NOT_FOUND, "variables"),
        (remove_index, grpc.StatusCode.NOT_FOUND, "variables"),
        (cut_variables, grpc.StatusCode.OUT_OF_RANGE, "Read less bytes than requested (loading "),
        (warm_up_in_vain, grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "guess" not found.'),
        (warm_up_of_another_model, grpc.StatusCode.INVALID_ARGUMENT, "image_bytes"),
        (warm_up_that_is_none, grpc.StatusCode.INVALID_ARGUMENT, "warm-up"),
        (warm_up_that_is_no_record_file, grpc.StatusCode.DATA_LOSS, "corrupted record"),
    ],
)
def test_whatever_is_broken_is_told_with_code_and_line_and_the_old_version_serves_on(
    source, model_folder, push_affine, break_it, code, said
):
    half = model_folder / "half"
    shutil.copytree(model_folder / "1", half)
    break_it(half)
    half.rename(model_folder / "2")
    source.poll()
    [broken] = [state for state in source.known() if state.version == 2]
    assert (broken.state, broken.error_code) == (STATE.END, code.value[0])
    assert said in broken.error_message and "\n" not in broken.error_message
    assert source.get().version == 1


def test_a_version_that_comes_file_by_file_serves_in_the_end(source, model_folder):
    seen = set()
    for _ in pushes.push_in_parts(model_folder / "1", model_folder, 2):
        source.poll()
        seen.add(source.get().version)
    assert seen == {1, 2} and states(source) == {2: STATE.AVAILABLE, 1: STATE.END}


def test_a_version_that_failed_is_tried_again_as_often_as_it_is_said(model_folder, caplog):
    conftest.push_broken(model_folder, 2)
    source = loader.ModelSource("tiny", str(model_folder), options=loader.Options(retries=2, retry_s=0.0))
    for _ in range(5):
        source.poll()
    assert sum("does not load" in record.message for record in caplog.records) == 3


@pytest.mark.parametrize("times", [0, 3])
def test_a_version_is_warmed_up_as_often_as_it_is_said(model_folder, monkeypatch, times):
    run, warm_up = [], inference.warm_up
    monkeypatch.setattr(inference, "warm_up", lambda servable, path: run.append(warm_up(servable, path)) or run[-1])
    pushes.write_warm_up(model_folder / "1", [warm_up_record(x=[1.0])] * 2)
    loader.ModelSource("tiny", str(model_folder), options=loader.Options(warm_ups=times)).poll()
    assert run == [2] * times


def test_a_version_whose_requests_are_under_way_is_unloading_until_they_are_done(source, model_folder):
    running = source.acquire()
    conftest.push(model_folder / "1", model_folder, 2)
    source.poll()
    assert states(source) == {2: STATE.AVAILABLE, 1: STATE.UNLOADING}
    assert running.signature("").run({"x": np.float32([2.0])})["y"].tolist() == [2.0]
    running.release()
    assert source.wait_for(1, STATE.END, timeout_s=60)


def test_a_replaced_version_is_freed_later_where_that_is_said_and_at_once_when_all_ends(model_folder):
    source = loader.ModelSource("tiny", str(model_folder), options=loader.Options(unload_after_s=3600.0))
    source.poll()
    conftest.push(model_folder / "1", model_folder, 2)
    source.poll()
    assert states(source) == {2: STATE.AVAILABLE, 1: STATE.UNLOADING}
    source.close()
    source.wait_closed(time.monotonic() + 60)
    assert states(source) == {2: STATE.END, 1: STATE.END}


def test_versions_deleted_from_under_a_server_answer_on(source, model_folder):
    shutil.rmtree(model_folder / "1")
    source.poll()
    assert source.get().signature("").run({"x": np.float32([2.0])})["y"].tolist() == [2.0]


def test_a_dangling_link_in_a_version_is_a_failed_load_which_is_told(source, model_folder):
    (model_folder / "3").mkdir()
    (model_folder / "3" / "saved_model.pb").symlink_to("nowhere")
    source.poll()
    assert source.get().version == 1
    [broken] = [state for state in source.known() if state.version == 3]
    assert broken.state == STATE.END and "Could not find SavedModel" in broken.error_message


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
    assert source.get().version == 1
    assert states(source) == {1: STATE.AVAILABLE, 3: STATE.END}


def test_a_held_version_answers_by_its_number_after_another_took_over(source, model_folder):
    held = source.hold(1)
    conftest.push(model_folder / "1", model_folder, 2)
    source.poll()
    assert source.get(1) is held and source.get().version == 2
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
        source.get(1)


def test_holding_a_version_that_ended_loads_it_beside_the_latest(source, model_folder):
    conftest.push(model_folder / "1", model_folder, 2)
    source.poll()
    assert source.hold(1).version == 1 and source.get().version == 2


def test_a_version_that_is_not_there_or_broken_cannot_be_held(source, model_folder):
    conftest.push_broken(model_folder, 0)
    assert source.hold(7) is None and source.hold(0) is None
    assert states(source) == {1: STATE.AVAILABLE, 0: STATE.END}


def test_a_held_version_that_becomes_the_latest_is_not_loaded_again(source, model_folder):
    conftest.push(model_folder / "1", model_folder, 2)
    held = source.hold(2)
    source.poll()
    assert source.get() is held


def test_when_every_version_is_deleted_the_last_one_serves_on(source, model_folder):
    shutil.rmtree(model_folder)
    source.poll()
    assert source.get().version == 1


def test_deleting_the_serving_version_rolls_back_to_the_one_before(source, model_folder):
    conftest.push(model_folder / "1", model_folder, 2)
    source.poll()
    shutil.rmtree(model_folder / "2")
    source.poll()
    assert states(source) == {1: STATE.AVAILABLE, 2: STATE.END}


def test_what_does_not_serve_is_not_found_in_tf_servings_words(source):
    with pytest.raises(request_errors.RequestError) as raised:
        source.get(7)
    assert raised.value.message == "Servable not found for request: Specific(tiny, 7)"


def test_a_model_folder_without_a_version_is_bad_usage(tmp_path):
    with pytest.raises(errors.UsageError, match="no version folder"):
        loader.check_folder(str(tmp_path))


def test_a_missing_model_folder_is_bad_usage(tmp_path):
    with pytest.raises(errors.UsageError, match="no such folder"):
        loader.check_folder(str(tmp_path / "nowhere"))


def test_a_folder_of_models_in_place_of_one_names_those_in_it(model_folder):
    with pytest.raises(errors.UsageError, match=f"is a folder of models, not of versions; serve one: {model_folder}$"):
        loader.check_folder(str(model_folder.parent))


def test_a_saved_model_in_place_of_a_folder_of_versions_says_where_to_move_it(model_folder):
    (model_folder / "1").rename(model_folder.parent / "saved")
    with pytest.raises(errors.UsageError, match="is a SavedModel itself, .*; move it to .*/saved/1$"):
        loader.check_folder(str(model_folder.parent / "saved"))


def test_a_version_folder_in_place_of_its_model_says_what_to_serve(model_folder):
    with pytest.raises(errors.UsageError, match=f"serve {model_folder}$"):
        loader.check_folder(str(model_folder / "1"))
