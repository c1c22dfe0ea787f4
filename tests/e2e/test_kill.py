"""A run killed or stopped inside Trainer goes on where it was: nothing finished is done again, no epoch is lost."""

import json
import os
import re
import signal
import subprocess
import sys

from longtail.models.training import position
from tests.e2e import runs


def test_a_run_killed_and_then_stopped_while_training_goes_on_from_its_last_epoch(tmp_path, monkeypatch, capfd):
    runs.write_span(tmp_path, 1)
    words = ["run", "--recipe", runs.RECIPE, "--data", str(tmp_path / "span-1"), "--root", str(tmp_path / "root")]
    words += ["--set", "training.epochs=16", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "longtail.pipeline.cli", *words],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    finished = set()
    for line in process.stderr:
        if re.search(r"epoch 3/16", line):
            break
        if match := re.match(r"(\w+) +[\d.]+ s$", line):
            finished.add(match.group(1))
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()
    assert {"ImageExampleGen", "DriftGate", "Rebalancer", "Transform"} <= finished and "Trainer" not in finished

    with position.watched(lambda now: now.done == 8 and now.step == 2 and os.kill(os.getpid(), signal.SIGTERM)):
        assert runs.longtail(monkeypatch, *words) == 128 + signal.SIGTERM
    said = capfd.readouterr().err
    assert said.endswith("longtail: stopped after epoch 8 of 16; the same command goes on\n")
    going_on = re.search(r"going on after epoch (\d+) of 16", said)
    assert going_on and int(going_on.group(1)) >= 2
    assert f"epoch {int(going_on.group(1)) + 1}/16" in said and "epoch 1/16" not in said
    [record] = (tmp_path / "root" / "records").iterdir()
    spent = json.loads(record.read_text())["seconds"]
    assert finished <= {name for name, seconds in spent.items() if seconds}

    assert runs.longtail(monkeypatch, *words) == 0
    said = capfd.readouterr()
    summary = json.loads(said.out)
    assert finished <= set(summary["cached"])
    assert "going on after epoch 8 of 16" in said.err
    assert summary["blessed"] and summary["pushed_model"]
    assert not list((tmp_path / "root" / "checkpoints").iterdir())
    assert {name: summary["seconds"][name] for name in finished} == {name: spent[name] for name in finished}
    assert summary["seconds"]["Trainer"] > spent["Trainer"]
