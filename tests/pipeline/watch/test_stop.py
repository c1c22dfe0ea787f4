"""A watch that is asked to stop asks its run; one that is killed leaves a root that the next one can go on in."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from longtail.models import errors
from longtail.pipeline.local import root_folder

WATCH = """
import sys
from longtail.models import errors
from longtail.pipeline.cli import signals
from tests.pipeline.watch import conftest
import pathlib
place = conftest.Place(pathlib.Path(sys.argv[1]), made=True)
try:
    with signals.stops():
        place.watch(once=False, interval_s=600.0, said=lambda state: print(state, flush=True))
except errors.Stopped as stop:
    print(stop, flush=True)
    sys.exit(stop.exit_status)
"""


@pytest.fixture
def watching(place, tmp_path):
    """A real process that watches the place."""
    command = [sys.executable, "-c", WATCH, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "waiting for span 1\n"
        yield process
        process.kill()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_run_at_work_is_asked_by_the_same_signal_and_the_watch_ends_after_it(place, tmp_path, name):
    os.mkfifo(tmp_path / "ready")
    place.deliver(1, {"asks": name, "ready": str(tmp_path / "ready")})
    with subprocess.Popen([sys.executable, "-c", WATCH, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        with open(tmp_path / "ready") as ready:
            assert ready.read() == "ready"
        process.send_signal(getattr(signal, name))
        said = process.stdout.read()
        assert process.wait() == 128 + getattr(signal, name)
    assert said.splitlines()[-1] == "stopped in span 1, after epoch 4 of 16; the same command goes on"
    assert not place.journal().entries
    place.deliver(1)
    [one] = place.watch()
    assert (one.span, one.outcome) == (1, "pushed")


def test_a_watch_that_waits_ends_at_once(place, watching):
    watching.send_signal(signal.SIGTERM)
    assert watching.stdout.read() == "stopped between two runs; the same command goes on\n"
    assert watching.wait() == 128 + signal.SIGTERM


def test_a_run_that_outlives_its_watch_is_waited_for(tmp_path):
    said, free = threading.Event(), threading.Event()

    def wait():
        root_folder.wait_for(str(tmp_path), said.set)
        free.set()

    with root_folder.hold(str(tmp_path)):
        waiting = threading.Thread(target=wait)
        waiting.start()
        said.wait()
        assert not free.is_set()
    waiting.join()
    assert free.is_set()


def test_nobody_is_waited_for_where_no_run_is_at_work(tmp_path):
    root_folder.wait_for(str(tmp_path), lambda: pytest.fail("there is none"))


def test_a_second_watch_is_kept_out_of_a_root_and_its_runs_are_not(tmp_path):
    held = "another watch is at work there; stop it or choose another root"
    with root_folder.hold_watch(str(tmp_path)):
        with root_folder.hold(str(tmp_path)):
            pass
        with pytest.raises(errors.UsageError, match=held), root_folder.hold_watch(str(tmp_path)):
            pass
