"""`longtail export` on real images: the file answers in its own runtime as the original does, or is not written."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from typer import testing

from longtail.models import errors
from longtail.models.export import portable
from longtail.models.export import signatures
from longtail.pipeline.cli import app as cli
from longtail.pipeline.cli import export as export_lib


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three people of three images each."""
    random, root = np.random.default_rng(0), tmp_path_factory.mktemp("images")
    for person in "abc":
        (root / person).mkdir()
        base = random.integers(0, 156, (20, 20))
        for number in range(3):
            pixels = (base + random.integers(0, 100, (20, 20))).astype(np.uint8)
            Image.fromarray(pixels).save(root / person / f"{number}.png")
    return root


def export(model, images, output, *words):
    """The printed figures; raises what the command raises."""
    line = ["export", "--model", model, "--data", images, "--output", output, "--json", *words]
    return json.loads(testing.CliRunner().invoke(cli.app, list(map(str, line)), catch_exceptions=False).stdout)


def answers(run, tiny_saved_model):
    """What a runtime and the original say of the same random pixels."""
    pixels = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 1), np.uint8)
    original = tf.saved_model.load(str(tiny_saved_model / "1")).signatures[signatures.PIXELS]
    return run(pixels), original(pixels=tf.constant(pixels))[signatures.EMBEDDING].numpy()


def test_tflite_embeds_as_the_original(tiny_saved_model, images, tmp_path):
    figures = export(tiny_saved_model, images, tmp_path / "m.tflite", "--format", "tflite")
    assert (figures["images"], figures["same_nearest"]) == (9, 1.0)
    assert figures["rank1"] == figures["rank1_original"]
    found, expected = answers(portable.run_tflite((tmp_path / "m.tflite").read_bytes()), tiny_saved_model)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_int8_is_smaller_and_near_the_original(tiny_saved_model, images, tmp_path):
    whole = export(tiny_saved_model, images, tmp_path / "m.tflite", "--format", "tflite")
    figures = export(tiny_saved_model, images, tmp_path / "small.tflite", "--format", "tflite", "--int8")
    assert figures["bytes"] < 0.5 * whole["bytes"]
    assert 0 < figures["largest_distance"] < 0.1
    details = tf.lite.Interpreter(str(tmp_path / "small.tflite")).get_tensor_details()
    assert any(tensor["dtype"] == np.int8 for tensor in details)


def test_onnx_embeds_as_the_original(tiny_saved_model, images, tmp_path):
    pytest.importorskip("tf2onnx", reason="tf2onnx and onnxruntime are of the development requirements")
    figures = export(tiny_saved_model, images, tmp_path / "m.onnx", "--format", "onnx")
    assert figures["largest_distance"] < 1e-5 and figures["same_nearest"] == 1.0
    found, expected = answers(portable.run_onnx((tmp_path / "m.onnx").read_bytes()), tiny_saved_model)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_is_beyond_the_bound_is_not_written(tiny_saved_model, images, tmp_path):
    words = ("--format", "tflite", "--int8", "--bound", "0.0000001")
    with pytest.raises(errors.WorkError, match=r"\(1 - cosine\) from the original's, more than 1e-07; nothing is writ"):
        export(tiny_saved_model, images, tmp_path / "out" / "m.tflite", *words)
    assert not (tmp_path / "out").exists()


def test_what_onnx_takes_and_is_not_there_is_named(tiny_saved_model, images, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(errors.UsageError, match="onnxruntime is not installed; pip install tf2onnx onnxruntime"):
        export(tiny_saved_model, images, tmp_path / "m.onnx", "--format", "onnx")


def test_a_model_that_takes_no_pixels_is_bad_usage(images, tmp_path):
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], name="x")])
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.double)
    with pytest.raises(errors.UsageError, match="has no signature 'pixels' from pixels to embedding"):
        export(tmp_path, images, tmp_path / "m.tflite", "--format", "tflite")


def test_int8_is_of_tflite_alone(tiny_saved_model, images, tmp_path):
    with pytest.raises(errors.UsageError, match="--int8 is for --format tflite"):
        export(tiny_saved_model, images, tmp_path / "m.onnx", "--format", "onnx", "--int8")


def test_a_broken_image_is_left_out_of_the_check(tiny_saved_model, images, tmp_path):
    for person in "ab":
        (tmp_path / person).mkdir()
        for number in range(2):
            (tmp_path / person / f"{number}.png").write_bytes((images / person / f"{number}.png").read_bytes())
    (tmp_path / "a" / "cut.png").write_bytes((images / "a" / "2.png").read_bytes()[:60])
    assert export(tiny_saved_model, tmp_path, tmp_path / "m.tflite", "--format", "tflite")["images"] == 4


def test_images_are_drawn_from_the_first_to_the_last_at_even_distances():
    places = export_lib.spread(1999, 1000)
    assert (len(places), places[0], places[-1]) == (1000, 0, 1998)
    assert set(np.diff(places)) == {2}
    assert export_lib.spread(3, 1000).tolist() == [0, 1, 2]


def test_the_nearest_are_found_in_chunks_as_at_once(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    monkeypatch.setattr(export_lib, "_CELLS", 14)
    np.testing.assert_array_equal(export_lib.nearest(vectors), similarity.argmax(axis=1))


@pytest.mark.parametrize(("name", "said"), [(".", "it is a folder"), ("file/m.tflite", "file is no folder")])
def test_a_place_that_cannot_be_written_is_refused_before_the_model_is_loaded(tmp_path, name, said):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.UsageError, match=f"--output .* cannot be written .*{said}"):
        export(tmp_path / "no-model", tmp_path / "no-data", tmp_path / name, "--format", "tflite")
