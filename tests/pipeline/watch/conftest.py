"""What tests of a watch share: deliveries that say how the run on them ends, and a real process that ends so."""

import contextlib
import json
import pathlib
import sys

import pytest

from longtail.models import errors
from longtail.pipeline.watch import deliveries as deliveries_lib
from longtail.pipeline.watch import journal as journal_lib
from longtail.pipeline.watch import watcher as watcher_lib

# What stands for `longtail`: `recipe` is always right, and a run ends as the file `ends.json` of its delivery says.
SCRIPT = """
import json, os, pathlib, signal, sys
if sys.argv[1] == "recipe":
    sys.exit("longtail: error: no such recipe" if sys.argv[2] == "nonsense" else 0)
words = dict(zip(sys.argv[2::2], sys.argv[3::2]))
delivery = pathlib.Path(words["--data"].replace("{SPAN}", words["--span"]))
ends = json.loads((delivery / "ends.json").read_text()) if delivery.is_dir() else {}
print("Trainer ...", file=sys.stderr, flush=True)
if "asks" in ends:
    signal.signal(getattr(signal, ends["asks"]), lambda *_: sys.exit(
        print("longtail: stopped after epoch 4 of 16; the same command goes on", file=sys.stderr) or 143))
    with open(ends["ready"], "w") as ready:
        ready.write("ready")
    while True:
        signal.pause()
if "then" in ends:
    (delivery / "ends.json").write_text(json.dumps(ends["then"]))
if "signal" in ends:
    os.kill(os.getpid(), ends["signal"])
files = sorted(str(path.relative_to(delivery)) for path in delivery.rglob("*"))
summary = {"version": 100 + int(words["--span"]), "metrics": {"mAP": 0.5}, "pushed_model": "there", "pid": os.getpid()}
summary |= {"served": {"version": summary["version"]}, "reason": "", "files": files, **ends.get("summary", {})}
if "error" in ends:
    print("longtail: error: " + ends["error"].replace("DELIVERY", str(delivery)), file=sys.stderr)
if not ends.get("status") or "summary" in ends:
    print(json.dumps(summary))
sys.exit(ends.get("status", 0))
"""

REFUSED = {"status": 1, "error": "stopped by the drift gate: span 2 differs from accepted span 1 in image/ink"}
NOT_BLESSED = {
    "status": 1,
    "error": "the model was not blessed, nothing was pushed: mAP 0.2 is below its floor",
    "summary": {"version": None, "pushed_model": None, "served": {"version": 101}},
}


class Place:
    """A folder of deliveries, a root, and watches of the two."""

    def __init__(self, folder: pathlib.Path, made: bool = False):
        self.folder, self.root = folder / "in", folder / "root"
        self.script = folder / "longtail.py"
        self.script.write_text(SCRIPT)
        self.pattern = str(self.folder / "span-{SPAN}")
        self.root.mkdir(exist_ok=made)
        self.states: list[str] = []

    @property
    def longtail(self):
        return (sys.executable, "-S", "-E", str(self.script))

    def deliver(self, span, ends=None, marker="_COMPLETE", **files):
        """Writes a delivery, and its marker last."""
        path = self.folder / f"span-{span}"
        path.mkdir(parents=True, exist_ok=True)
        (path / "ends.json").write_text(json.dumps(ends or {}))
        for name, content in files.items():
            (path / name).write_text(content)
        if marker:
            (path / marker).unlink(missing_ok=True)
            (path / marker).write_text("")
        return path

    def journal(self):
        return journal_lib.Journal(str(self.root))

    def watch(self, marker="_COMPLETE", said=None, pattern=None, **plan):
        """Runs what is there; the journal's entries that this added."""
        before = self.journal().entries
        pattern = pattern or self.pattern

        def command(span):
            return [*self.longtail, "run", "--data", pattern, "--root", str(self.root), "--span", str(span), "--json"]

        def say(state):
            self.states.append(state)
            if said:
                said(state)

        plan = watcher_lib.Plan(str(self.root), **{"once": True, "interval_s": 0.02, **plan})
        came = []
        watcher = watcher_lib.Watcher(plan, deliveries_lib.Deliveries(pattern, marker), self.journal(), command, say)
        try:
            watcher.watch(came.append)
        finally:
            assert self.journal().entries == [*before, *came]
        return came


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


@pytest.fixture
def came(place):
    """Returns f(**plan) -> [(span, outcome)] of a watch, whether or not all was pushed."""

    def watch(**plan):
        before = len(place.journal().entries)
        with contextlib.suppress(errors.WorkError):
            place.watch(**plan)
        return [(one.span, one.outcome) for one in place.journal().entries[before:]]

    return watch
