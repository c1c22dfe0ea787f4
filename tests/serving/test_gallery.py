"""The gallery finds by cosine similarity, and says what is wrong with a folder that is none."""

import json
import pathlib

import numpy as np
import pytest

from longtail.models import errors
from longtail.models.export import signatures
from longtail.serving import gallery
from longtail.serving import similarity
from tests.serving import conftest


@pytest.fixture
def folder(tmp_path):
    conftest.write_gallery(tmp_path, np.eye(4, dtype=np.float32))
    return tmp_path


def test_identify_returns_the_nearest_first_with_their_cosine(folder):
    query = np.array([[0.8, 0.0, 0.6, 0.0]])
    [found] = gallery.load(str(folder)).identify(query, k=2)
    assert [(match.identity, round(match.similarity, 6)) for match in found] == [("person 0", 0.8), ("person 2", 0.6)]


def test_the_length_of_a_query_does_not_change_its_similarity(folder):
    loaded = gallery.load(str(folder))
    assert loaded.identify(np.full((1, 4), 7.0), 1)[0][0].similarity == pytest.approx(0.5)


def test_a_k_beyond_the_gallery_returns_all_of_it(folder):
    assert len(gallery.load(str(folder)).identify(np.ones((1, 4)), 100)[0]) == 4


def test_search_agrees_with_a_brute_force_ranking(tmp_path):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(200, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    conftest.write_gallery(tmp_path, vectors)
    queries = random.normal(size=(20, 16)).astype(np.float32)
    found = gallery.load(str(tmp_path)).identify(queries, 5)
    expected = np.argsort(-queries @ vectors.T, axis=1)[:, :5]
    assert [[match.path for match in row] for row in found] == [[f"{i}.png" for i in row] for row in expected]


def test_the_latest_version_is_read(folder):
    conftest.write_gallery(folder, np.eye(3), version=12, model_version=12)
    assert gallery.load(str(folder)).version == 12


def test_a_gallery_of_the_answering_model_has_no_mismatch(folder):
    assert gallery.load(str(folder)).mismatch("tiny") is None


def test_a_gallery_of_another_model_says_both_names(folder):
    note = gallery.load(str(folder)).mismatch("large")
    assert "model tiny" in note and "large answered" in note


@pytest.mark.parametrize(
    ("query", "k", "message"),
    [
        (np.ones((1, 5)), 1, "4-d embeddings"),
        (np.ones(4), 1, "4-d embeddings"),
        (np.full((1, 4), np.nan), 1, "not finite"),
        (np.ones((1, 4)), 0, "at least 1"),
    ],
)
def test_a_query_that_does_not_fit_is_refused(folder, query, k, message):
    with pytest.raises(errors.UsageError, match=message):
        gallery.load(str(folder)).identify(query, k)


def test_no_queries_find_nothing(folder):
    assert gallery.load(str(folder)).identify(np.zeros((0, 4)), 3) == []


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(errors.UsageError, match="nowhere: no such folder"):
        gallery.load(str(tmp_path / "nowhere"))


def test_a_version_given_for_its_gallery_is_told_apart(folder):
    version = next(path for path in pathlib.Path(folder).iterdir() if path.is_dir())
    with pytest.raises(errors.UsageError, match=f"give its parent {folder}"):
        gallery.load(str(version))


def test_a_folder_without_a_version_is_named(tmp_path):
    with pytest.raises(errors.UsageError, match="no version folder"):
        gallery.load(str(tmp_path))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ({"dimension": 5}, "says 5 dimensions, the index has 4"),
        ({"count": 3}, "says 3 images"),
        ({"count": "many"}, "is not a gallery's card"),
        ({"model_version": -1}, "model_version -1 is no version"),
        ({"model_version": 2**63}, "is no version"),
    ],
)
def test_a_card_that_contradicts_the_index_is_refused(tmp_path, card, message):
    conftest.write_gallery(tmp_path, np.eye(4), **card)
    with pytest.raises(errors.UsageError, match=message):
        gallery.load(str(tmp_path))


@pytest.mark.parametrize("name", [signatures.GALLERY_INDEX, signatures.GALLERY_ITEMS, signatures.GALLERY_CARD])
@pytest.mark.parametrize("content", [None, "rubbish\n", "{}\n"])
def test_a_broken_file_is_named_in_one_line(folder, name, content):
    file = folder / "1" / name
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(errors.UsageError, match=name) as raised:
        gallery.load(str(folder))
    assert "\n" not in str(raised.value)


def test_an_item_without_an_identity_is_named_by_its_line(folder):
    items = folder / "1" / signatures.GALLERY_ITEMS
    lines = items.read_text().splitlines()
    lines[2] = json.dumps({"path": "2.png", "sha256": "", "camera": -1})
    items.write_text("\n".join(lines))
    with pytest.raises(errors.UsageError, match="line 3 has no identity"):
        gallery.load(str(folder))


def test_the_nearest_identity_and_the_next_one_whatever_images_they_have(tmp_path):
    vectors = np.array([[1.0, 0.0]] * 40 + [[0.6, 0.8]] + [[0.0, 1.0]])
    conftest.write_gallery(tmp_path, vectors, identities=["ann"] * 40 + ["bob", "eve"])
    [found] = gallery.load(str(tmp_path)).nearest(np.array([[1.0, 0.0]]))
    assert (found.identity, found.second) == ("ann", "bob")
    assert (found.similarity, found.margin) == (pytest.approx(1.0), pytest.approx(0.4))


def test_in_a_gallery_of_one_there_is_no_second(tmp_path):
    conftest.write_gallery(tmp_path, np.eye(2), identities=["ann", "ann"])
    [found] = gallery.load(str(tmp_path)).nearest(np.array([[1.0, 0.0]]))
    assert (found.identity, found.second, found.margin) == ("ann", None, None)


def test_a_gallery_of_a_former_release_has_no_thresholds(folder):
    assert gallery.load(str(folder)).thresholds == ()


def test_embeddings_of_any_length_have_the_cosine_of_their_angle():
    assert similarity.cosine(np.array([3.0, 0.0]), np.array([3.0, 4.0])) == pytest.approx(0.6)
    assert similarity.cosine(np.zeros(2), np.ones(2)) == 0


def test_an_embedding_that_is_not_finite_is_like_none():
    with pytest.raises(errors.UsageError, match="not finite"):
        similarity.cosine(np.array([1.0, np.nan]), np.ones(2))
