"""What tests of several floors share: a tiny exported model, two devices, and processes that start quickly."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

from tests import processes as processes_lib  # noqa: E402

# Two logical devices, so that what must hold under tf.distribute is tested without a second one. Device 0 comes
# first and is what everything else runs on.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

# No test is timed.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items):
    """The longest files come first, so that no worker begins one when the others are at their end."""
    items.sort(key=lambda item: "/e2e/" not in item.nodeid)


@pytest.fixture(scope="session")
def tiny_saved_model(tmp_path_factory):
    """A model folder with version 1 inside: 16x16 grey images, 8-d embeddings."""
    from longtail.models import backbones
    from longtail.models.export import preprocess
    from longtail.models.export import saved_model

    tf.keras.utils.set_random_seed(0)
    shape = (16, 16, 1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    embedder = backbones.build_embedder("conv4", shape, 8)
    saved_model.export(embedder, preprocess.Preprocess(shape), str(folder / "1"))
    return folder


@pytest.fixture(scope="session")
def two_replicas():
    """One strategy for all tests: a second one in the process would take the keys of its collectives."""
    strategy = tf.distribute.MirroredStrategy(tf.config.list_logical_devices("CPU")[:2])
    assert strategy.num_replicas_in_sync == 2
    return strategy


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory):
    """A folder that all workers of this run of pytest share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def processes(session_folder):
    """Starts processes that have TFX imported."""
    started = processes_lib.Processes(session_folder)
    yield started
    started.close()
