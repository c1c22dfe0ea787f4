"""What tests of components share: a model whose embeddings a test chooses, and images for it.

An "image" of this model is text, its embedding the numbers in it: b"0.6,0.8" becomes [0.6, 0.8].
It is a SavedModel like any other; only what it computes is simple enough to work out by hand.
"""

import hashlib
import os

import pytest


@pytest.fixture(scope="session")
def vector_model(tmp_path_factory):
    """Returns f(change) -> folder of a SavedModel; `change` alters its embeddings, "" does not.

    The model "picky" decodes no negative numbers; "blind" takes everything, pictures too, for the same.
    """
    import tensorflow as tf

    from longtail.models.export import signatures

    changes = {
        "": lambda vectors: vectors,
        "collapsed": lambda vectors: tf.ones_like(vectors),
        "picky": lambda vectors: vectors,
        "blind": tf.ones_like,
        "diverged": lambda vectors: vectors * float("nan"),
    }
    folders = {}

    class VectorModel(tf.Module):
        def __init__(self, change):
            super().__init__()
            self._change, self._is_blind = changes[change], change == "blind"
            self._pattern = r"[0-9.]+,[0-9.]+" if change == "picky" else r"[-0-9.]+,[-0-9.]+"

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, signatures.IMAGE_BYTES)])
        def serving(self, image_bytes):
            readable = tf.fill(tf.shape(image_bytes), True)
            if not self._is_blind:
                readable = tf.strings.regex_full_match(image_bytes, self._pattern)
            text = tf.where(readable & (not self._is_blind), image_bytes, "0,0")
            numbers = tf.strings.split(text, ",").to_tensor(shape=[None, 2])
            vectors = self._change(tf.strings.to_number(numbers))
            status = tf.where(readable, signatures.STATUS_OK, signatures.STATUS_UNDECODABLE)
            embedding = tf.math.l2_normalize(vectors, axis=1)
            return {signatures.EMBEDDING: embedding, signatures.STATUS: status}

    def folder_of(change=""):
        if change not in folders:
            folders[change] = str(tmp_path_factory.mktemp("vector") / "Format-Serving")
            model = VectorModel(change)
            exported = {signatures.SERVING: model.serving}
            tf.saved_model.save(model, folders[change], signatures=exported)
        return folders[change]

    return folder_of


@pytest.fixture
def eval_examples(tmp_path):
    """Returns f(rows) -> Examples, split eval; rows are (image, identity, split[, camera])."""
    import tensorflow as tf
    from tfx.types import standard_artifacts

    from longtail.components.data import features

    def feature(value):
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    def write(rows):
        examples = standard_artifacts.Examples()
        examples.uri = str(tmp_path / "examples")
        examples.splits = [features.EVAL_SPLIT]
        folder = os.path.join(examples.uri, "Split-eval")
        os.makedirs(folder)
        path = os.path.join(folder, "data_tfrecord-00000-of-00001.gz")
        with tf.io.TFRecordWriter(path, "GZIP") as writer:
            for number, (image, identity, split, *camera) in enumerate(rows):
                values = {
                    features.ENCODED: image,
                    features.IDENTITY: identity.encode(),
                    features.SPLIT: split.encode(),
                    features.CAMERA: camera[0] if camera else -1,
                    features.PATH: f"{identity}/{number:03d}.png".encode(),
                    features.SHA256: hashlib.sha256(image).hexdigest().encode(),
                }
                row = tf.train.Features(feature={k: feature(v) for k, v in values.items()})
                writer.write(tf.train.Example(features=row).SerializeToString())
        return examples

    return write
