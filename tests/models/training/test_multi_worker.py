"""Two processes on this machine train as TF_CONFIG tells them; and what is wrong with a TF_CONFIG is one line."""

import dataclasses
import json
import os
import socket

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models.export import preprocess
from longtail.models.leap import angle_memory
from longtail.models.training import loop
from longtail.models.training import workers
from tests.models.training import multi_worker


def free_ports(count):
    """Ports nothing listens on, while all of them are held."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


MODULE = "tests.models.training.multi_worker"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, processes):
    """Where two workers have trained and told what they saw."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "tmp").mkdir()
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]

    def work(index, log):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}, "environment": "cloud"}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task), "TMPDIR": str(folder / "tmp")}
        return processes.popen(MODULE, folder, stdout=log, stderr=log, environment=environment)

    with (
        open(folder / "log-0", "w") as log_0,
        open(folder / "log-1", "w") as log_1,
        work(0, log_0) as first,
        work(1, log_1) as second,
    ):
        ends = [first.wait(), second.wait()]
    assert ends == [0, 0], "".join((folder / f"log-{index}").read_text()[-3000:] for index in range(2))
    return folder


@pytest.fixture(scope="module")
def told(folder):
    """What each worker told."""
    return [dict(np.load(folder / f"worker-{index}.npz")) for index in range(2)]


def test_losses_and_weights_are_the_same_on_every_worker(told):
    first, second = told
    assert np.unique(first["losses"]).size == 4 and np.isfinite(first["losses"]).all()
    np.testing.assert_array_equal(first["losses"], second["losses"])
    names = [name for name in first if name.startswith("weight_")]
    assert len(names) > 10
    for name in names:
        np.testing.assert_array_equal(first[name], second[name])


def test_the_memory_is_that_of_one_device_that_saw_the_whole_batch(told):
    alone = angle_memory.AngleMemory(multi_worker.COUNTS)
    alone.build([None, 5])
    for features, labels in multi_worker.stream():
        alone(tf.constant(features), tf.constant(labels))
    for worker in told:
        for name, value in multi_worker.state(alone).items():
            np.testing.assert_allclose(worker[f"memory_{name}"], value, atol=1e-6)


def test_the_workers_share_each_batch_and_no_row_is_left_out(told):
    for worker in told:
        assert worker["seen"].tolist() == [2 * multi_worker.PER_CLASS] * multi_worker.CLASSES


def test_a_killed_training_goes_on_from_the_chiefs_checkpoint(folder, told):
    for worker in told:
        assert worker["died"] and [name for name in worker["kept"] if name.endswith(".index")] == ["ckpt-1.index"]
    for index in range(2):
        assert "going on after epoch 1 of 2" in (folder / f"log-{index}").read_text()


def test_a_worker_that_does_not_share_the_checkpoints_is_refused(told):
    assert "finds 1 finished epochs there and another worker does not" in str(told[0]["refused"])
    assert "own: this worker finds 0 finished epochs there" in str(told[1]["refused"])


def test_only_the_chief_leaves_files_behind(folder, told):
    assert sorted(os.listdir(folder)) == ["log-0", "log-1", "model", "tmp", "worker-0.npz", "worker-1.npz"]
    assert os.listdir(folder / "tmp") == []
    assert all(worker["is_there"] for worker in told)  # also for the one that did not write it


def test_the_exported_model_is_the_trained_one(folder, told):
    served = tf.saved_model.load(str(folder / "model")).signatures["serving_default"]
    embedding = served(tf.constant(multi_worker.images().encoded))["embedding"]
    for worker in told:
        wanted = tf.math.l2_normalize(worker["embedding"], axis=-1)
        np.testing.assert_allclose(embedding, wanted, atol=1e-5)


WORKERS = {"worker": ["a:1", "b:2"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "TF_CONFIG: not JSON"),
        ("[]", '"cluster" must map'),
        ('{"cluster": {"worker": "a:1"}}', '"cluster" must map'),
        ('{"cluster": {"worker": ["a"]}}', "lists of HOST:PORT"),
        (json.dumps({"cluster": {**WORKERS, "ps": ["c:3"]}}), "'ps' has no part in this training"),
        (json.dumps({"cluster": {"worker": ["a:1", "a:1"]}}), "stands twice"),
        (json.dumps({"cluster": {"chief": ["c:3", "d:4"], **WORKERS}}), "a second chief"),
        (json.dumps({"cluster": WORKERS}), '"task" must be one of the cluster. Received: null'),
        (json.dumps({"cluster": WORKERS, "task": {"type": "chief", "index": 0}}), '"task" must be one of the cluster'),
        (json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": 2}}), '"task" must be one of the cluster'),
        (json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": "0"}}), '"task" must be one'),
    ],
)
def test_a_malformed_tf_config_is_one_line(text, message):
    with pytest.raises(errors.UsageError, match="^TF_CONFIG") as caught:
        workers.cluster(text)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{}", '{"environment": "cloud"}', '{"cluster": {"worker": ["a:1"], "ps": []}}'])
def test_a_process_alone_is_no_cluster(text):
    assert workers.cluster(text) is None


def test_the_chief_leads_else_the_first_worker():
    def leads(kind, number, **addresses):
        return workers.Cluster(addresses, kind, number).leads

    assert leads("worker", 0, **WORKERS) and not leads("worker", 1, **WORKERS)
    assert leads("chief", 0, chief=["c:3"], **WORKERS) and not leads("worker", 0, chief=["c:3"], **WORKERS)


def test_a_process_that_used_tensorflow_before_is_told(monkeypatch):
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(task))
    tf.constant(1)
    with pytest.raises(errors.WorkError, match="worker 0 at .* must be a process of its own"):
        workers.strategy()


def test_a_batch_the_devices_cannot_share_is_refused(two_replicas):
    wrong = dataclasses.replace(multi_worker.settings(), training=config_lib.Training(batch=7))
    with pytest.raises(errors.UsageError, match="2 devices cannot share a batch of 7 images evenly"):
        loop.train(wrong, multi_worker.images(), preprocess.Preprocess(multi_worker.SHAPE), strategy=two_replicas)
