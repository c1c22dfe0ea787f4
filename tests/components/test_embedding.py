"""Embedding through an exported model's serving signature."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from longtail.components import embedding
from longtail.models import errors
from longtail.models.export import signatures


def test_embeddings_come_in_the_order_of_the_images_whatever_the_batch(vector_model):
    embedder = embedding.Embedder(vector_model())
    images = [b"1,0", b"0,1", b"0.6,0.8", b"-1,0", b"0,-1"]
    vectors, status = embedding.embed_images(embedder, iter(images), batch=2)
    np.testing.assert_allclose(vectors, [[1, 0], [0, 1], [0.6, 0.8], [-1, 0], [0, -1]], rtol=1e-6)
    assert vectors.dtype == np.float32
    assert status.tolist() == [0] * 5


def test_a_bad_image_has_its_status_and_the_others_their_embeddings(tiny_saved_model):
    png = io.BytesIO()
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(png, "PNG")
    embedder = embedding.Embedder(str(tiny_saved_model / "1"))
    vectors, status = embedding.embed_images(embedder, [png.getvalue(), b"broken", png.getvalue()])
    assert status.tolist() == [signatures.STATUS_OK, signatures.STATUS_UNDECODABLE, 0]
    np.testing.assert_allclose(vectors[0], vectors[2], rtol=1e-6)


def test_no_images_give_no_rows_of_the_models_dimension(tiny_saved_model):
    embedder = embedding.Embedder(str(tiny_saved_model / "1"))
    vectors, status = embedding.embed_images(embedder, [])
    assert (vectors.shape, status.shape) == ((0, 8), (0,))


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(errors.WorkError, match=f"{tmp_path}: no SavedModel here"):
        embedding.Embedder(str(tmp_path))


def test_a_damaged_model_is_named(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(errors.WorkError, match=f"{tmp_path}: not loadable as a SavedModel"):
        embedding.Embedder(str(tmp_path))


def test_another_signature_is_described(tmp_path):
    module = tf.Module()
    module.double = tf.function(
        lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")]
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.double})
    with pytest.raises(errors.WorkError, match="must take image_bytes .*; it takes x and gives y"):
        embedding.Embedder(str(tmp_path))


def test_embeddings_that_are_not_finite_are_counted(vector_model):
    embedder = embedding.Embedder(vector_model("diverged"))
    with pytest.raises(errors.WorkError, match="embeddings of 2 of 3 images in a batch"):
        embedder([b"1,0", b"broken", b"0,1"])


def test_an_embedding_that_is_no_matrix_is_refused(tmp_path):
    module = tf.Module()
    module.flat = tf.function(
        lambda image_bytes: {
            "embedding": tf.zeros([tf.size(image_bytes)]),
            "status": tf.zeros([tf.size(image_bytes)], tf.int32),
        },
        input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")],
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.flat})
    with pytest.raises(errors.WorkError, match=r"must give an embedding \[2, d\] .* not \[2\]"):
        embedding.Embedder(str(tmp_path))([b"a", b"b"])
