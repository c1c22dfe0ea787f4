"""What is in a source, without a run; and 1,000 damaged files, each judged once."""

import json
import resource
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from longtail.components.data import inspection
from longtail.components.data import sources
from longtail.models import pictures
from longtail.models.export import preprocess
from longtail.pipeline.report import data_page
from tests import made_pictures as made
from tests.e2e import runs

SETTINGS = (0.25, 0, 0.05)
_MAX_PIXELS = 1_000_000
_DAMAGED_EACH = 130  # of each of nine formats: 1,170 files


@pytest.fixture(scope="module")
def messy(tmp_path_factory):
    """Two people, of whom one is spelled in two ways; and one of everything that is to be found."""
    root = tmp_path_factory.mktemp("messy")
    for number, person in enumerate(("Anna", "anna", "Jos\u00e9", "Jose\u0301")):
        (root / person).mkdir()
        for index in range(2):
            (root / person / f"{index}.png").write_bytes(made.encoded(made.picture(2 * number + index), "PNG"))
    (root / "Anna" / "copy.png").write_bytes((root / "Anna" / "0.png").read_bytes())
    (root / "anna" / "twin.png").write_bytes((root / "Anna" / "1.png").read_bytes())
    (root / "anna" / "bad.jpg").write_bytes(b"%!PS")
    (root / "anna" / "no\x1b[31m<b>te.txt").write_bytes(b"x")
    (root / "@eaDir").mkdir()
    (root / "anna" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    return root


@pytest.fixture(scope="module")
def found(messy):
    return inspection.inspect(sources.open_source(str(messy)), _MAX_PIXELS)


def test_a_census_counts_a_file_once_and_a_name_by_one_spelling(found):
    assert found.census() == {"Jos\u00e9": 4, "anna": 3, "Anna": 2}


def test_what_is_there_twice_is_found(found):
    [copies], [contradiction] = found.copies(), found.contradictions()
    assert [one.item.path for one in copies] == ["Anna/0.png", "Anna/copy.png"]
    assert {one.item.path for one in contradiction} == {"Anna/1.png", "anna/twin.png"}


def test_what_is_to_be_looked_at_is_said(found):
    said = "\n".join(found.warnings(*SETTINGS))
    for warning in ("case alone: Anna, anna", "the same file under more than one", "not read, 1: anna/phone.heic"):
        assert warning in said


def test_the_page_shows_it_and_escapes_every_name(messy, found):
    page = data_page.render(found, found.warnings(*SETTINGS), sources.open_source(str(messy)), str(messy))
    assert page.count("<img") == 5  # three identities, a copy and a contradiction
    assert "no\\x1b[31m&lt;b&gt;te.txt" in page and "\x1b" not in page and "<script" not in page


def test_the_command_prints_counts_and_writes_the_page(messy, monkeypatch, capfd, tmp_path):
    assert runs.longtail(monkeypatch, "data", "check", messy, "--json", "--page", tmp_path / "page.html") == 0
    told = json.loads(capfd.readouterr().out)
    assert {name: told[name] for name in ("images", "identities", "quarantined", "ignored", "copies")} == {
        "images": 10, "identities": 3, "quarantined": 1, "ignored": 3, "copies": 1,
    }  # fmt: skip
    assert told["quarantine"][0]["path"] == "anna/bad.jpg"
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def _damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """A file with one of the damages that files have: bytes changed, lost, doubled, zeroed, or headers that lie."""
    content = np.frombuffer(data, np.uint8).copy()
    at, length = int(rng.integers(len(content))), int(rng.integers(1, 40))
    kind = rng.integers(6)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[at + length :]
    if kind == 2:
        return data[:at] + data[at : at + length] * 3 + data[at:]
    if kind == 3:
        content[at : at + length] = 0
    elif kind == 4:  # headers are where lies do most
        places = rng.integers(0, min(len(content), 64), 3)
        content[places] = rng.integers(0, 256, 3)
    else:
        places = rng.integers(0, len(content), length)
        content[places] ^= (1 << rng.integers(0, 8, length)).astype(np.uint8)
    return content.tobytes()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A .zip of damaged files, their names with a suffix, with none and with a wrong one; and what was found in it."""
    rng = np.random.default_rng(20261129)
    path = tmp_path_factory.mktemp("corpus") / "corpus.zip"
    whole = {form: made.encoded(made.picture(1, (48, 32)), form) for form in made.FORMATS}
    with zipfile.ZipFile(path, "w") as archive:
        for form, data in whole.items():
            for number in range(_DAMAGED_EACH):
                suffix = ("", ".jpg", f".{form.lower()}")[number % 3]
                archive.writestr(f"{form}/{number:03d}{suffix}", _damaged(data, rng))
    source = sources.open_source(str(path))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = inspection.inspect(source, _MAX_PIXELS)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return source, result, grown


def test_every_damaged_file_is_accepted_quarantined_or_ignored_and_never_two_of_them(corpus):
    _, result, _ = corpus
    judged = [one.item.path for one in result.seen]
    judged += [path for path, _ in (*result.quarantined, *result.dropped, *result.ignored)]
    assert len(judged) == len(set(judged)) == _DAMAGED_EACH * len(made.FORMATS) >= 1000
    assert min(len(result.seen), len(result.quarantined), len(result.ignored)) > 5


def test_every_accepted_file_decodes_in_the_served_graph(corpus):
    source, result, _ = corpus
    encoded = [pictures.read(source.read(one.item), _MAX_PIXELS).encoded for one in result.seen]
    decode = tf.function(lambda batch: preprocess.decode_batch(batch, 16, 16, 3, _MAX_PIXELS))
    _, status = decode(tf.constant(encoded))
    assert not status.numpy().any()


def test_reasons_of_damage_are_lines_for_people(corpus):
    _, result, _ = corpus
    for _, reason in (*result.quarantined, *result.ignored):
        assert reason.isprintable() and "{{" not in reason and "0x" not in reason and len(reason) < 300


def test_damage_takes_no_more_memory_than_is_stated(corpus):
    """12 bytes a pixel that is allowed, for each of the eight threads that read."""
    _, _, grown = corpus
    assert grown * 1024 < 8 * 12 * _MAX_PIXELS + 50_000_000
