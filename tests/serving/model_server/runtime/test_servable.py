"""A version is loaded as its files say, runs in numpy's arrays, and is freed when nobody holds it."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from longtail.models.export import signatures
from longtail.serving.model_server.runtime import request_errors
from longtail.serving.model_server.runtime import servable as servable_lib
from tests.serving import conftest
from tests.serving.model_server import small_models

DTYPES = [tf.float16, tf.bfloat16, tf.float64, tf.complex64, tf.bool, tf.int8, tf.uint8, tf.int16, tf.uint32, tf.int64]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return small_models.write(tmp_path_factory.mktemp("rows") / "1")


@pytest.fixture
def load():
    loaded = []

    def loading(path):
        loaded.append(servable_lib.Servable("model", 1, str(path)))
        return loaded[-1]

    yield loading
    for each in loaded:
        each.close()


@pytest.fixture
def copy(path, tmp_path):
    """A folder of the test's own with the same model."""
    return shutil.copytree(path, tmp_path / "1")


def change(path, edit):
    """Edits the SavedModel's graph and signatures."""
    file = os.path.join(path, "saved_model.pb")
    with open(file, "rb") as opened:
        model = saved_model_pb2.SavedModel.FromString(opened.read())
    edit(model.meta_graphs[0])
    with open(file, "wb") as opened:
        opened.write(model.SerializeToString())


def test_it_answers_as_the_model_does_in_tensorflows_own_hands(load, tiny_saved_model, in_process):
    images = [conftest.encode(0), conftest.encode(1, "jpeg"), conftest.encode(2, "grey"), b"no image"]
    outputs = load(tiny_saved_model / "1").signature("").run({signatures.IMAGE_BYTES: np.array(images, object)})
    np.testing.assert_allclose(outputs[signatures.EMBEDDING], in_process(images), atol=1e-5)
    assert outputs[signatures.STATUS].tolist() == [0, 0, 0, signatures.STATUS_UNDECODABLE]


def test_signatures_say_what_the_saved_model_says(load, path):
    loaded = load(path)
    signature = loaded.signatures["double"]
    assert (signature.inputs["x"].dtype, signature.inputs["x"].shape.as_list()) == (tf.float32, [None, None])
    assert sorted(signature.outputs) == ["at_once", "in_all", "y"]
    assert loaded.definitions["double"].inputs["x"].name == "double_x:0"


def test_what_initialises_the_model_is_told_but_cannot_be_called(load, path):
    loaded = load(path)
    assert "__saved_model_init_op" in loaded.definitions and "__saved_model_init_op" not in loaded.signatures


@pytest.mark.parametrize(("name", "has_rows"), [("double", True), ("join", True), ("total", False)])
def test_only_a_signature_whose_inputs_and_outputs_have_rows_can_share_a_batch(load, path, name, has_rows):
    assert load(path).signatures[name].has_rows is has_rows


def test_every_type_comes_back_as_it_went(load, tmp_path):
    loaded = load(small_models.write_of_dtypes(tmp_path / "1", DTYPES))
    for dtype in DTYPES:
        for value in (np.array([[0, 1], [3, 2]]), np.array(1), np.zeros((0, 2))):
            x = value.astype(dtype.as_numpy_dtype)
            found = loaded.signatures[dtype.name].run({"x": x})["x"]
            assert found.dtype == x.dtype and found.shape == x.shape and (found == x).all()


def test_strings_of_any_length_and_shape_come_back_as_they_went(load, tmp_path):
    loaded = load(small_models.write_of_dtypes(tmp_path / "1", [tf.string]))
    x = np.array([[b"", b"short", b"\x00" * 23], ["ü".encode(), b"x" * 100_000, b"\xff"]], object)
    assert loaded.signatures["string"].run({"x": x})["x"].tolist() == x.tolist()


def test_strings_that_the_model_keeps_stay_as_they_were(load, tmp_path):
    keeper = load(small_models.write_keeper(tmp_path / "1")).signature("")
    asked = [[b"x" * 100, b"y"], [b"z" * 1000]]
    found = [keeper.run({"text": np.array(text, object)})["before"].tolist() for text in [*asked, [b""]]]
    assert found[1:] == asked


def test_an_answer_outlives_the_model(path):
    loaded = servable_lib.Servable("model", 1, path)
    found = loaded.signatures["double"].run({"x": np.full((100, 100), 3.0, np.float32)})["y"]
    loaded.close()
    assert (found == 6.0).all()


def test_the_models_own_failure_is_told_in_one_line(load, path):
    with pytest.raises(request_errors.RequestError, match="minus one was asked") as raised:
        load(path).signatures["double"].run({"x": np.array([[-1.0]], np.float32)})
    assert "\n" not in raised.value.message


def test_a_model_without_its_variables_does_not_load(load, copy):
    shutil.rmtree(copy / "variables")
    with pytest.raises(tf.errors.OpError, match="not a valid checkpoint"):
        load(copy)


def test_a_model_without_its_variables_values_does_not_load(load, copy):
    (copy / "variables" / "variables.data-00000-of-00001").unlink()
    with pytest.raises(tf.errors.OpError, match="variables.data"):
        load(copy)


def test_a_folder_without_a_model_does_not_load(load, tmp_path):
    with pytest.raises(tf.errors.NotFoundError, match="Could not find SavedModel"):
        load(tmp_path)


def test_a_model_without_a_signature_does_not_load(load, copy):
    change(copy, lambda graph: graph.ClearField("signature_def"))
    with pytest.raises(tf.errors.NotFoundError, match="has no signature"):
        load(copy)


@pytest.mark.parametrize("name", ["nowhere:0", "double_x:1", "double_x:one", ""])
def test_a_signature_that_names_what_is_not_there_does_not_load(load, copy, name):
    def rename(graph):
        graph.signature_def["double"].inputs["x"].name = name

    change(copy, rename)
    with pytest.raises(tf.errors.NotFoundError, match=f"'{name}', which is not there"):
        load(copy)


def test_a_signature_that_cannot_be_asked_leaves_the_others(load, copy):
    def make_odd(graph):
        graph.signature_def["double"].inputs["x"].coo_sparse.values_tensor_name = "double_x:0"
        graph.signature_def["total"].inputs["x"].dtype = types_pb2.DT_RESOURCE

    change(copy, make_odd)
    loaded = load(copy)
    assert not {"double", "total"} & set(loaded.signatures) and {"double", "total"} <= set(loaded.definitions)
    assert loaded.signatures["outer"].run({"x": np.ones(1, np.float32), "y": np.ones(1, np.float32)})


def test_a_model_of_another_tag_does_not_load(load, copy):
    def retag(graph):
        graph.meta_info_def.tags[:] = ["train"]

    change(copy, retag)
    with pytest.raises(tf.errors.NotFoundError, match="serve"):
        load(copy)


def test_a_retired_version_is_idle_when_those_who_have_it_let_go(load, path):
    loaded = load(path)
    assert loaded.acquire()
    loaded.retire()
    assert not loaded.acquire() and not loaded.wait_idle(0.0)
    loaded.hold()
    loaded.release()
    assert not loaded.wait_idle(0.0)
    loaded.release()
    assert loaded.wait_idle(0.0)


def test_loading_and_closing_again_and_again_keeps_the_memory_flat(path):
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def load_and_close(times):
        for _ in range(times):
            loaded = servable_lib.Servable("model", 1, path)
            loaded.signatures["double"].run({"x": np.zeros((1, 1), np.float32)})
            loaded.close()

    load_and_close(10)
    before = resident()
    load_and_close(20)
    assert resident() - before < 20 << 20  # a session that is kept holds about 2 MiB
