"""What ingestion costs beside a plain loop that reads, decodes and writes the same images; and its peak memory.

Both are counted in processor time, so that they can be compared on a busy machine, without the time of a few images,
which is start-up. Each size runs in a process of its own, so that peaks are its own.
"""

import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from longtail.benchmarks import timing
from longtail.models import errors

_IMAGES_EACH = 4  # of an identity
_START_UP = 40  # images, so few that the rest is start-up
_TARGET = 0.6


def run(images: Sequence[int], side: int) -> dict[str, object]:
    """The report.

    Args:
      images: how many, of each size that is measured.
      side: of an image, pixels; they are JPEG of noise, smoothed.
    """
    results = []
    with tempfile.TemporaryDirectory(prefix="longtail-ingest-") as folder:
        _write_images(folder, max(*images, _START_UP), side)
        begun = {kind: _measured(kind, folder, _START_UP) for kind in ("plain", "ingestion")}
        results.append(timing.row("start-up, of a few images", begun["ingestion"]["cpu_s"], "CPU s"))
        for count in images:
            found = {kind: _measured(kind, folder, count) for kind in begun}
            ours = found["ingestion"]
            limit, speed = (
                (count - _START_UP) / max(found[kind]["cpu_s"] - begun[kind]["cpu_s"], 1e-3) for kind in begun
            )
            results.append(timing.row(f"plain loop, {count} images", limit, "images a CPU second"))
            row = timing.row(f"ingestion, {count} images", speed, "images a CPU second", speed / limit, _TARGET, True)
            results.append(row)
            results.append(timing.row(f"ingestion's peak, {count} images", ours["peak_mib"], "MiB"))
            results.append(timing.row(f"ingestion's time, {count} images", ours["wall_s"], "s"))
    return {"bench": "ingest", "machine": timing.machine(), "results": results}


def _write_images(folder: str, count: int, side: int) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(count):
        path = os.path.join(folder, "images", f"{number // _IMAGES_EACH:06d}", f"{number % _IMAGES_EACH}.jpg")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        rough = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8))
        rough.resize((side, side), Image.Resampling.BILINEAR).save(path, "JPEG", quality=90)


def _measured(kind: str, folder: str, count: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", __name__, kind, folder, str(count)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise errors.WorkError(f"{kind} of {count} images failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _chosen(folder: str, count: int) -> str:
    """A folder with the first images alone; hard links cost no disk."""
    chosen = os.path.join(folder, f"chosen-{count}")
    for number in range(count if not os.path.exists(chosen) else 0):
        name = os.path.join(f"{number // _IMAGES_EACH:06d}", f"{number % _IMAGES_EACH}.jpg")
        os.makedirs(os.path.dirname(os.path.join(chosen, name)), exist_ok=True)
        os.link(os.path.join(folder, "images", name), os.path.join(chosen, name))
    return chosen


def _plain(source: str, out: str) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(out, "GZIP") as writer:
        for parent, _, names in os.walk(source):
            for name in names:
                with open(os.path.join(parent, name), "rb") as file:
                    data = file.read()
                tf.io.decode_image(data, channels=3)
                writer.write(data)


def _ingestion(source: str, out: str) -> None:
    from tfx.types import standard_artifacts

    from longtail.components import artifacts
    from longtail.components import config
    from longtail.components.image_example_gen import component
    from longtail.components.image_example_gen import executor

    parameters = {**dataclasses.asdict(config.Reading(source=source)), "span": 1, "fingerprint": "-"}
    made = component.ImageExampleGen(**parameters)
    examples, quarantine = standard_artifacts.Examples(), artifacts.Quarantine()
    examples.uri, quarantine.uri = os.path.join(out, "examples"), os.path.join(out, "quarantine")
    beam: list[Any] = ["--direct_running_mode=in_memory", "--direct_num_workers=1", "--sdk_container_image=none"]
    context = executor.Executor.Context(beam_pipeline_args=beam, tmp_dir=os.path.join(out, "tmp"))
    outputs: dict[str, list[Any]] = {executor.EXAMPLES_KEY: [examples], executor.QUARANTINE_KEY: [quarantine]}
    executor.Executor(context).Do({}, outputs, made.exec_properties)


def _main(kind: str, folder: str, count: str) -> None:
    source = _chosen(folder, int(count))
    work = {"plain": _plain, "ingestion": _ingestion}[kind]
    import tensorflow as tf

    tf.io.decode_image(tf.io.encode_png(np.zeros((1, 1, 3), np.uint8)))  # what is loaded once is no one's cost
    with tempfile.TemporaryDirectory(dir=folder) as out:
        wall, cpu = time.perf_counter(), time.process_time()
        work(source, os.path.join(out, "out"))
        spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    print(json.dumps({**spent, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
