"""What tests of several floors share: a tiny exported model."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest  # noqa: E402


@pytest.fixture(scope="session")
def tiny_saved_model(tmp_path_factory):
    """A model folder with version 1 inside: 16x16 grey images, 8-d embeddings."""
    import tensorflow as tf

    from models import backbones
    from models import export
    from models import preprocess

    tf.keras.utils.set_random_seed(0)
    shape = (16, 16, 1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    embedder = backbones.build_embedder("conv4", shape, 8)
    export.export(embedder, preprocess.Preprocess(shape), str(folder / "1"))
    return folder
