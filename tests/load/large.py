"""Runs the whole pipeline on a folder of many small images, and tells the time and the peak memory of each component.

    python -m tests.load.large --images 100000
"""

import argparse
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
_HEAD_IMAGES, _TAIL_IMAGES = 20, 4


def _glyphs(images: int, size: int) -> glyphs.GlyphSet:
    """A set of about so many images, half of them of head identities, which are a sixth of all."""
    head, tail = images // (2 * _HEAD_IMAGES), images // (2 * _TAIL_IMAGES)
    return glyphs.GlyphSet(head + tail, head, _HEAD_IMAGES, _TAIL_IMAGES, size)


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
        counts = glyph_source.write_folder(_glyphs(given.images, given.size), 1, str(folder / "data"))
        print(f"{counts['images']} images of {counts['identities']} identities", flush=True)
        words = ["run", "--recipe", "glyphs", "--data", folder / "data", "--root", folder / "root", "--json"]
        words += ["--set", f"training.epochs={given.epochs}", "--set", "evaluation.floor_map=0"]
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
