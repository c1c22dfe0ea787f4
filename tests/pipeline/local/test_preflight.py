"""What a list of the images shows to be impossible is refused before one of them is read."""

import dataclasses
import re
import shutil

import pytest

from longtail.components import ledger
from longtail.components import registry as registry_lib
from longtail.components.data import identity_counts
from longtail.models import errors
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.local import preflight
from tests.components import ingestion

GLYPHS = "glyphs:identities=12,head=3,head_images=9,tail_images=3,size=16"


def recipe(*changes):
    return recipe_lib.load("glyphs", changes)


def market(folder, *names):
    """Files with the names of Market-1501; none of them is an image."""
    train = ("bounding_box_train/0001_c1_1.jpg", "bounding_box_train/0002_c1_1.jpg")
    for name in (*train, *names):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no image")
    changes = ("data.layout=market1501", "evaluation.floor_map=0.0", "rebalance.strategy=none", "leap.variant=none")
    return dataclasses.replace(recipe(*changes), name="market"), str(folder)


def test_a_vanilla_cloud_whose_carve_leaves_no_head_class_is_refused(tmp_path):
    settings = ("leap.variant=vanilla", "leap.head_threshold=5", "rebalance.strategy=carve", "rebalance.tail_images=3")
    preflight.check(recipe(*settings, "rebalance.head=1"), GLYPHS, 1, str(tmp_path))
    with pytest.raises(errors.UsageError, match="leap.head_threshold: 5 leaves the vanilla cloud no head class"):
        preflight.check(recipe(*settings, "rebalance.head=0"), GLYPHS, 1, str(tmp_path))


def test_a_carve_that_leaves_no_tail_is_refused(tmp_path):
    with pytest.raises(errors.UsageError, match="carve with head 200 leaves no tail of"):
        carve = ("rebalance.strategy=carve", "rebalance.head=200", "rebalance.tail_images=3")
        preflight.check(recipe(*carve), GLYPHS, 1, str(tmp_path))


def test_a_tail_of_one_camera_where_no_camera_is_known_is_refused(tmp_path):
    carve = ("rebalance.strategy=carve", "rebalance.head=1", "rebalance.tail_images=3", "leap.variant=none")
    carve += ("rebalance.tail_cameras=1",)
    with pytest.raises(errors.UsageError, match="rebalance.tail_cameras: 1, but of .* the camera is unknown; say it"):
        preflight.check(recipe(*carve), GLYPHS, 1, str(tmp_path))
    preflight.check(recipe(*carve, "rebalance.strategy=none"), GLYPHS, 1, str(tmp_path))
    preflight.check(recipe(*carve, r"data.camera_pattern=_c(\d+)\.png$"), f"{GLYPHS},cameras=3", 1, str(tmp_path))


def test_queries_without_a_match_in_the_gallery_are_refused(tmp_path):
    one, folder = market(tmp_path, "query/0007_c1_1.jpg", "query/0008_c1_1.jpg", "bounding_box_test/0009_c2_1.jpg")
    with pytest.raises(errors.UsageError, match="found 0 among 3, .* among the queries and one in the gallery"):
        preflight.check(one, folder, 1, str(tmp_path))


def test_cameras_that_are_crossed_by_nobody_are_refused(tmp_path):
    names = [f"{side}/{name}_c1_1.jpg" for side in ("query", "bounding_box_test") for name in ("0007", "0008")]
    one, folder = market(tmp_path, *names)
    preflight.check(one, folder, 1, str(tmp_path))
    crossed = dataclasses.replace(one, evaluation=dataclasses.replace(one.evaluation, protocol="reid"))
    with pytest.raises(errors.UsageError, match="found 0 among 2, .* of two cameras"):
        preflight.check(crossed, folder, 1, str(tmp_path))


def test_identities_of_accepted_spans_are_seen_on_the_side_they_have(tmp_path):
    people = dict.fromkeys("abcdefgh", 3)
    images, plain = str(ingestion.folder(tmp_path / "images", people)), ("rebalance.strategy=none", "leap.variant=none")
    preflight.check(recipe(*plain), images, 1, str(tmp_path / "none"))
    ledger.append(str(tmp_path), 1, {"train": people, "eval": {}})
    with pytest.raises(errors.UsageError, match="two held-out identities .* found 0"):
        preflight.check(recipe(*plain), images, 2, str(tmp_path))


def accepted(registry, folder, counts):
    """Makes a span of so many images the first accepted one."""
    for split in ("train", "eval"):
        (folder / f"Split-{split}").mkdir(parents=True)
        (folder / f"Split-{split}" / "data.gz").touch()
    identity_counts.write(str(folder), counts)
    ledger.append(registry, 1, counts)
    about = {"examples": str(folder), "images": 1, "identities": 1}
    registry_lib.accept(registry, 1, "kept", -1, "", "", about)


def test_a_cloud_may_have_its_head_from_an_earlier_span_of_the_window(tmp_path):
    accepted(str(tmp_path), tmp_path / "examples", {"train": {"large": 9}, "eval": {}})
    images = str(ingestion.folder(tmp_path / "images", dict.fromkeys("abcdefgh", 3)))
    vanilla = ("rebalance.strategy=none", "leap.variant=vanilla", "leap.head_threshold=5")
    preflight.check(recipe(*vanilla), images, 2, str(tmp_path))
    with pytest.raises(errors.UsageError, match="leaves the vanilla cloud no head class"):
        preflight.check(recipe(*vanilla, "data.window=one"), images, 2, str(tmp_path))


def test_images_of_an_earlier_span_that_are_gone_are_told_before_the_run(tmp_path):
    accepted(str(tmp_path), tmp_path / "examples", {"train": {"large": 9}, "eval": {}})
    shutil.rmtree(tmp_path / "examples")
    with pytest.raises(errors.WorkError, match="span 1: its images are gone from .*/examples/Split-train"):
        preflight.check(recipe(), GLYPHS, 2, str(tmp_path))


def test_a_gallery_of_a_folder_that_is_not_there_is_told_before_the_run(tmp_path):
    images = str(ingestion.folder(tmp_path / "images", dict.fromkeys("abcdefgh", 3)))
    plain = ("rebalance.strategy=none", "leap.variant=none")
    preflight.check(recipe(*plain, f"evaluation.gallery={images}"), images, 1, str(tmp_path / "none"))
    for word, hint in (("staff", "give held_out, all, or where images are"), ("Alll", "did you mean 'all'?")):
        said = rf"evaluation.gallery: .*{word}: no such folder.*; {re.escape(hint)}"
        with pytest.raises(errors.UsageError, match=said):
            preflight.check(recipe(*plain, f"evaluation.gallery={word}"), images, 1, str(tmp_path / "none"))


def test_a_withdrawn_span_is_told_before_the_run(tmp_path):
    accepted(str(tmp_path), tmp_path / "examples", {"train": {"large": 9}, "eval": {}})
    registry_lib.withdraw(str(tmp_path), 1, "blurred")
    with pytest.raises(errors.UsageError, match=r"span 1 is withdrawn \(blurred\)"):
        preflight.check(recipe(), GLYPHS, 1, str(tmp_path))
