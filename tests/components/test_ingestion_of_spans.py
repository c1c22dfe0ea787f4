"""Ingestion beside a registry: sides are kept whatever is asked now, and of who is withdrawn nothing is written."""

import logging
import pathlib

import pytest

from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.components.data import identity_counts
from longtail.components.data import sources
from longtail.components.image_example_gen import division
from longtail.models import errors
from tests.components import ingestion

PEOPLE = {f"person-{letter}": 3 for letter in "abcdefgh"}


@pytest.fixture(scope="module")
def spans(tmp_path_factory):
    """A folder of images, and a registry in which it was accepted by the default division."""
    root = tmp_path_factory.mktemp("spans")
    images = str(ingestion.folder(root / "images", PEOPLE))
    first = ingestion.ingest(root / "first", images)
    registry = str(root / "registry")
    ledger.append(registry, 1, identity_counts.read(first.examples.uri))
    return root, images, registry, first


def sides(ingested):
    return {split: {row["identity"] for row in ingested.rows(split)} for split in ("train", "eval")}


def test_another_seed_and_share_leave_everyone_where_they_were(spans, tmp_path, caplog):
    _, images, registry, first = spans
    asked = {"seed": 4, "eval_fraction": 0.7}
    assert sides(ingestion.ingest(tmp_path / "alone", images, **asked)) != sides(first)
    with caplog.at_level(logging.INFO, "longtail"):
        again = ingestion.ingest(tmp_path / "again", images, registry=registry, span=2, **asked)
    assert sides(again) == sides(first)
    [line] = [record.getMessage() for record in caplog.records if "stay on the side" in record.getMessage()]
    assert line.startswith(f"{again.count('overruled')} identities") and again.count("overruled") > 0


def test_of_a_withdrawn_identity_neither_images_nor_paths_are_written(spans, tmp_path, caplog):
    root, _, _, first = spans
    images = ingestion.folder(tmp_path / "images", PEOPLE)
    (images / "person-c" / "notes.txt").write_text("no image")
    (images / "person-c" / "broken.png").write_bytes(b"")
    registry = str(tmp_path / "registry")
    ledger.append(registry, 1, identity_counts.read(first.examples.uri))
    ledger.withdraw(registry, "person-c", "asked us to")
    with caplog.at_level(logging.INFO, "longtail"):
        made = ingestion.ingest(tmp_path / "out", str(images), registry=registry, span=2)
    assert made.count("withdrawn") == 5 and made.count("identities") == len(PEOPLE) - 1
    everything = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not [path for path in everything if b"person-c" in path.read_bytes()]
    assert b"person-c" not in {row["identity"] for split in ("train", "eval") for row in made.rows(split)}
    assert "person-c" not in caplog.text and "5 files are of withdrawn identities" in caplog.text


def test_a_pin_says_whether_the_registry_changes_anything(spans):
    _, images, registry, _ = spans
    source = sources.open_source(images)
    assert division.divide(source, registry, 0.25, 0).pin == division.NONE
    other = division.divide(source, registry, 0.7, 4).pin
    assert other not in (division.NONE, division.divide(source, registry, 0.7, 5).pin)


def test_a_withdrawn_span_is_not_read_again(spans, tmp_path):
    _, images, _, _ = spans
    registry = str(tmp_path / "registry")
    registry_lib.accept(registry, 1, "kept", -1)
    registry_lib.withdraw(registry, 1, "blurred")
    with pytest.raises(errors.UsageError, match=r"span 1 is withdrawn \(blurred\): nothing is trained on it any more"):
        ingestion.ingest(tmp_path / "out", images, registry=registry)
    assert not pathlib.Path(tmp_path / "out" / "examples").exists()
