"""What tests of ImageExampleGen share: a real run on a small source, and a look at what it left."""

import dataclasses
import io
import json
import pathlib
from collections.abc import Sequence

import tensorflow as tf
from PIL import Image
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import config
from longtail.components.image_example_gen import component
from longtail.components.image_example_gen import executor

BEAM = [
    "--direct_running_mode=in_memory",
    "--direct_num_workers=1",
    "--sdk_container_image=none",  # else TFX packs itself up for remote workers, seconds a run
]
GLYPHS = "glyphs:identities=12,head=3,head_images=5,tail_images=2,size=16"


class Ingested:
    """What a run left behind."""

    def __init__(self, root: pathlib.Path):
        self.examples = standard_artifacts.Examples()
        self.examples.uri = str(root / "examples")
        self.quarantine = artifacts.Quarantine()
        self.quarantine.uri = str(root / "quarantine")

    def files(self) -> dict[str, bytes]:
        """Every file of the examples, by its path."""
        root = pathlib.Path(self.examples.uri)
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    def rows(self, split: str) -> list[dict]:
        """The examples of a split: key -> value."""
        paths = tf.io.gfile.glob(f"{self.examples.uri}/Split-{split}/*")
        records = tf.data.TFRecordDataset(sorted(paths), "GZIP").as_numpy_iterator()
        return [_row(record) for record in records]

    def bad(self) -> dict[str, str]:
        """The quarantine: path -> reason."""
        lines = pathlib.Path(self.quarantine.uri, "quarantine.jsonl").read_text().splitlines()
        return {row["path"]: row["reason"] for row in map(json.loads, lines)}

    def count(self, key: str) -> int:
        """A count on the examples."""
        return self.examples.get_int_custom_property(key)


def _row(record: bytes) -> dict:
    found = tf.train.Example.FromString(record).features.feature
    return {key: getattr(value, value.WhichOneof("kind")).value[0] for key, value in found.items()}


def ingest(root: pathlib.Path, source: str, beam_args: Sequence[str] = BEAM, **parameters) -> Ingested:
    """Runs the executor alone, with what the component would give it, into folders below `root`."""
    defaults = {**dataclasses.asdict(config.Reading(source=source)), "span": 1, "fingerprint": ""}
    made = component.ImageExampleGen(**{**defaults, **parameters})
    ingested = Ingested(root)
    context = executor.Executor.Context(beam_pipeline_args=list(beam_args), tmp_dir=str(root / "tmp"))
    executor.Executor(context).Do(
        {},
        {"examples": [ingested.examples], "quarantine": [ingested.quarantine]},
        made.exec_properties,
    )
    return ingested


def png(grey: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """A PNG of one grey."""
    file = io.BytesIO()
    Image.new("L", size, grey).save(file, "PNG")
    return file.getvalue()


def folder(root: pathlib.Path, counts: dict[str, int]) -> pathlib.Path:
    """A folder of images: identity -> number of its images, each of another grey."""
    for identity, count in counts.items():
        (root / identity).mkdir(parents=True)
        for index in range(count):
            (root / identity / f"{index}.png").write_bytes(png(10 * index + len(identity)))
    return root
