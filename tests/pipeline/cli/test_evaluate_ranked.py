"""`longtail evaluate` with what ranks better, a crowd of strangers and a row a query, through the command's parser."""

import csv
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from PIL import ImageOps

from longtail.models import errors
from longtail.models.export import signatures
from longtail.models.metrics import metric
from longtail.models.metrics import reranking
from longtail.models.metrics import retrieval
from longtail.pipeline.cli import evaluate_images

PEOPLE, IMAGES = 6, 4


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Six people whose images resemble each other a little."""
    random, root = np.random.default_rng(0), tmp_path_factory.mktemp("people")
    for person in range(PEOPLE):
        (root / f"P{person}").mkdir()
        base = random.integers(0, 120, (20, 20))
        for number in range(IMAGES):
            pixels = (base + random.integers(0, 130, (20, 20))).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"P{person}" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def embedded(people, tiny_saved_model):
    return evaluate_images.embed_data(str(tiny_saved_model), str(people), "folder")


def test_reranking_is_that_of_the_metrics(run, people, embedded):
    scores = retrieval.score_queries(
        *[embedded.vectors, embedded.identities] * 2, exclude_self=True, ranking=reranking.KReciprocal()
    )
    assert run("--data", people, "--rerank")["mAP"] == pytest.approx(scores.average_precision.mean())


def test_query_expansion_is_that_of_the_metrics(run, people, embedded):
    query = reranking.expand(embedded.vectors, embedded.vectors, 2, exclude_self=True)
    scores = retrieval.score_queries(
        query, embedded.identities, embedded.vectors, embedded.identities, exclude_self=True
    )
    assert run("--data", people, "--query-expansion", 2)["mAP"] == pytest.approx(scores.average_precision.mean())


def test_a_flipped_embedding_is_the_mean_direction_of_an_image_and_its_mirror_image(people, tiny_saved_model):
    model = evaluate_images.embedder(str(tiny_saved_model))
    found = evaluate_images.embed(model, evaluate_images.listed(str(people))[:1], flip=True)
    picture = Image.open(people / "P0" / "0.png")
    pair = [tf.io.encode_png(np.asarray(one)[..., None]).numpy() for one in (picture, ImageOps.mirror(picture))]
    one, other = tf.saved_model.load(model.uri).signatures[signatures.SERVING](image_bytes=tf.constant(pair))[
        signatures.EMBEDDING
    ].numpy()
    np.testing.assert_allclose(found.vectors[0], (one + other) / np.linalg.norm(one + other), atol=1e-6)


def test_flipping_names_and_counts_what_cannot_be_read_once(run, people, tmp_path):
    for name in ("P0", "P1"):
        (tmp_path / name).mkdir()
        for number in (0, 1):
            (tmp_path / name / f"{number}.png").write_bytes((people / name / f"{number}.png").read_bytes())
    (tmp_path / "P0" / "broken.png").write_bytes((people / "P0" / "2.png").read_bytes()[:60])
    figures = run("--data", tmp_path, "--flip")
    assert (figures["queries"], figures["undecodable"]) == (4, 1)


def test_distractors_from_arrays_and_from_images_give_the_same_rank_1(run, people, embedded, tmp_path):
    for person in range(PEOPLE):
        shutil.copytree(people / f"P{person}", tmp_path / ("few" if person < 3 else "crowd") / f"P{person}")
    (tmp_path / "arrays").mkdir()
    for number, part in enumerate(np.array_split(embedded.vectors[3 * IMAGES :], 2)):
        np.save(tmp_path / "arrays" / f"{number}.npy", part)
    images, arrays = (
        run("--data", tmp_path / "few", "--distractors", tmp_path / kind)["distractors"] for kind in ("crowd", "arrays")
    )
    assert [row["distractors"] for row in arrays] == [10, 12]
    assert images == arrays


def test_every_query_has_its_row(run, people, tmp_path):
    figures = run("--data", people, "--per-query", tmp_path / "queries.csv")
    with open(tmp_path / "queries.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["path"] for row in rows} == {f"P{person}/{n}.png" for person in range(PEOPLE) for n in range(IMAGES)}
    assert {row["identity"] + "/" for row in rows} == {row["path"].partition("/")[0] + "/" for row in rows}
    for each in metric.METRICS:
        assert np.mean([float(row[each.name]) for row in rows]) == pytest.approx(figures[each.name])
    assert np.mean([int(row["first_rank"]) == 1 for row in rows]) == pytest.approx(figures["rank1"])


def test_identities_are_told_apart_by_how_many_images_they_have(run, people, tmp_path):
    random = np.random.default_rng(5)
    (tmp_path / "many").mkdir()
    for number in range(20):
        Image.fromarray(random.integers(0, 255, (20, 20), np.uint8)).save(tmp_path / "many" / f"{number}.png")
    (tmp_path / "few").mkdir()
    for number in range(2):
        (tmp_path / "few" / f"{number}.png").write_bytes((people / "P0" / f"{number}.png").read_bytes())
    figures = run("--data", tmp_path)
    assert {name: one["queries"] for name, one in figures["bins"].items()} == {"medium": 20, "few": 2}
    shown = run("--data", tmp_path, as_json=False)
    assert "medium" in shown and "images of the identity" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--protocol", "verification", "--rerank", "--per-query", "x"), "--rerank, --per-query: for protocols that"),
        (("--rerank", "--query-expansion", "3"), "give it or --query-expansion"),
        (("--distractors", "/nowhere"), "/nowhere"),
        (("--distractors", "/nowhere.npy"), "/nowhere.npy: cannot be read"),
        (("--per-query", "/"), "--per-query /: cannot be written"),
        (("--distractors", "/nowhere", "--rerank"), "give them or --rerank, not both"),
        (("--distractors", "/nowhere", "--query-expansion", "3"), "give them or --query-expansion, not both"),
    ],
)
def test_options_that_cannot_be_are_bad_usage_before_an_image_is_embedded(run, people, words, message, monkeypatch):
    monkeypatch.setattr(evaluate_images, "embed", lambda *_: pytest.fail("an image is embedded"))
    with pytest.raises(errors.UsageError, match=message):
        run("--data", people, *words)


def test_distractors_of_another_length_are_bad_usage_before_an_image_is_embedded(run, people, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_images, "embed", lambda *_: pytest.fail("an image is embedded"))
    np.save(tmp_path / "other.npy", np.eye(5))
    with pytest.raises(errors.UsageError, match="embeddings of 5 numbers, the model's have 8"):
        run("--data", people, "--distractors", tmp_path / "other.npy")


def copied_sides(people, folder):
    """Queries, and a gallery of other images of the same people and of a byte copy of each query."""
    for person in range(PEOPLE):
        for side, numbers in (("query", [0]), ("gallery", [1, 2]), ("copies", [0, 1, 2])):
            (folder / side / f"P{person}").mkdir(parents=True)
            for number in numbers:
                shutil.copy(people / f"P{person}" / f"{number}.png", folder / side / f"P{person}" / f"{number}.png")


def test_a_copy_in_the_gallery_is_no_mate_among_distractors(run, people, embedded, tmp_path):
    copied_sides(people, tmp_path)
    np.save(tmp_path / "crowd.npy", embedded.vectors[:5])
    plain, copied = (
        run("--query", tmp_path / "query", "--gallery", tmp_path / side, "--distractors", tmp_path / "crowd.npy")
        for side in ("gallery", "copies")
    )
    assert copied["distractors"] == plain["distractors"] and plain["distractors"][0]["pairs"] == PEOPLE * 6


def test_a_query_is_not_expanded_by_a_copy_of_its_own_file(run, people, embedded, tmp_path):
    copied_sides(people, tmp_path)
    of_query, of_gallery = np.arange(PEOPLE) * IMAGES, np.flatnonzero(np.arange(PEOPLE * IMAGES) % IMAGES < 3)
    query, gallery = embedded.vectors[of_query], embedded.vectors[of_gallery]
    names, files = embedded.identities, embedded.digests

    def precision(apart):
        scores = retrieval.score_queries(
            reranking.expand(query, gallery, 1, apart=apart), names[of_query], gallery, names[of_gallery],
            query_files=files[of_query], gallery_files=files[of_gallery],
        )  # fmt: skip
        return scores.average_precision.mean()

    expected = precision([(files[of_query], files[of_gallery])])
    found = run("--query", tmp_path / "query", "--gallery", tmp_path / "copies", "--query-expansion", 1)
    assert found["mAP"] == pytest.approx(expected) and expected != pytest.approx(precision([]))


@pytest.mark.parametrize("words", [(), ("--rerank",)])
def test_a_folder_of_which_nothing_decodes_is_failed_work_in_a_line(run, tmp_path, words):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.png").write_bytes(b"no image")
        (tmp_path / name / "1.png").write_bytes(b"no image either")
    with pytest.raises(errors.WorkError, match="cannot embed any of 4 images"):
        run("--data", tmp_path, *words)
