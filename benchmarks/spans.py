"""A story of five deliveries: what windows of spans and warm starts make of them, through the whole pipeline.

Groups of identities, such as alphabets, arrive one after the other. The third delivery has damaged files in it, the
fourth comes from another scanner, is accepted for a reason, and is withdrawn before the fifth. After each delivery the
model that is served is scored on groups that no delivery brings, and on what was held out of the first.
"""

import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import PIL.Image
import PIL.ImageOps

from longtail.benchmarks import timing
from longtail.components import ledger
from longtail.components.data import sources
from longtail.models import errors

DELIVERIES = 5
DAMAGED, INVERTED = 3, 4  # deliveries

_RECIPE = "omniglot_lt"
# Each delivery brings groups that none before it had, which are other folders and other embeddings: no drift here.
_OF_GROUPS = (
    "data/new_folders",
    "embedding/distribution",
    "embedding/angle_to_nearest_centre",
    "embedding/angle_to_own_centre",
)
NEW_GROUPS = f"drift.thresholds={{{', '.join(f'{name}: 1.0' for name in _OF_GROUPS)}}}"
# Every image is trained on, by the plain head: what is compared is which images there are.
_HEAD = "head={name: cosface, scale: 8.0, margin: 0.2}"
_PLAIN = ("rebalance.strategy=none", "leap.variant=none", _HEAD, "evaluation.floor_map=0", NEW_GROUPS)
_DAMAGED_SHARE = 0.03
_LONGTAIL = (sys.executable, "-m", "longtail.pipeline.cli")

log = logging.getLogger("longtail")


class Story:
    """The deliveries on disk.

    Args:
      data: folder or .zip of group/identity/image.
      folder: where to write them.

    Raises:
      errors.UsageError: there are too few groups.
    """

    def __init__(self, data: str, folder: str):
        self.folder = folder
        source = sources.open_source(data)
        by_group: dict[str, list[sources.Item]] = {}
        for item in source.items():
            by_group.setdefault(item.identity.rpartition("/")[0], []).append(item)
        groups = sorted(by_group)
        future, coming = groups[2::3], [group for place, group in enumerate(groups) if place % 3 != 2]
        if len(coming) < DELIVERIES or "" in by_group:
            raise errors.UsageError(f"--data {data}: {len(groups)} groups of identities, {3 * DELIVERIES} are needed")
        self._write(source, [item for group in future for item in by_group[group]], "future")
        each = len(coming) // DELIVERIES
        for number in range(1, DELIVERIES + 1):
            some = coming[(number - 1) * each : number * each]
            self._write(source, [item for group in some for item in by_group[group]], f"span-{number}", number)

    def _write(self, source: sources.Source, items: Sequence[sources.Item], name: str, number: int = 0) -> None:
        for place, item in enumerate(items):
            encoded = source.read(item)
            if number == INVERTED:
                encoded = _inverted(encoded)
            if number == DAMAGED and place % round(1 / _DAMAGED_SHARE) == 0:
                encoded = encoded[: len(encoded) // 2]
            path = os.path.join(self.folder, name, item.path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(encoded)

    def take_early(self, registry: str) -> None:
        """Copies what the first delivery held out, which is the same whatever is made of it, to the folder `early`."""
        early = os.path.join(self.folder, "early")
        for met in ledger.read(registry).met:
            target = os.path.join(early, met.identity or "")
            if met.side == ledger.HELD_OUT and met.span == 1 and not os.path.exists(target):
                shutil.copytree(_identity_folder(self.folder, met.identity), target)


def _identity_folder(folder: str, identity: str | None) -> str:
    """The folder of an identity of the first delivery, whose name may lack a folder that all paths have in front."""
    span = os.path.join(folder, "span-1")
    found = [path for path, _, _ in os.walk(span) if f"{os.sep}{path}".endswith(f"{os.sep}{identity}")]
    return found[0]


def _inverted(encoded: bytes) -> bytes:
    written = io.BytesIO()
    PIL.ImageOps.invert(PIL.Image.open(io.BytesIO(encoded)).convert("L")).save(written, "PNG")
    return written.getvalue()


def run(data: str, windows: Sequence[str], starts: Sequence[str], epochs: int, warm_epochs: int) -> dict[str, object]:
    """Tells the story once for each window and start.

    Args:
      data: folder or .zip of group/identity/image, of 15 groups or more.
      windows: values of `data.window`.
      starts: values of `training.start_from`.
      epochs: of a training from scratch.
      warm_epochs: of one from the last blessed model.

    Raises:
      errors.UsageError: too few groups.
      errors.WorkError: a run ended otherwise than as a rejected or unblessed one.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        story = Story(data, folder)
        for window in windows:
            for start in starts:
                how = f"window {window}, {start}"
                settings = [*_PLAIN, f"data.window={window}", f"training.start_from={start}"]
                settings += [f"training.epochs={epochs}", f"training.warm_epochs={warm_epochs}"]
                rows += _tell(story, how, os.path.join(folder, how.replace(" ", "-").replace(",", "")), settings)
    return {"bench": "spans", "machine": timing.machine(), "results": rows}


def _tell(story: Story, how: str, root: str, settings: Sequence[str]) -> list[dict[str, object]]:
    rows = []
    for span in range(1, DELIVERIES + 1):
        began = time.monotonic()
        summary = _deliver(story, root, span, settings)
        seconds = time.monotonic() - began
        story.take_early(os.path.join(root, "registry", _RECIPE))
        pushed = "pushed" if summary["blessed"] else "not blessed"
        name = f"{how}, delivery {span} ({pushed})"
        rows.append(timing.row(f"{name}: the whole run", seconds, "s"))
        rows.append(timing.row(f"{name}: its training", summary["seconds"]["Trainer"], "s"))
        for what in ("future", "early"):
            found = _score(os.path.join(root, "models", _RECIPE), os.path.join(story.folder, what))
            rows.append(timing.row(f"{name}: mAP, {what}", 100.0 * found, "points"))
            log.info("%s: mAP, %s: %.2f", name, what, 100.0 * found)
        if span == INVERTED:
            _longtail("spans", "withdraw", str(span), "another scanner", "--root", root)
    return rows


def _deliver(story: Story, root: str, span: int, settings: Sequence[str]) -> dict:
    words = ["run", "--recipe", _RECIPE, "--data", os.path.join(story.folder, "span-{SPAN}"), "--root", root]
    words += ["--span", str(span), *(word for one in settings for word in ("--set", one))]
    if span == INVERTED:
        words += ["--accept-drift", "another scanner"]
    _longtail(*words)
    with open(os.path.join(root, "summary.json"), encoding="utf-8") as file:
        return json.load(file)


def _score(models: str, data: str) -> float:
    words = ("evaluate", "--model", models, "--data", data, "--protocol", "retrieval", "--json")
    return json.loads(_longtail(*words))["mAP"]


def _longtail(*words: str) -> str:
    """What the command prints; one that was not blessed is no failure."""
    done = subprocess.run([*_LONGTAIL, *words], capture_output=True, text=True)
    said = (done.stderr.strip() or "nothing").splitlines()[-1]
    if done.returncode and "was not blessed" not in said:
        raise errors.WorkError(f"{' '.join(words[:2])} ended with status {done.returncode}: {said}")
    return done.stdout
