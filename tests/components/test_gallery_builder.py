"""GalleryBuilder: what the index holds, in which order, and that it appears complete."""

import json
import os
import pathlib
import shutil

import faiss
import numpy as np
import pytest
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import embedding
from longtail.components import ledger
from longtail.components.data import glyph_source
from longtail.components.data import glyphs
from longtail.components.gallery_builder import executor
from longtail.models import errors
from longtail.models.export import signatures
from tests.components import examples

ROWS = [
    (b"0,2", "b", "gallery", 3),
    (b"1,0", "a", "query"),
    (b"broken", "a", "gallery"),
    (b"3,4", "a", "gallery", 1),
]


@pytest.fixture
def build(tmp_path, eval_examples, vector_model):
    """Returns f(rows, ...) -> the Gallery artifact of a real Beam run into `galleries`."""

    def run(rows=ROWS, pushed=1, model="", whose="held_out", trained=(), pushed_uri="", withdrawn=examples.NOBODY):
        if trained:
            uri = eval_examples(trained).uri
            os.rename(os.path.join(uri, "Split-eval"), os.path.join(uri, "Split-train"))
        pushed_model = standard_artifacts.PushedModel()
        pushed_model.uri = pushed_uri or vector_model(model)
        pushed_model.set_int_custom_property("pushed", pushed)
        pushed_model.set_string_custom_property("pushed_version", "17")
        gallery = artifacts.Gallery()
        gallery.uri = str(tmp_path / "gallery")
        executor.Executor().Do(
            {
                "window": examples.window(tmp_path / "window", eval_examples(rows), withdrawals=withdrawn),
                "pushed_model": [pushed_model],
            },
            {"gallery": [gallery]},
            {"destination": str(tmp_path / "galleries"), "model_name": "glyphs", "whose": whose, "listing": ""},
        )
        return gallery

    run.destination = tmp_path / "galleries"
    return run


def _items(folder):
    with open(os.path.join(folder, signatures.GALLERY_ITEMS)) as file:
        return [json.loads(line) for line in file]


def _vectors(folder):
    index = faiss.read_index(os.path.join(folder, signatures.GALLERY_INDEX))
    assert isinstance(index, faiss.IndexFlatIP)
    return index.reconstruct_n(0, index.ntotal)


TRAINED = [(b"5,6", "t", "train"), (b"7,8", "t", "train")]


@pytest.mark.parametrize(
    ("whose", "paths"),
    [
        ("held_out", ["a/003.png", "b/000.png"]),
        ("all", ["a/003.png", "b/000.png", "t/000.png", "t/001.png"]),
    ],
)
def test_a_gallery_is_of_those_held_out_or_of_everybody_but_of_no_query(build, whose, paths):
    folder = build(trained=TRAINED, whose=whose).uri
    assert [item["path"] for item in _items(folder)] == paths


@pytest.fixture
def people(tmp_path):
    """A folder of three people, one image of whom is damaged, and one there twice."""
    glyph_source.write_folder(glyphs.GlyphSet(3, 0, 2, 2, 24, 0), 1, str(tmp_path / "people"))
    ann, ben, _ = sorted((tmp_path / "people").iterdir())
    shutil.copy(sorted(ann.iterdir())[0], ann / "copy.png")
    sorted(ben.iterdir())[1].write_bytes(b"no image")
    return tmp_path / "people"


def test_a_gallery_may_be_of_a_folder_of_people_nobody_trained_on(build, people, tiny_saved_model):
    folder = build(whose=str(people), pushed_uri=str(tiny_saved_model / "1")).uri
    items = _items(folder)
    names = sorted(path.name for path in people.iterdir())
    assert [item["identity"] for item in items] == [names[0]] * 2 + [names[1]] + [names[2]] * 2
    embedder = embedding.Embedder(str(tiny_saved_model / "1"))
    vectors, _ = embedder([(people / item["path"]).read_bytes() for item in items])
    np.testing.assert_allclose(_vectors(folder), vectors, atol=1e-6)
    assert json.loads((pathlib.Path(folder) / signatures.GALLERY_CARD).read_text())["undecodable"] == 1


def test_nobody_who_is_withdrawn_is_in_the_gallery_of_a_folder(build, people, tiny_saved_model):
    name = sorted(path.name for path in people.iterdir())[0]
    withdrawn = ledger.Withdrawals("salt", frozenset([ledger.digest("salt", name)]))
    folder = build(whose=str(people), pushed_uri=str(tiny_saved_model / "1"), withdrawn=withdrawn).uri
    assert {item["identity"] for item in _items(folder)} == {path.name for path in people.iterdir()} - {name}


def test_a_gallery_of_a_folder_that_is_not_there_is_refused(build):
    with pytest.raises(errors.UsageError, match="friends: no such folder"):
        build(whose="friends")


def test_gallery_rows_are_indexed_in_the_order_of_their_paths(build):
    folder = build().uri
    assert [item["path"] for item in _items(folder)] == ["a/003.png", "b/000.png"]
    np.testing.assert_allclose(_vectors(folder), [[0.6, 0.8], [0, 1]], rtol=1e-6)


def test_a_row_says_whose_image_it_is(build):
    first = _items(build().uri)[0]
    assert (first["identity"], first["camera"], len(first["sha256"])) == ("a", 1, 64)
    assert sorted(first) == ["camera", "identity", "path", "sha256"]


def test_the_card_names_the_model_and_counts_what_was_left_out(build):
    with open(os.path.join(build().uri, signatures.GALLERY_CARD)) as file:
        assert json.load(file) == {
            "model_name": "glyphs",
            "model_version": 17,
            "of": "held_out",
            "dimension": 2,
            "count": 2,
            "undecodable": 1,
            "thresholds": [],
        }


def test_the_version_folder_holds_the_same_files_and_nothing_lies_beside_it(build):
    gallery = build()
    assert os.listdir(build.destination) == ["17"]
    names = sorted(os.listdir(build.destination / "17"))
    assert (
        names == ["gallery.json", "index.faiss", "items.jsonl"] == sorted(os.listdir(gallery.uri))
    )


def test_the_artifact_knows_where_its_version_went(build):
    gallery = build()
    assert gallery.get_int_custom_property("built") == 1
    assert gallery.get_string_custom_property("destination") == str(build.destination / "17")


def test_what_an_interrupted_run_left_is_replaced(build):
    (build.destination / "17").mkdir(parents=True)
    (build.destination / ".building-17").mkdir()
    (build.destination / ".building-17" / "index.faiss").write_text("half")
    build()
    assert os.listdir(build.destination) == ["17"]
    assert len(_items(build.destination / "17")) == 2


def test_nothing_is_built_for_a_model_that_was_not_pushed(build):
    gallery = build(pushed=0)
    assert gallery.get_int_custom_property("built") == 0
    assert not build.destination.exists()


def test_a_gallery_of_which_nothing_can_be_embedded_is_an_error(build):
    with pytest.raises(errors.WorkError, match="1 gallery images, and none was"):
        build([(b"broken", "a", "gallery")])


def test_an_eval_split_without_gallery_rows_is_an_error(build):
    with pytest.raises(errors.WorkError, match="0 gallery images"):
        build([(b"1,0", "a", "query")])


def test_a_diverged_model_is_an_error_of_one_line(build):
    with pytest.raises(
        errors.WorkError, match="embeddings of 2 of 3 images .* are not finite"
    ) as e:
        build(model="diverged")
    assert "\n" not in str(e.value)
