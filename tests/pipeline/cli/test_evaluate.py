"""`longtail evaluate` on real images, through the command line's own parser."""

import json
import re
import shutil

import numpy as np
import pytest
import typer
from PIL import Image
from PIL import PngImagePlugin
from typer import testing

from longtail.models import errors
from longtail.models.metrics import metric
from longtail.pipeline.cli import evaluate

IMAGES_A_CAMERA = 2


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three identities by two cameras; images of an identity have equal pixels, so that every rank is 1.

    No two files are equal.
    """
    random = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("images")
    for identity in ("a", "b", "c"):
        (root / identity).mkdir()
        picture = Image.fromarray(random.integers(0, 255, (20, 20), np.uint8))
        for camera in (1, 2):
            for number in range(IMAGES_A_CAMERA):
                text = PngImagePlugin.PngInfo()
                text.add_text("name", f"{camera} {number}")
                picture.save(root / identity / f"c{camera}_{number}.png", pnginfo=text)
    return root


@pytest.fixture
def run(tiny_saved_model):
    """Returns f(*arguments) -> the figures; raises what the command raises."""
    app = typer.Typer()
    app.command()(evaluate.evaluate)

    def invoke(*arguments, model=tiny_saved_model):
        line = ["--model", str(model), *map(str, arguments), "--json"]
        result = testing.CliRunner().invoke(app, line, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        invoke.said = result.stderr
        return json.loads(result.stdout)

    return invoke


def test_every_image_is_a_query_against_all_others(run, images):
    figures = run("--data", images)
    assert (figures["queries"], figures["gallery"]) == (12, 12)
    assert figures["mAP"] == figures["rank1"] == figures["mINP"] == 1.0


def test_the_promised_figures_are_printed(run, images):
    promised = {"mAP", "rank1", "rank5", "rank10", "mINP", "queries", "gallery", "seconds"}
    assert promised <= set(run("--data", images))


def test_a_metric_that_is_added_is_in_the_figures_and_in_the_table(run, images, tiny_saved_model, monkeypatch):
    extra = metric.Metric("late", "Late", lambda scores: scores.first > 1, unit="", format=".3f")
    monkeypatch.setattr(metric, "METRICS", (*metric.METRICS, extra))
    assert run("--data", images)["late"] == 0.0
    assert ("Late", "0.000") in _table(images, tiny_saved_model)


def test_queries_are_sought_in_a_gallery_of_their_own(run, images, tmp_path):
    (tmp_path / "query" / "a").mkdir(parents=True)
    source = images / "a" / "c1_0.png"
    (tmp_path / "query" / "a" / "new.png").write_bytes(source.read_bytes())
    figures = run("--query", tmp_path / "query", "--gallery", images)
    assert (figures["queries"], figures["gallery"], figures["rank1"]) == (1, 12, 1.0)


def test_no_query_is_found_by_its_own_file(run, images, tmp_path):
    for identity in ("a", "b"):
        (tmp_path / identity).mkdir()
        (tmp_path / identity / "0.png").write_bytes((images / identity / "c1_0.png").read_bytes())
    with pytest.raises(errors.WorkError, match="none of 2 queries has a match"):
        run("--query", tmp_path, "--gallery", tmp_path)


def _doubled(root, copies):
    """Random pictures, which no model finds again, each `copies` times under names of its own."""
    random = np.random.default_rng(1)
    for identity in "abc":
        (root / identity).mkdir(parents=True)
        for number in range(2):
            picture = Image.fromarray(random.integers(0, 255, (20, 20), np.uint8))
            for copy in range(copies):
                picture.save(root / identity / f"c{copy}_{number}_{copy}.png")
    return root


@pytest.mark.parametrize("protocol", [[], ["--protocol", "reid", "--camera-pattern", r"c(\d+)_"]])
def test_copies_count_once_and_never_answer_for_each_other(run, tmp_path, protocol):
    twice = _doubled(tmp_path / "twice", copies=2)
    if protocol:  # all that is left of an identity is of one camera
        with pytest.raises(errors.WorkError, match="none of 6 queries has a match"):
            run("--data", twice, *protocol)
        return
    once = _doubled(tmp_path / "once", copies=1)
    figures, expected = run("--data", twice), run("--data", once)
    assert (figures["copies"], expected["copies"]) == (6, 0)
    assert figures | {"seconds": 0, "copies": 0} == expected | {"seconds": 0}
    against = run("--query", twice, "--gallery", twice)
    assert {name: against[name] for name in ("mAP", "rank1")} == {name: expected[name] for name in ("mAP", "rank1")}


def test_a_folder_against_itself_scores_as_every_image_against_all_others(run, tmp_path):
    random = np.random.default_rng(1)
    for name in ("a/0", "a/1", "b/0", "b/1", "c/0", "c/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20, 20), np.uint8)).save(tmp_path / f"{name}.png")
    twice, once = run("--query", tmp_path, "--gallery", tmp_path), run("--data", tmp_path)
    assert twice["mAP"] < 1.0
    assert (twice.pop("protocol"), once.pop("protocol")) == ("query_gallery", "retrieval")
    assert twice | {"seconds": 0} == once | {"seconds": 0}


def test_reid_leaves_out_images_by_the_querys_camera(run, images, tmp_path):
    # With one image of the second camera, no query of the second camera has its like elsewhere but
    # in the first, and the queries of an identity without it have no match at all.
    for identity, cameras in (("a", (1, 2)), ("b", (1, 1))):
        (tmp_path / identity).mkdir()
        for number, camera in enumerate(cameras):
            source = images / identity / f"c1_{number}.png"
            (tmp_path / identity / f"c{camera}_{number}.png").write_bytes(source.read_bytes())
    figures = run("--data", tmp_path, "--protocol", "reid", "--camera-pattern", r"c(\d)_")
    assert (figures["queries"], figures["unmatched"]) == (2, 2)


def _market(folder, images):
    """Queries and gallery as Market-1501 has them, of identities 1 to 3 by two cameras."""
    for number, identity in enumerate(("a", "b", "c"), start=1):
        picture = Image.open(images / identity / "c1_0.png")
        for part, camera in (("query", 1), ("bounding_box_test", 2), ("bounding_box_train", 1)):
            (folder / part).mkdir(exist_ok=True)
            picture.save(folder / part / f"{number:04d}_c{camera}s1_000001_00.jpg", quality=90 + camera)
    return folder


@pytest.mark.parametrize(
    ("asked", "protocol", "queries", "gallery"),
    [
        ((), "query_gallery", 3, 3),
        (("--protocol", "reid"), "reid", 3, 3),
        (("--protocol", "retrieval"), "retrieval", 6, 6),
    ],
)
def test_a_layout_that_tells_queries_from_gallery_is_followed_but_by_retrieval(
    run, images, tmp_path, asked, protocol, queries, gallery
):
    figures = run("--data", _market(tmp_path, images), "--layout", "market1501", *asked)
    assert (figures["protocol"], figures["queries"], figures["gallery"]) == (protocol, queries, gallery)


def test_a_folder_that_does_not_tell_queries_from_gallery_is_no_query_gallery(run, images):
    with pytest.raises(errors.UsageError, match="does not tell queries from gallery; give --query and --gallery"):
        run("--data", images, "--protocol", "query_gallery")


def test_reid_without_cameras_is_bad_usage(run, images):
    with pytest.raises(errors.UsageError, match="12 of 12 images have no camera to cross"):
        run("--data", images, "--protocol", "reid")


def test_an_image_of_another_format_is_read(run, images, tmp_path):
    for identity in ("a", "b"):
        (tmp_path / identity).mkdir()
        picture = Image.open(images / identity / "c1_0.png")
        picture.save(tmp_path / identity / "0.pgm", "PPM")
        picture.save(tmp_path / identity / "1.png")
    assert run("--data", tmp_path)["rank1"] == 1.0


def test_an_image_that_cannot_be_read_is_left_out_counted_and_named(run, images, tmp_path):
    for identity in ("a", "b"):
        (tmp_path / identity).mkdir()
        for number in range(2):
            source = images / identity / f"c1_{number}.png"
            (tmp_path / identity / f"{number}.png").write_bytes(source.read_bytes())
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "a" / "broken.pgm").write_bytes(b"P5 broken")
    (tmp_path / "b" / "cut.png").write_bytes((images / "b" / "c1_0.png").read_bytes()[:60])
    figures = run("--data", tmp_path)
    assert (figures["queries"], figures["undecodable"]) == (4, 3)
    assert sorted(re.findall(r"left out: (\S+): ", run.said)) == ["a/broken.pgm", "a/empty.png", "b/cut.png"]


def test_progress_is_said_beside_the_figures(run, images):
    run("--data", images)
    assert "embedding 12 images with " in run.said


def test_the_last_version_of_a_folder_of_versions_is_taken(run, images, tiny_saved_model, tmp_path):
    (tmp_path / "2").mkdir()  # not complete
    (tmp_path / "1").symlink_to(tiny_saved_model / "1")
    assert run("--data", images, model=tmp_path)["queries"] == 12


@pytest.mark.parametrize("inside", ["", "Format-Serving"])
def test_a_version_folder_or_an_artifact_is_taken(run, images, tiny_saved_model, tmp_path, inside):
    folder = tiny_saved_model / "1"
    if inside:
        (tmp_path / inside).symlink_to(folder)
        folder = tmp_path
    assert run("--data", images, model=folder)["queries"] == 12


def _table(images, model):
    """The rows that the command prints without --json."""
    app = typer.Typer()
    app.command()(evaluate.evaluate)
    output = testing.CliRunner().invoke(app, ["--model", str(model), "--data", str(images)]).stdout
    return {tuple(cell.strip() for cell in line.strip("│ ").split("│")) for line in output.splitlines()}


def test_the_table_shows_the_figures(images, tiny_saved_model):
    shown = _table(images, tiny_saved_model)
    assert {("protocol", "retrieval"), ("mAP", "100.00 %"), ("Rank-1", "100.00 %"), ("queries", "12")} <= shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --data, or --query and --gallery"),
        (["--data", "x", "--query", "y", "--gallery", "z"], "give either --data"),
        (["--query", "y"], "--query and --gallery go together"),
        (["--data", "x", "--protocol", "guess"], "--protocol: unknown 'guess'; one of retrieval, query_gallery, reid"),
        (["--query", "x", "--gallery", "y", "--protocol", "retrieval"], "so there is no gallery; give --data"),
        (["--data", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_bad_usage_is_named(run, arguments, message):
    with pytest.raises(errors.UsageError, match=message):
        run(*arguments)


def test_a_folder_without_a_model_is_bad_usage(run, images, tmp_path):
    with pytest.raises(errors.UsageError, match=f"--model {tmp_path}: no SavedModel"):
        run("--data", images, model=tmp_path)


def test_one_identity_is_not_enough(run, images, tmp_path):
    shutil.copytree(images / "a", tmp_path / "a")
    with pytest.raises(errors.UsageError, match=r"1 identity \(a\): at least two"):
        run("--data", tmp_path)


def test_identities_of_one_image_each_are_an_error(run, images, tmp_path):
    for identity in ("a", "b"):
        (tmp_path / identity).mkdir()
        (tmp_path / identity / "0.png").write_bytes((images / identity / "c1_0.png").read_bytes())
    with pytest.raises(errors.WorkError, match="none of 2 queries has a match"):
        run("--data", tmp_path)
