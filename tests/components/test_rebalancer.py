"""The rebalancer counts distinct images, gives dense ids, and writes the same files every time."""

import collections
import dataclasses
import os
import pathlib
import shutil

import hypothesis
import pytest
import tensorflow as tf
from hypothesis import strategies
from tfx.types import standard_artifacts

from longtail.components import artifacts
from longtail.components import config
from longtail.components.data import features
from longtail.components.rebalancer import census
from longtail.components.rebalancer import component
from longtail.components.rebalancer import executor
from longtail.components.rebalancer import rows as rows_lib
from longtail.models import errors
from tests.components import examples

_COUNTS = {"b": 7, "a": 5, "d": 3, "c": 1}
_SIZES = {"head": 0, "tail_images": 0, "tail_classes": 0, "tail_cameras": 0, "cap": 0, "repeat_to": 0}
_DEFAULTS = {**_SIZES, "seed": 0, "leap_variant": "none", "head_threshold": 10}


def _images(counts):
    return [examples.image(name, n) for name, count in counts.items() for n in range(count)]


@pytest.fixture(scope="module")
def long_tail(tmp_path_factory):
    return examples.ingested(str(tmp_path_factory.mktemp("in") / "examples"), _images(_COUNTS))


def _rebalance(folder, source, strategy="none", **sizes):
    """Runs the real executor; returns (census, written tf.Examples as dicts, artifact)."""
    outputs = {
        "rebalanced_examples": examples.artifact(standard_artifacts.Examples, folder / "examples"),
        "census": examples.artifact(artifacts.ClassCensus, folder / "census"),
    }
    properties = {**_DEFAULTS, **sizes, "strategy": strategy}
    inputs = {"window": examples.window(folder / "window", *source)}
    executor.Executor(examples.beam_context(folder)).Do(inputs, outputs, properties)
    rebalanced = outputs["rebalanced_examples"][0]
    found = census.read_census(outputs["census"][0].uri)
    return found, _read(rebalanced), rebalanced


@pytest.fixture(scope="module")
def rebalanced(long_tail, tmp_path_factory):
    """Returns f(strategy, **sizes) -> what `_rebalance` makes of the long tail, made once each."""
    made = {}

    def get(strategy="none", **sizes):
        key = (strategy, *sorted(sizes.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("rebalanced")
            made[key] = _rebalance(folder, long_tail, strategy, **sizes)
        return made[key]

    return get


def _files(artifact):
    folder = os.path.join(artifact.uri, "Split-train")
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]


def _read(artifact):
    result = []
    for record in tf.data.TFRecordDataset(_files(artifact), "GZIP").as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        result.append(
            {
                "identity": feature[features.IDENTITY].bytes_list.value[0].decode(),
                "path": feature[features.PATH].bytes_list.value[0],
                "class_id": feature[features.CLASS_ID].int64_list.value[0],
                "camera": feature[features.CAMERA].int64_list.value[0],
                "features": set(feature),
            }
        )
    return result


def _rows(written):
    return collections.Counter(row["identity"] for row in written)


def _column(found, key):
    return {one["identity"]: one[key] for one in found["classes"]}


def test_none_keeps_every_image(rebalanced):
    found, written, _ = rebalanced()
    assert _rows(written) == _COUNTS
    assert _column(found, "images") == _COUNTS
    assert (found["images"], found["rows"]) == (16, 16)


def test_class_ids_are_dense_in_the_order_of_the_names(rebalanced):
    found, written, _ = rebalanced()
    assert _column(found, "class_id") == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert {row["identity"]: row["class_id"] for row in written} == _column(found, "class_id")


def test_the_ingested_features_are_kept(rebalanced):
    _, written, _ = rebalanced()
    assert written[0]["features"] == {*examples.image("a", 0), features.CLASS_ID}


def test_only_the_train_split_is_read_and_written(tmp_path):
    evaluation = [examples.image("unseen", 0)]
    source = examples.ingested(tmp_path / "in", _images(_COUNTS), evaluation)
    found, _, artifact = _rebalance(tmp_path, source)
    assert "unseen" not in _column(found, "images")
    assert artifact.splits == ["train"]
    assert os.listdir(artifact.uri) == ["Split-train"]


def test_cap_cuts_the_head_and_leaves_the_tail(rebalanced):
    _, written, _ = rebalanced("cap", cap=4)
    assert _rows(written) == {"a": 4, "b": 4, "c": 1, "d": 3}


def test_carve_keeps_the_largest_whole_and_cuts_the_others(rebalanced):
    found, written, _ = rebalanced("carve", head=1, tail_images=2)
    assert _rows(written) == {"a": 2, "b": 7, "c": 1, "d": 2}
    assert _column(found, "available") == _COUNTS


def test_carve_with_tail_classes_leaves_the_other_identities_out_and_keeps_ids_dense(rebalanced):
    found, written, _ = rebalanced("carve", head=1, tail_images=2, tail_classes=2)
    assert _rows(written) == {"b": 7, "a": 2, "d": 2}
    assert _column(found, "class_id") == {"a": 0, "b": 1, "d": 2}
    assert {row["identity"]: row["class_id"] for row in written} == _column(found, "class_id")
    assert (found["images"], found["rows"]) == (11, 11)


@pytest.mark.parametrize("seed", range(3))
def test_a_tail_of_few_cameras_is_of_one_of_its_cameras_each_and_the_head_of_all(tmp_path, seed):
    """Image n is camera n % 3's; a copy of an image under another camera is the lower one's, and none of its own."""
    seen = [
        examples.image(name, n, camera=n % 3) for name, count in {"a": 9, "b": 12, "c": 6}.items() for n in range(count)
    ]
    copies = [
        {**image, features.PATH: image[features.PATH] + b".copy", features.CAMERA: 2}
        for image in seen
        if image[features.IDENTITY] == b"c"
    ]
    sizes = {"head": 1, "tail_images": 5, "tail_cameras": 1, "seed": seed}
    found, written, artifact = _rebalance(
        tmp_path, examples.ingested(tmp_path / "in", [*seen, *copies]), "carve", **sizes
    )
    cameras = {one["identity"]: one.get("cameras") for one in found["classes"]}
    assert _column(found, "images") == _column(found, "rows") == _rows(written) == {"a": 3, "b": 12, "c": 2}
    assert cameras["b"] is None and len(cameras["a"]) == len(cameras["c"]) == 1
    for identity in "ac":
        assert {row["camera"] for row in written if row["identity"] == identity} == set(cameras[identity])
    assert artifact.splits == ["train"]


def test_cameras_that_are_needed_and_unknown_are_refused_before_anything_is_written(tmp_path):
    seen = [examples.image(name, n, camera=-1 if n else 0) for name in "ab" for n in range(2)]
    with pytest.raises(errors.UsageError, match="tail_cameras: 1, but of 2 of 4 images to train on the camera"):
        _rebalance(tmp_path, examples.ingested(tmp_path / "in", seen), "carve", head=1, tail_images=1, tail_cameras=1)
    assert not (tmp_path / "examples" / "Split-train").exists()


def test_the_seed_chooses_the_images(rebalanced):
    chosen = []
    for seed in (0, 1):
        _, written, _ = rebalanced("carve", head=0, tail_images=3, seed=seed)
        chosen.append(frozenset(row["path"] for row in written))
    assert chosen[0] != chosen[1]


def test_repeat_evens_out_and_still_counts_distinct_images(rebalanced):
    found, written, _ = rebalanced("repeat", repeat_to=5)
    assert _rows(written) == {"a": 5, "b": 7, "c": 5, "d": 5}
    assert _column(found, "images") == _COUNTS
    copies = collections.Counter(row["path"] for row in written if row["identity"] == "d")
    assert sorted(copies.values()) == [1, 2, 2]


def test_an_identity_with_one_image_has_one_distinct_image_under_repeat(rebalanced):
    found, _, _ = rebalanced("repeat", repeat_to=5)
    assert (_column(found, "images")["c"], _column(found, "rows")["c"]) == (1, 5)


@pytest.fixture(scope="module")
def duplicated(tmp_path_factory):
    """Identity "a" has two images, one of them under three names; "b" has one."""
    train = [
        *(examples.image("a", n, content="the same") for n in (0, 1, 2)),
        examples.image("a", 3),
        examples.image("b", 0),
    ]
    return examples.ingested(str(tmp_path_factory.mktemp("dup") / "examples"), train)


def test_a_file_that_repeats_anothers_bytes_is_no_image_of_its_own(tmp_path, duplicated):
    found, written, _ = _rebalance(tmp_path, duplicated)
    assert _column(found, "images") == {"a": 2, "b": 1}
    assert _column(found, "rows") == _rows(written) == {"a": 2, "b": 1}


def test_a_cap_is_filled_with_distinct_images(tmp_path, duplicated):
    found, written, _ = _rebalance(tmp_path, duplicated, "cap", cap=2)
    assert _column(found, "images") == _rows(written) == {"a": 2, "b": 1}
    assert b"a/003.png" in {row["path"] for row in written}


def test_the_same_input_and_seed_give_the_same_bytes(tmp_path, long_tail, monkeypatch):
    monkeypatch.setattr(rows_lib, "SHARD_ROWS", 6)
    contents = []
    for run in ("one", "two"):
        _, _, artifact = _rebalance(tmp_path / run, long_tail, "repeat", repeat_to=6, seed=3)
        names = [os.path.basename(path) for path in _files(artifact)]
        contents.append([names, [pathlib.Path(path).read_bytes() for path in _files(artifact)]])
    assert contents[0] == contents[1]


def test_large_sets_are_spread_over_files_without_losing_a_row(tmp_path, long_tail, monkeypatch):
    monkeypatch.setattr(rows_lib, "SHARD_ROWS", 6)
    _, written, artifact = _rebalance(tmp_path, long_tail)
    assert _rows(written) == _COUNTS
    assert len(_files(artifact)) == 3


def test_the_identities_are_shuffled(tmp_path):
    source = examples.ingested(tmp_path / "in", _images({"a": 30, "b": 30}))
    _, written, _ = _rebalance(tmp_path, source)
    half = collections.Counter(row["identity"] for row in written[:30])
    assert min(half["a"], half["b"]) >= 8


def test_one_identity_alone_is_an_error(tmp_path):
    source = examples.ingested(tmp_path / "in", _images({"only": 4}))
    with pytest.raises(errors.WorkError, match=r"holds 1 identity \('only'\).*eval_fraction"):
        _rebalance(tmp_path, source)


def test_an_empty_train_split_is_an_error(tmp_path):
    source = examples.ingested(tmp_path / "in", [], _images({"a": 2}))
    with pytest.raises(errors.WorkError, match="holds 0"):
        _rebalance(tmp_path, source)


def test_a_span_whose_images_are_gone_is_named_with_their_folder(tmp_path):
    source = examples.ingested(tmp_path / "in", _images({"a": 2}))
    shutil.rmtree(tmp_path / "in" / "Split-train")
    with pytest.raises(errors.WorkError, match="span 1: its images are gone from .*/in/Split-train; put"):
        _rebalance(tmp_path, source)


@pytest.mark.parametrize(
    ("strategy", "sizes", "words"),
    [
        ("smote", {}, "strategy must be one of none, cap, repeat, carve, not 'smote'"),
        ("cap", {}, "rebalance.cap must be 1 or more with the strategy cap, not 0"),
        ("repeat", {"repeat_to": 0}, "rebalance.repeat_to must be 1 or more"),
        ("carve", {"head": -1, "tail_images": 4}, "rebalance.head must be .*, not -1"),
        ("carve", {"head": 1}, "rebalance.tail_images must be 1 or more"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_when_the_component_is_made(strategy, sizes, words):
    from tfx.types import channel

    window = channel.Channel(type=artifacts.SpanWindow)
    asked = dataclasses.asdict(config.Rebalance(strategy, **sizes))
    with pytest.raises(errors.UsageError, match=words):
        component.Rebalancer(window=window, **asked, leap_variant="none", head_threshold=10)


def test_a_carve_whose_tail_would_be_head_is_refused_where_the_step_runs_too(tmp_path, long_tail):
    with pytest.raises(errors.UsageError, match="rebalance.tail_images: 3 is more than leap.head_threshold=2"):
        _rebalance(tmp_path, long_tail, "carve", head=1, tail_images=3, head_threshold=2)


def test_a_vanilla_cloud_without_a_head_class_is_refused_before_a_row_is_written(tmp_path, long_tail):
    with pytest.raises(errors.UsageError, match="leap.head_threshold: 4 leaves .* no identity .* more than 4 images"):
        _rebalance(tmp_path, long_tail, "cap", cap=4, leap_variant="vanilla", head_threshold=4)
    assert not (tmp_path / "examples" / "Split-train").exists()


@pytest.mark.parametrize("variant", ["vanilla", "noise_head"])
def test_a_cloud_that_needs_a_head_class_is_refused_by_name_without_one(variant):
    with pytest.raises(errors.UsageError, match=f"leap.head_threshold: 5 leaves the {variant} cloud no head class"):
        census.check_cloud(census.plan({"a": (5, 5), "b": (3, 3)}, "none"), variant, 5)


@pytest.mark.parametrize(("variant", "threshold"), [("vanilla", 4), ("full", 5), ("noise_tail", 5), ("none", 5)])
def test_a_cloud_that_has_what_it_needs_is_not_refused(variant, threshold):
    census.check_cloud(census.plan({"a": (5, 5), "b": (3, 3)}, "none"), variant, threshold)


def test_a_carve_without_a_tail_is_refused():
    with pytest.raises(errors.UsageError, match="leaves no tail of 2 identities"):
        census.plan({"a": (5, 5), "b": (3, 3)}, "carve", head=2, tail_images=1)


@pytest.mark.parametrize(
    ("strategy", "sizes"), [("cap", {"cap": 4}), ("carve", {"tail_images": 4}), ("repeat", {"repeat_to": 2})]
)
def test_copies_of_a_file_fill_neither_a_cap_nor_a_cut(strategy, sizes):
    plan = census.plan({"a": (3, 5), "b": (1, 1)}, strategy, **sizes)
    assert _column(plan, "images") == _column(plan, "available") == {"a": 3, "b": 1}
    assert _column(plan, "rows")["a"] == 3


_MANY = strategies.dictionaries(
    strategies.text("abcdef", min_size=1), strategies.integers(1, 40), min_size=2, max_size=20
)


@hypothesis.given(counts=_MANY, data=strategies.data())
def test_carve_keeps_the_largest_whole_and_cuts_all_others_to_the_tail_size(counts, data):
    head = data.draw(strategies.integers(0, len(counts) - 1))
    size = data.draw(strategies.integers(1, 10))
    plan = census.plan({k: (n, n) for k, n in counts.items()}, "carve", head, size)
    kept = _column(plan, "images")
    assert all(kept[name] in (count, min(count, size)) for name, count in counts.items())
    ranked = sorted(counts.values(), reverse=True)
    assert sorted(kept.values()) == sorted([*ranked[:head], *(min(count, size) for count in ranked[head:])])


@hypothesis.given(counts=_MANY, data=strategies.data())
def test_tail_classes_keep_the_largest_of_the_others_and_leave_the_rest_out(counts, data):
    head = data.draw(strategies.integers(0, len(counts) - 1))
    tail = data.draw(strategies.integers(1, len(counts)))
    pairs = {k: (n, n) for k, n in counts.items()}
    whole = _column(census.plan(pairs, "carve", head, 3), "images")
    kept = _column(census.plan(pairs, "carve", head, 3, tail_classes=tail), "images")
    assert len(kept) == min(head + tail, len(counts)) and kept.items() <= whole.items()
    assert min(counts[name] for name in kept) >= max([counts[name] for name in counts.keys() - kept.keys()], default=0)


@hypothesis.given(counts=_MANY, target=strategies.integers(1, 50))
def test_repeat_never_loses_an_image_and_reaches_its_target(counts, target):
    plan = census.plan({k: (n, n) for k, n in counts.items()}, "repeat", repeat_to=target)
    for one in plan["classes"]:
        assert one["images"] == one["available"] == counts[one["identity"]]
        assert one["rows"] == max(one["images"], target)


@hypothesis.given(
    images=strategies.integers(1, 12),
    extra=strategies.integers(0, 20),
    seed=strategies.integers(0, 3),
)
def test_copies_of_a_class_differ_by_one_at_most(images, extra, seed):
    files = [(b"%d" % n, b"sha%d" % n, -1) for n in range(images)]
    plan = {"classes": {b"x": (0, images, images + extra, None)}, "shards": 1}
    copies = [number for _, number in rows_lib.choose((b"x", files), plan, seed)]
    assert sum(copies) == images + extra
    assert max(copies) - min(copies) <= 1


def test_a_run_over_the_remains_of_another_leaves_none_of_them(tmp_path, long_tail):
    for name in ("Split-train/data_tfrecord-00000-of-00009.gz", "partial/spool-dead"):
        (tmp_path / "examples" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "examples" / name).write_bytes(b"of an attempt that died")
    _, _, rebalanced = _rebalance(tmp_path, long_tail)
    assert [os.path.basename(file) for file in _files(rebalanced)] == ["data_tfrecord-00000-of-00001.gz"]
    assert os.listdir(rebalanced.uri) == ["Split-train"]
