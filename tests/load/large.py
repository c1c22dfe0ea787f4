"""Runs the whole pipeline on a folder of many small images, and tells the time and the peak memory of each component.

    python -m tests.load.large --images 100000
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

from longtail.components.data import glyph_source
from longtail.components.data import glyphs

_EVERY = 0.2  # seconds between two looks at memory
_SET = glyphs.GlyphSet(identities=3000, head=500, head_images=20, tail_images=4)  # 20,000 images


def _write(folder: pathlib.Path, images: int, size: int) -> int:
    """Writes sets of glyphs until there are so many images; a glyph of another set, drawn anew, is another identity."""
    written = 0
    while written < images:
        one = dataclasses.replace(_SET, size=size, seed=written)
        written += glyph_source.write_folder(one, 1, str(folder / f"set-{written}"))["images"]
    return written


def _resident(session: int) -> int:
    """Bytes that the processes of a session hold in memory."""
    pages = 0
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                pages += int((folder / "statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
    return pages * 4096


class _Peaks:
    """The most memory of each component, by the lines with which a run says what it is at."""

    def __init__(self, process: subprocess.Popen):
        self.process, self.at, self.peaks = process, "before the first step", dict[str, int]()
        reader = threading.Thread(target=self._read)
        reader.start()
        while process.poll() is None:
            self.peaks[self.at] = max(self.peaks.get(self.at, 0), _resident(process.pid))
            time.sleep(_EVERY)
        reader.join()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            print(line.rstrip(), file=sys.stderr, flush=True)
            if line.rstrip().endswith(" ..."):
                self.at = line.split()[0]


def main() -> int:
    """Prints a line a component, and the whole; status 1 where the run failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--epochs", type=int, default=4)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="longtail-large-") as name:
        folder = pathlib.Path(name)
        print(f"{_write(folder / 'data', given.images, given.size)} images", flush=True)
        words = ["run", "--recipe", "glyphs", "--data", folder / "data", "--root", folder / "root", "--json"]
        settings = (f"training.epochs={given.epochs}", "evaluation.floor_map=0", "evaluation.beat_pixels=false")
        words += [word for one in settings for word in ("--set", one)]
        command = [sys.executable, "-m", "longtail.pipeline.cli", *map(str, words)]
        begun = time.monotonic()
        with open(folder / "said.json", "w") as said:
            process = subprocess.Popen(
                command, stdout=said, stderr=subprocess.PIPE, text=True, start_new_session=True
            )
            peaks = _Peaks(process).peaks
        whole = time.monotonic() - begun
        if process.returncode:
            return 1
        summary = json.loads((folder / "said.json").read_text())
        for step, peak in peaks.items():
            seconds = summary["seconds"].get(step)
            print(f"{step:<24} {'' if seconds is None else f'{seconds:.1f} s':>10} {peak / 2**20:8.0f} MiB")
        print(f"the whole run: {whole:.0f} s, peak {max(peaks.values()) / 2**20:.0f} MiB, {summary['examples']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
