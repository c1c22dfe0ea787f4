"""Kills a run at random moments, on a folder with every fault: each must end in the same metrics and one version.

    python -m tests.load.kill --kills 20
    python -m tests.load.kill --kills 10 --story    # five deliveries, one damaged, one drifted and withdrawn afterwards
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from longtail.benchmarks import spans
from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.components.data import glyph_source
from longtail.components.data import glyphs

_RECIPE = pathlib.Path(__file__).parents[1] / "e2e" / "small.yaml"
_SETTINGS = ("training.epochs=4", "data.max_quarantine_fraction=0.2", "evaluation.floor_map=0")
_FORMATS = ("webp", "bmp", "gif", "tiff", "ppm", "jpg")


def write_folder(folder: pathlib.Path) -> None:
    """60 glyph identities of 4 to 12 images, and each kind of fault that ingestion judges."""
    glyph_source.write_folder(glyphs.GlyphSet(60, 20, 12, 4, 24, 0), 1, str(folder))
    found = sorted(folder.rglob("*.png"))
    for number, suffix in enumerate(_FORMATS):
        Image.open(found[number]).save(found[number].with_suffix(f".{suffix}"))
        found[number].unlink()
    rest = found[len(_FORMATS) :]
    people, sound = sorted({path.parent for path in rest}), rest[0].read_bytes()
    _mark_pictures(rest[1], rest[2])
    damaged = {"empty.jpg": b"", "cut.png": sound[:-40], "script.jpg": b"%!PS-Adobe\n", "text.png": b"no image"}
    ignored = {"notes.txt": b"words", ".hidden.png": sound, "@eaDir/thumb.png": sound, "__MACOSX/x.png": sound}
    for name, data in {**damaged, **ignored, "no-suffix": rest[3].read_bytes()}.items():
        (people[0] / name).parent.mkdir(exist_ok=True)
        (people[0] / name).write_bytes(data)
    os.mkfifo(people[1] / "pipe.png")
    (people[1] / "device.png").symlink_to("/dev/zero")
    (people[1] / "nowhere.png").symlink_to("missing.png")
    shutil.copy(rest[4], rest[4].with_name("copy.png"))  # within an identity
    shutil.copy(rest[5], people[-1] / "of-another.png")  # a contradiction
    for form, number in (("NFC", 20), ("NFD", 30)):
        path = folder / unicodedata.normalize(form, "José") / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        shutil.copy(rest[number], path)
        shutil.copy(rest[number + 1], path.with_name(f"{number + 1}.png"))


def _mark_pictures(turned: pathlib.Path, transparent: pathlib.Path) -> None:
    picture = Image.open(turned)
    tags = picture.getexif()
    tags[0x0112] = 6
    picture.save(turned, exif=tags)
    layer = Image.open(transparent).convert("RGBA")
    layer.putalpha(Image.fromarray(np.tile(np.arange(layer.width, dtype=np.uint8), (layer.height, 1))))
    layer.save(transparent)


def _start(data: pathlib.Path, root: pathlib.Path, *more: Any) -> subprocess.Popen:
    settings = (word for setting in _SETTINGS for word in ("--set", setting))
    return _longtail(root, "run", "--json", "--recipe", _RECIPE, "--data", data, *settings, *more)


def _longtail(root: pathlib.Path, *words: Any) -> subprocess.Popen:
    log = open(root.with_suffix(".log"), "a")  # noqa: SIM115 - the process keeps it
    command = [sys.executable, "-m", "longtail.pipeline.cli", *words, "--root", root]
    return subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, start_new_session=True)


def _outcome(root: pathlib.Path, status: int) -> dict[str, Any]:
    """What a run came to, as far as it must not hang on how often it was killed."""
    if status:
        return {"status": status, "log": root.with_suffix(".log").read_text().splitlines()[-1:]}
    summary = json.loads((root / "summary.json").read_text())
    [models] = (root / "models").iterdir()
    kept = {name: summary[name] for name in ("metrics", "examples", "classes", "blessed")}
    lists = pathlib.Path(summary["artifacts"]["quarantine"])
    files = {path.name: path.read_text() for path in sorted(lists.glob("*.jsonl"))}
    return {"status": 0, **kept, **files, "versions": len(list(models.iterdir()))}


def kill_and_resume(data: pathlib.Path, root: pathlib.Path, seconds: float) -> tuple[bool, dict[str, Any]]:
    """Kills a run after some seconds and runs it again: whether it was killed, and what it came to."""
    process = _start(data, root)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode == -signal.SIGKILL, _outcome(root, _start(data, root).wait())


def write_deliveries(folder: pathlib.Path) -> None:
    """Five spans of glyph identities: each brings ten new ones and other images of old ones; see `_STORY`."""
    for span in range(1, 6):
        path = folder / f"span-{span}"
        glyph_source.write_folder(glyphs.GlyphSet(30 + 10 * span, 10, 12, 4, 24, 0), span, str(path))
        for number, file in enumerate(sorted(path.rglob("*.png"))):
            if span == 3 and number % 50 == 0:
                file.write_bytes(file.read_bytes()[:-40])
            if span == 4:
                Image.fromarray(255 - np.asarray(Image.open(file))).save(file)


# What is done, in this order.
_STORY = (1, 2, 3, 4, "withdraw", 5)


def _begin(step: int | str, data: pathlib.Path, root: pathlib.Path) -> subprocess.Popen:
    if step == "withdraw":
        return _longtail(root, "spans", "withdraw", 4, "another scanner")
    more = ["--span", step, "--set", spans.NEW_GROUPS]  # that a delivery brings new people is no drift here
    more += ["--accept-drift", "another scanner"] if step == 4 else []
    return _start(data / "span-{SPAN}", root, *more)


def tell(
    data: pathlib.Path, root: pathlib.Path, moments: Mapping[Any, list[float]]
) -> tuple[list[float], list[Any], int]:
    """Tells the story: the seconds of its steps, what each came to, and how often one was killed.

    Args:
      data: the deliveries.
      root: of the runs.
      moments: for a step the seconds after which each try of it is killed, until none is left.
    """
    spent, found, kills = [], [], 0
    for step in _STORY:
        left, status, begun = list(moments.get(step, ())), -signal.SIGKILL, time.monotonic()
        while status == -signal.SIGKILL:
            process, after = _begin(step, data, root), left.pop(0) if left else None
            try:
                process.wait(timeout=after)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                print(f"killed in step {step} after {after:.0f} s", flush=True)
            status = process.wait()
        spent.append(time.monotonic() - begun)
        found.append(_came_to(step, root, status))
    return spent, found, kills


def _moments(seconds: list[float], kills: int, draw: random.Random) -> dict[Any, list[float]]:
    """So many moments of the story, as seconds of its steps."""
    found: dict[Any, list[float]] = {}
    for _ in range(kills):
        [place] = draw.choices(range(len(_STORY)), weights=seconds)
        found.setdefault(_STORY[place], []).append(draw.uniform(0.0, seconds[place]))
    return found


def _came_to(step: int | str, root: pathlib.Path, status: int) -> dict[str, Any]:
    """What a step of the story left, but for times, places and the names of versions."""
    if status:
        return {"step": step, "status": status, "log": root.with_suffix(".log").read_text().splitlines()[-1:]}
    [models], [galleries], [registry] = ((root / name).iterdir() for name in ("models", "galleries", "registry"))
    known = ledger.read(str(registry))
    kept = {"met": [tuple(one) for one in known.met], "accepted": registry_lib.accepted_spans(str(registry))}
    pushed = sorted(galleries.iterdir(), key=lambda path: int(path.name))
    kept["galleries"] = [(path / "items.jsonl").read_text() for path in pushed]
    kept["versions"] = len(list(models.iterdir()))
    summary = json.loads((root / "summary.json").read_text())
    kept |= {name: summary[name] for name in ("span", "window", "metrics", "by_span", "examples", "classes", "blessed")}
    return {"step": step, "status": 0, **kept}


def _kill_story(folder: pathlib.Path, kills: int, draw: random.Random) -> int:
    write_deliveries(folder / "data")
    seconds, wanted, _ = tell(folder / "data", folder / "alone", {})
    for one in wanted:
        print(f"left alone, step {one['step']}: {one}"[:300], flush=True)
    if any(one["status"] for one in wanted):
        return 1
    longer, found, hits = tell(folder / "data", folder / "killed", _moments(seconds, kills, draw))
    for one, other in zip(wanted, found, strict=True):
        print(f"step {one['step']}, same: {one == other}", "" if one == other else other, flush=True)
    print(f"left alone {sum(seconds):.0f} s; with {hits} kills {sum(longer):.0f} s; all the same: {wanted == found}")
    return int(wanted != found or not hits)


def main() -> int:
    """Prints a line a kill; status 1 where one ended otherwise than one that was left alone, or too few were killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--story", action="store_true", help="kill a story of five deliveries, told once")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="longtail-kill-") as name:
        folder, draw = pathlib.Path(name), random.Random(given.seed)
        if given.story:
            return _kill_story(folder, given.kills, draw)
        write_folder(folder / "data")
        begun = time.monotonic()
        wanted = _outcome(folder / "alone", _start(folder / "data", folder / "alone").wait())
        whole = time.monotonic() - begun
        print(f"left alone: {whole:.0f} s, {wanted}"[:600], flush=True)
        wrong, kills = wanted["status"] != 0 or wanted["versions"] != 1, 0
        for number in range(3 * given.kills if not wrong else 0):  # on a machine that got faster, some end before
            if kills == given.kills:
                break
            after = draw.uniform(0.0, whole)
            killed, found = kill_and_resume(folder / "data", folder / f"root-{number}", after)
            same = found == wanted
            wrong |= not same
            kills += killed
            what = "" if same else found
            print(f"{number + 1}: killed after {after:.1f} s: {killed}; same: {same}", what, flush=True)
        print(f"{kills} runs were killed")
    return int(wrong or kills < given.kills)


if __name__ == "__main__":
    sys.exit(main())
