"""What the tests of serving share: encoded images, folders of versions to push to, a running server."""

import json
import logging
import os
import shutil

import faiss
import grpc
import httpx
import numpy as np
import pytest
import tensorflow as tf

from longtail.models import backbones
from longtail.models.export import preprocess
from longtail.models.export import saved_model
from longtail.models.export import signatures
from longtail.serving import client
from longtail.serving.model_server import server as server_lib


def encode(seed: int, kind: str = "png") -> bytes:
    """A random image: `png` and `jpeg` in colour, `grey` a PNG of one channel."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 20, 1 if kind == "grey" else 3), np.uint8)
    return (tf.io.encode_jpeg(pixels) if kind == "jpeg" else tf.io.encode_png(pixels)).numpy()


def push(source: os.PathLike, folder: os.PathLike, version: int) -> None:
    """Copies version folder `source` into `folder` as a pusher does: it appears complete, by rename."""
    half = os.path.join(folder, f"{version}.partial")
    shutil.copytree(source, half)
    os.rename(half, os.path.join(folder, str(version)))


def push_broken(folder: os.PathLike, version: int) -> None:
    """A version whose SavedModel is no SavedModel."""
    half = os.path.join(folder, f"{version}.partial")
    os.makedirs(half)
    with open(os.path.join(half, "saved_model.pb"), "wb") as file:
        file.write(b"not a model")
    os.rename(half, os.path.join(folder, str(version)))


def write_gallery(folder: os.PathLike, vectors: np.ndarray, version: int = 1, identities=None, **card) -> None:
    """A gallery of `vectors`; row i is identity "person i", or as given. `card` overrides what gallery.json says.

    It appears complete, by rename.
    """
    path = os.path.join(folder, f"{version}.partial")
    os.makedirs(path)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.asarray(vectors, np.float32))
    faiss.write_index(index, os.path.join(path, signatures.GALLERY_INDEX))
    with open(os.path.join(path, signatures.GALLERY_ITEMS), "w") as file:
        for row in range(len(vectors)):
            name = identities[row] if identities else f"person {row}"
            item = {"identity": name, "path": f"{row}.png", "sha256": f"{row:064x}", "camera": -1}
            file.write(json.dumps(item) + "\n")
    with open(os.path.join(path, signatures.GALLERY_CARD), "w") as file:
        said = {"model_name": "tiny", "model_version": 1, "dimension": vectors.shape[1], "count": len(vectors)}
        file.write(json.dumps({**said, **card}))
    os.rename(path, os.path.join(folder, str(version)))


@pytest.fixture(autouse=True)
def _log_reaches_caplog(monkeypatch):
    """A command run earlier in this process may have kept longtail's lines to the terminal."""
    monkeypatch.setattr(logging.getLogger("longtail"), "propagate", True)


@pytest.fixture
def model_folder(tiny_saved_model, tmp_path):
    """A model folder of the test's own, version 1 inside, named "tiny"."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    push(tiny_saved_model / "1", folder, 1)
    return folder


@pytest.fixture(scope="session")
def retrained_saved_model(tmp_path_factory):
    """The tiny model's next version, of other weights: its embeddings and the tiny model's mean nothing together."""
    tf.keras.utils.set_random_seed(1)
    shape = (16, 16, 1)
    folder = tmp_path_factory.mktemp("retrained") / "tiny"
    saved_model.export(backbones.build_embedder("conv4", shape, 8), preprocess.Preprocess(shape), str(folder / "2"))
    return folder


def _in_process(path: os.PathLike):
    function = tf.saved_model.load(str(path)).signatures[signatures.SERVING]
    return lambda images: function(image_bytes=tf.constant(images))[signatures.EMBEDDING].numpy()


@pytest.fixture(scope="session")
def in_process(tiny_saved_model):
    """The tiny model's embeddings computed without any server: bytes -> float32 [N, 8]."""
    return _in_process(tiny_saved_model / "1")


@pytest.fixture(scope="session")
def retrained_in_process(retrained_saved_model):
    """The same of its next version."""
    return _in_process(retrained_saved_model / "2")


@pytest.fixture(scope="session")
def server(tiny_saved_model):
    """A server of the tiny model on free ports."""
    options = server_lib.Options(str(tiny_saved_model), grpc_port=0, rest_port=0)
    with server_lib.ModelServer(options) as running:
        yield running


@pytest.fixture
def channel(server):
    """A gRPC channel to the server."""
    with grpc.insecure_channel(server.grpc_address, options=[("grpc.enable_http_proxy", 0)]) as opened:
        yield opened


@pytest.fixture
def rest(server):
    """An HTTP client whose paths are the server's."""
    with httpx.Client(base_url=f"http://{server.rest_address}", trust_env=False, timeout=60) as opened:
        yield opened


@pytest.fixture
def tiny_client(server):
    """longtail's own client of the server."""
    with client.Client(server.grpc_address, "tiny") as opened:
        yield opened
