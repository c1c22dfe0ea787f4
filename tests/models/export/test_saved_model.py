"""The exported SavedModel: its signatures, its graph of stock ops, and that it appears whole."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from longtail.models import backbones
from longtail.models import config
from longtail.models.export import preprocess
from longtail.models.export import saved_model
from longtail.models.export import signatures
from longtail.models.feature_transfer import networks


def test_both_signatures_give_one_embedding_of_length_one(tiny_saved_model):
    model = tf.saved_model.load(str(tiny_saved_model / "1"))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), np.uint8)
    encoded = tf.constant([tf.io.encode_png(image).numpy() for image in pixels])
    from_bytes = model.signatures[signatures.SERVING](image_bytes=encoded)
    from_pixels = model.signatures[signatures.PIXELS](pixels=tf.constant(pixels))
    np.testing.assert_allclose(from_bytes["embedding"], from_pixels["embedding"], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(from_bytes["embedding"], axis=1), 1.0, atol=1e-5)
    assert from_bytes["status"].dtype == tf.int32 and from_pixels["status"].numpy().tolist() == [0, 0, 0]


def test_a_broken_image_has_a_zero_embedding_and_its_status(tiny_saved_model):
    serve = tf.saved_model.load(str(tiny_saved_model / "1")).signatures[signatures.SERVING]
    good = tf.io.encode_jpeg(tf.zeros([16, 16, 1], tf.uint8)).numpy()
    answer = serve(image_bytes=tf.constant([good, b"broken", good]))
    assert answer["status"].numpy().tolist() == [0, 1, 0]
    assert not answer["embedding"].numpy()[1].any()


def test_graph_holds_stock_ops_only(tiny_saved_model):
    # A fresh process, since in this one Addons may have registered ops of its own.
    script = """
import sys
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
graph = saved_model_pb2.SavedModel.FromString(open(sys.argv[1], 'rb').read()).meta_graphs[0].graph_def
ops = {node.op for node in graph.node} | {n.op for f in graph.library.function for n in f.node_def}
functions = {f.signature.name for f in graph.library.function}
foreign = [op for op in ops - functions if not hasattr(tf.raw_ops, op)]
python = [op for op in ops if 'PyFunc' in op]
print(len(ops), foreign, python)
sys.exit(bool(foreign or python) or not ops)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_saved_model / "1" / "saved_model.pb")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-500:]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An embedder with statistics of its own, and the folder it is exported to."""
    tf.keras.utils.set_random_seed(3)
    embedder = backbones.build_embedder("conv4", (16, 16, 1), 8)
    embedder(tf.random.normal([32, 16, 16, 1]), training=True)
    folder = tmp_path_factory.mktemp("exported") / "1"
    saved_model.export(embedder, preprocess.Preprocess((16, 16, 1)), str(folder))
    return embedder, folder


def test_the_frozen_model_answers_as_the_unfrozen_one_in_both_signatures(exported):
    embedder, folder = exported
    unfrozen = saved_model.ServedEmbedder(embedder, preprocess.Preprocess((16, 16, 1)))
    frozen = tf.saved_model.load(str(folder)).signatures
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, (5, 16, 16, 1), np.uint8))
    encoded = tf.constant([*(tf.io.encode_png(image).numpy() for image in pixels), b"broken"])
    for found, expected in (
        (frozen[signatures.SERVING](image_bytes=encoded), unfrozen.from_bytes(encoded)),
        (frozen[signatures.PIXELS](pixels=pixels), unfrozen.from_pixels(pixels)),
    ):
        np.testing.assert_allclose(found["embedding"], expected["embedding"], atol=1e-6)
        np.testing.assert_array_equal(found["status"], expected["status"])


def test_rich_features_are_an_output_too_where_they_are_asked_for(tmp_path):
    model = config.Model("conv4", (16, 16, 1), 8, filter=True, width=0.1)
    embedder, decode = networks.build_embedder(model), preprocess.Preprocess((16, 16, 1))
    saved_model.export(embedder, decode, str(tmp_path / "1"), rich=True)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), np.uint8)
    encoded = tf.constant([*(tf.io.encode_png(image).numpy() for image in pixels), b"broken"])
    served = tf.saved_model.load(str(tmp_path / "1")).signatures
    found = served[signatures.SERVING](image_bytes=encoded)
    rich = embedder.encoder(preprocess.normalise(pixels)).numpy()
    np.testing.assert_allclose(found["rich"], [*rich, np.zeros(32)], atol=1e-5)
    expected = tf.math.l2_normalize(embedder.filter(rich), axis=-1)
    np.testing.assert_allclose(found["embedding"][:3], expected, atol=1e-5)
    from_pixels = served[signatures.PIXELS](pixels=tf.constant(pixels))
    np.testing.assert_allclose(from_pixels["rich"], rich, atol=1e-5)


def test_no_variable_and_no_function_that_nobody_calls_is_left(exported):
    folder = exported[1]
    graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    ops = {node.op for node in graph.node} | {node.op for f in graph.library.function for node in f.node_def}
    assert not {op for op in ops if "Variable" in op or op == "VarHandleOp"} and not (folder / "variables").exists()
    assert not any("save" in function.signature.name for function in graph.library.function)


def test_both_signatures_share_the_weights(exported):
    embedder, folder = exported
    weights = sum(weight.numpy().nbytes for weight in embedder.weights)
    assert weights < (folder / "saved_model.pb").stat().st_size < 2 * weights


def test_the_weights_beside_it_make_the_embedder_again(exported):
    embedder, folder = exported
    again = backbones.build_embedder("conv4", (16, 16, 1), 8)
    again.load_weights(str(folder / signatures.WEIGHTS_FILE))
    images = tf.random.normal([4, 16, 16, 1])
    np.testing.assert_allclose(again(images), embedder(images), atol=1e-6)


def test_warmup_requests_are_prediction_logs_the_model_answers(tiny_saved_model):
    folder = tiny_saved_model / "1"
    serve = tf.saved_model.load(str(folder)).signatures[signatures.SERVING]
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(folder / signatures.WARMUP_FILE))
    ]
    assert len(logs) == 2
    for log in logs:
        inputs = log.predict_log.request.inputs[signatures.IMAGE_BYTES]
        assert not serve(image_bytes=tf.constant(tf.make_ndarray(inputs)))["status"].numpy().any()


def test_card_tells_shape_and_dimension(tiny_saved_model):
    card = json.loads((tiny_saved_model / "1" / signatures.MODEL_CARD_FILE).read_text())
    assert card["image_shape"] == [16, 16, 1] and card["dimension"] == 8


def test_a_model_is_never_written_over_another(tiny_saved_model):
    with pytest.raises(FileExistsError, match="never written over"):
        saved_model.export(tf.keras.Sequential(), None, str(tiny_saved_model / "1"))


def test_nothing_is_left_where_exporting_fails(tmp_path):
    embedder = tf.keras.Sequential([tf.keras.layers.Input((16, 16, 1)), tf.keras.layers.Flatten()])
    with pytest.raises(TypeError):
        saved_model.export(embedder, preprocess.Preprocess((16, 16, 1)), str(tmp_path / "1"), card={"bad": object()})
    assert not list(tmp_path.iterdir())
