"""A watch over real runs: a rejected delivery, a kill in the training of the good one after it, and the same again."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

from tests.e2e import runs


def test_a_watch_goes_on_after_a_rejected_delivery_and_after_it_was_killed_in_a_run(
    processes, session_folder, finished, tmp_path
):
    root = tmp_path / "root"
    shutil.copytree(finished / "kept", root)
    words = ["--recipe", runs.RECIPE, "--data", finished / "data" / "span-{SPAN}", "--root", root, "--first", 2]
    words = ["tests.e2e.watching", session_folder, "watch", *words, "--set", "training.epochs=8", "--json"]
    words += ["--interval", 0.2, "--once"]
    with processes.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as watch:
        rejected = json.loads(watch.stdout.readline())
        for line in watch.stderr:
            if running := re.search(r"span 3 is running; what it says is in (\S+)", line):
                break
        log = pathlib.Path(running.group(1))
        run = trained_until(log, "epoch 3/8")
        watch.kill()
        os.kill(run, signal.SIGKILL)
    assert (rejected["span"], rejected["outcome"], rejected["version"]) == (2, "rejected", None)
    assert rejected["reason"].startswith("stopped by the drift gate: span 2 differs from accepted span 1 in ")

    done = processes.run(*words)
    assert done.returncode == 0, done.stderr
    [pushed] = [json.loads(line) for line in done.stdout.splitlines()]
    assert (pushed["span"], pushed["outcome"]) == (3, "pushed")
    said = pathlib.Path(pushed["log"]).read_text()
    assert re.search(r"going on after epoch [2-8] of 8", said) and "epoch 1/8" not in said
    summary = json.loads((root / "summary.json").read_text())
    assert pushed["version"] == pushed["served"] == summary["version"] and pushed["mAP"] == summary["metrics"]["mAP"]
    rows = [json.loads(line) for line in (root / "watch.jsonl").read_text().splitlines()]
    assert rows == [rejected, pushed]


def trained_until(log, line):
    """The id of the process whose words are in a log, once a line is in it."""
    command = ["tail", "--lines=+1", "--follow=name", "--retry", log]  # the file may not be there yet
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as tail:
        lines = iter(tail.stdout.readline, "")
        process = next(int(said.removeprefix("process ")) for said in lines if said.startswith("process "))
        found = any(line in said for said in lines)
        tail.kill()
    assert found
    return process
