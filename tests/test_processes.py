"""A process from the fork server is a process: words, streams, folder, variables, signals and status are its own."""

import signal
import subprocess

import pytest


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes the module that a process is to run into the folder it starts in; returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(text):
        (tmp_path / "what_it_runs.py").write_text(text)
        return "what_it_runs"

    return write


def test_words_folder_variables_and_status_are_its_own(processes, module, tmp_path):
    told = module("import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['MINE']); sys.exit(7)")
    with processes.popen(told, "a", 1, stdout=subprocess.PIPE, environment={"MINE": "yes"}) as process:
        assert process.stdout.read() == f"['a', '1'] {tmp_path} yes\n"
        assert process.wait() == 7


def test_it_has_tfx_already_and_a_tensorflow_that_nothing_has_used(processes, module):
    told = module(
        "import sys; print('tfx' in sys.modules, 'longtail.pipeline.graph' in sys.modules)\n"
        "import tensorflow as tf; tf.config.set_logical_device_configuration(\n"
        "    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 3)\n"
        "print(len(tf.config.list_logical_devices('CPU')), tf.reduce_sum(tf.ones([100, 100]) @ tf.ones([100, 100])))"
    )
    done = processes.run(told)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True True\n3 tf.Tensor(1000000.0, shape=(), dtype=float32)\n"


def test_what_it_does_not_catch_is_said_on_standard_error_and_is_status_1(processes, module):
    done = processes.run(module("raise ValueError('of its own')"))
    assert done.returncode == 1 and done.stderr.endswith("ValueError: of its own\n") and done.stdout == ""


def test_it_has_a_group_of_its_own_where_asked_and_ends_by_the_signal(processes, module):
    told = module("import os, time; print(os.getpid(), os.getpgid(0), os.getsid(0), flush=True); time.sleep(1000)")
    with processes.popen(told, stdout=subprocess.PIPE, new_session=True) as process:
        assert process.stdout.readline().split() == [str(process.pid)] * 3
        process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM and process.stdout.read() == ""

