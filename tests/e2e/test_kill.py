"""A run killed or stopped inside Trainer goes on where it was: nothing finished is done again, no epoch is lost."""

import glob
import json
import os
import re
import shutil
import signal
import subprocess

import tensorflow as tf

from longtail.models.training import position
from longtail.pipeline.local import leftovers
from longtail.pipeline.local import run
from tests.e2e import runs


def test_a_run_killed_and_then_stopped_while_training_goes_on_from_its_last_epoch(
    processes, finished, tmp_path, monkeypatch, capfd
):
    shutil.copytree(finished / "kept", tmp_path / "root")
    words = ["run", "--recipe", runs.RECIPE, "--data", finished / "data" / "span-{SPAN}", "--root", tmp_path / "root"]
    words += ["--set", "training.epochs=16", "--json"]
    done = set()
    with processes.popen("longtail.pipeline.cli", *words, stderr=subprocess.PIPE, new_session=True) as process:
        for line in process.stderr:
            if re.search(r"epoch 3/16", line):
                break
            if match := re.match(r"(\w+) +[\d.]+ s$", line):
                done.add(match.group(1))
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert {"DriftGate", "Rebalancer", "Transform"} <= done and "Trainer" not in done

    with position.watched(lambda now: now.done == 8 and now.step == 2 and os.kill(os.getpid(), signal.SIGTERM)):
        assert runs.longtail(monkeypatch, *words) == 128 + signal.SIGTERM
    said = capfd.readouterr().err
    assert "\nlongtail: stopped after epoch 8 of 16; the same command goes on\n" in said
    going_on = re.search(r"going on after epoch (\d+) of 16", said)
    assert going_on and int(going_on.group(1)) >= 2
    assert f"epoch {int(going_on.group(1)) + 1}/16" in said and "epoch 1/16" not in said
    record = max((tmp_path / "root" / "records").iterdir(), key=os.path.getmtime)
    spent = json.loads(record.read_text())["seconds"]
    assert done <= {name for name, seconds in spent.items() if seconds}

    assert runs.longtail(monkeypatch, *words) == 0
    said = capfd.readouterr()
    summary = json.loads(said.out)
    assert {"ImageExampleGen", *done} <= set(summary["cached"])
    assert "going on after epoch 8 of 16" in said.err
    assert summary["blessed"] and summary["pushed_model"]
    assert not list((tmp_path / "root" / "checkpoints").iterdir())
    assert {name: summary["seconds"][name] for name in done} == {name: spent[name] for name in done}
    assert summary["seconds"]["Trainer"] > spent["Trainer"]
    events = glob.glob(os.path.join(summary["artifacts"]["model_run"], "train", "*tfevents*"))
    records = (event for path in events for event in tf.compat.v1.train.summary_iterator(path))
    losses = {event.step for event in records for value in event.summary.value if value.tag == "epoch_loss"}
    assert losses == set(range(16))  # of the sessions that were cut, too

    root = str(tmp_path / "root")
    assert not leftovers.clear(root, run.places(root, summary["recipe"]))
