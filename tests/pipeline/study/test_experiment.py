"""The study: what a method's name means, and that each one trains."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from longtail.components.data import glyph_source
from longtail.components.data import glyphs
from longtail.components.data import sources
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.models import heads
from longtail.models.metrics import metric
from longtail.models.training import classifier
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.study import carve
from longtail.pipeline.study import experiment
from longtail.pipeline.study import methods
from longtail.pipeline.study import table
from longtail.pipeline.study import tuning

SMALL = [
    "model.image=[12,12,1]",
    "model.dimension=16",
    "training.epochs=1",
    "training.batch=16",
    "leap.start_epoch=0",
    "leap.head_threshold=4",
    "training.images_per_class=2",
    "loss.name=balanced_softmax",
    "loss.beta=0.9",
]


@pytest.fixture(scope="module")
def recipe():
    return recipe_lib.load("omniglot_lt", SMALL)


def test_an_alias_is_a_head_and_its_cloud(recipe):
    method = methods.parse("leap-af:s=24", recipe.head)
    assert method.plain == "arcface:s=24" and method.head.scale == 24.0
    assert method.config(recipe, 3).leap.variant == "full" and method.config(recipe, 3).training.seed == 3


def test_additions_add_up_and_work_as_the_recipe_has_it(recipe):
    both = methods.parse("adaface+leap_v+class_balanced", recipe.head)
    assert both.plain == "adaface" and both.config(recipe, 0).loss == config_lib.Loss("class_balanced", beta=0.9)
    assert both.config(recipe, 0).leap.variant == "vanilla"
    assert methods.parse("leap-cv+class_balanced", recipe.head).added == ("leap_v", "class_balanced")


def test_a_plain_method_has_nothing_of_the_recipes_own_loss_and_cloud(recipe):
    plain = methods.parse("cosface", recipe.head).config(recipe, 0)
    assert (plain.loss.name, plain.leap.variant) == ("cross_entropy", "none")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cosface+leap_x", r"unknown 'leap_x' in 'cosface\+leap_x'"),
        ("leap-cv+leap_f", "exclude each other"),
        ("cosface+class_balanced+balanced_softmax", "exclude each other"),
        ("cosface+centre+centre", "exclude each other"),
        ("softmax:m=0.3", "softmax has no margin"),
        ("cosface+noise_all:gamma=0.9", r"cosface\+noise_all has no centre_momentum"),
        ("leap-cv+noise_all", "exclude each other"),
        ("cosface+closed", "closed changes a cloud; add one of leap_v"),
        ("cosface+noise_all+corrected", "corrected changes a cloud; add one of leap_v, leap_f"),
        ("cosface+directional+closed", "exclude each other|closed changes a cloud"),
        ("leap-cv+corrected:gamma=0.5", r"leap-cv\+corrected has no centre_momentum"),
        ("cosface:gamma=0.9", "cosface has no centre_momentum"),
        ("leap-cv:centre=1", "leap-cv has no centre_weight"),
        ("leap-cv:start=soon", "'soon' is no whole number"),
        ("leap-cv:s=8,s=9", "an option stands twice"),
        ("leap-cv:z=8", "unknown 'z'; write KEY=VALUE with s, m, start"),
        ("triplet:s=3", "triplet has no scale"),
    ],
)
def test_a_method_that_cannot_be_is_refused(recipe, text, said):
    with pytest.raises(errors.UsageError, match=said):
        methods.parse(text, recipe.head)


def test_settings_that_do_not_go_with_a_method_are_refused_with_its_name(recipe):
    odd = recipe_lib.load("omniglot_lt", [*SMALL, "training.images_per_class=0", "training.batch=30"])
    with pytest.raises(errors.UsageError, match="--methods: triplet: training.batch: 30 is not a multiple"):
        methods.parse("triplet", odd.head).config(odd, 0)


def test_options_of_cloud_and_training_are_the_recipes_keys(recipe):
    method = methods.parse("leap-cv:s=8,start=3,gamma=0.9,order=before,P=5,K=4,epochs=7", recipe.head)
    config = method.config(recipe, 0)
    leap = config.leap
    assert (leap.start_epoch, leap.centre_momentum, leap.angle_order, leap.images_kept) == (3, 0.9, "before", 5)
    assert (config.head.scale, config.training.images_per_class, config.training.epochs) == (8.0, 4, 7)
    assert method.plain == "cosface:s=8,K=4,epochs=7"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("leap-cv:gamma=1", "leap-cv:gamma=1: leap.centre_momentum must be a number from 0 to 0.999999"),
        ("leap-cv:order=then", "leap-cv:order=then: leap.angle_order must be one of after, before"),
        ("cosface:K=5", "cosface:K=5: training.batch: 16 is not a multiple of images_per_class=5"),
    ],
)
def test_an_option_that_cannot_be_is_refused_with_the_methods_name(recipe, text, said):
    with pytest.raises(errors.UsageError, match=f"--methods: {said}"):
        methods.parse(text, recipe.head).config(recipe, 0)


def test_controls_and_rivals_take_options_of_their_own(recipe):
    noise = methods.parse("cosface+noise_tail:s=8,width=0.2,start=4", recipe.head)
    assert noise.options == {"s": 8.0, "width": 0.2, "start": 4} and noise.plain == "cosface:s=8"
    config = methods.parse("cosface+directional:strength=2,power=0.5", recipe.head).config(recipe, 0)
    assert (config.leap.variant, config.leap.strength, config.leap.size_power) == ("directional", 2.0, 0.5)
    cloud = classifier.build_classifier(config, np.array([20, 4]), steps_per_epoch=1).head.cloud
    assert (cloud.strength, cloud.size_power) == (2.0, 0.5)
    assert methods.parse("cosface+noise_all+closed", recipe.head).config(recipe, 0).leap.form == "closed"
    assert methods.parse("leap-cv+corrected", recipe.head).config(recipe, 0).leap.statistics == "corrected"


def test_a_method_has_one_name_however_its_options_are_ordered(recipe):
    assert methods.parse("cosface:m=0.3,s=8.0", recipe.head).name == "cosface:s=8,m=0.3"


def test_the_recipes_own_head_keeps_its_scale(recipe):
    tuned = recipe_lib.load("omniglot_lt", [*SMALL, "head.scale=11"])
    assert methods.parse("leap-av", tuned.head).head.scale == 11.0


def test_a_cloud_for_a_head_without_angles_is_refused_before_anything_is_read(recipe):
    with pytest.raises(errors.UsageError, match="no angles for a cloud"):
        methods.parse("softmax+leap_v", recipe.head).config(recipe, 0)


@pytest.mark.parametrize(
    ("recipe_name", "text", "said"),
    [
        ("omniglot_lt", "softmax+ftl", "ftl needs the rich features of a filter; .* --set model.filter=true"),
        ("omniglot_lt", "softmax+reconstruction", "reconstruction needs the rich features of a filter"),
        ("omniglot_lt", "cosface+m_l2", "m_l2 has m-L2, which logits of cosines cannot have; add it to softmax"),
        ("ftl_omniglot", "curricularface+crt", "crt has m-L2, which logits of cosines cannot have; add it to softmax"),
        ("ftl_omniglot", "softmax+ftl+centre", "stages 1 have no centre loss; leave out centre"),
    ],
)
def test_an_addition_without_what_it_is_about_is_refused_in_words_of_the_study(recipe_name, text, said):
    own = recipe_lib.load(recipe_name)
    with pytest.raises(errors.UsageError, match=f"^--methods: .*: {said}"):
        methods.parse(text, own.head).config(own, 0)


def test_a_head_that_is_added_is_a_method_with_its_own_start(recipe, monkeypatch):
    own = type("Own", (heads.CosFace,), {"START": heads.Start(12.0, 0.1)})
    monkeypatch.setitem(heads.HEADS, "own", own)
    method = methods.parse("own+leap_v:m=0.3", recipe.head)
    assert (method.head.name, method.head.scale, method.head.margin) == ("own", 12.0, 0.3)
    assert "own" in methods.names()


@pytest.mark.parametrize("name", heads.HEADS)
def test_every_heads_start_is_one_that_a_training_takes(recipe, name):
    assert methods.parse(name, config_lib.Head("none of them")).config(recipe, 0).head.name == name


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("H6", "'H6' is not H<head identities>S<tail images>"),
        ("H6S5", "H6S5: rebalance.tail_images: 5 is more than leap.head_threshold=4"),
        ("H6S0", "H6S0: rebalance.tail_images must be 1 or more"),
        ("H6TS3", "'H6TS3' is not H<head identities>S<tail images>"),
        ("H1T0S3", "H1T0S3: training needs two identities or more"),
    ],
)
def test_a_carve_that_cannot_be_is_refused(recipe, setting, said):
    with pytest.raises(errors.UsageError, match=f"--settings: {said}"):
        carve.parse(setting, recipe)


def _study(recipe, folder, names, *settings, **more):
    if not (folder / "d").exists():
        glyph_source.write_folder(glyphs.GlyphSet(24, 6, 8, 4, 16, 0), 1, str(folder / "d"))
    return experiment.study(recipe, str(folder / "d"), settings, names, 1, str(folder / "s.json"), **more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, recipe):
    """The folder of a study of one training."""
    folder = tmp_path_factory.mktemp("finished")
    _study(recipe, folder, ["cosface"], "H6S3")
    return folder


def test_head_and_tail_of_a_study_are_by_the_threshold_and_not_by_the_carve(tmp_path):
    # With T = 8 nobody of those kept whole, 8 images each, is head.
    nobody = recipe_lib.load("omniglot_lt", [*SMALL, "leap.head_threshold=8"])
    found = _study(nobody, tmp_path, ["cosface"], "H6S3")
    [row] = found["summary"]
    assert row["head_variance"] is None and row["tail_variance"] > 0.0
    assert "head: trained identities with more than 8 images" in table.caption(found["head_threshold"], "retrieval")
    assert list(table.render([row])[-1].columns[2].cells) == ["-"]


def test_a_metric_that_is_added_is_in_runs_summary_and_table(tmp_path, recipe, monkeypatch):
    extra = metric.Metric("late", "Late", lambda scores: scores.first > 1, unit="", format=".3f")
    monkeypatch.setattr(metric, "METRICS", (*metric.METRICS, extra))
    found = _study(recipe, tmp_path, ["cosface"], "H6S3")
    [row], [run] = found["summary"], found["runs"]
    assert row["late"] == run["late"] == pytest.approx(1.0 - run["rank1"])
    columns = {column.header: list(column.cells) for column in table.render([row])[0].columns}
    assert columns["Late"] == [f"{row['late']:.3f}"]
    assert list(columns)[2:] == [
        *(each.title for each in metric.METRICS), "mAP, % over its plain head", "mAP, % over the best plain head"
    ]  # fmt: skip


def test_a_study_with_other_metrics_is_another_study(finished, recipe, monkeypatch):
    monkeypatch.setattr(metric, "METRICS", metric.METRICS[:2])
    with pytest.raises(errors.UsageError, match="holds another study"):
        _study(recipe, finished, ["cosface"], "H6S3")


@pytest.fixture
def eagerly():
    """Nothing is traced: a training of few steps takes half as long."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


def test_every_method_trains_and_is_scored_and_paired(tmp_path, recipe, eagerly):
    added = [f"cosface+{name}" for name in ("leap_f", "class_balanced", "balanced_softmax", "centre")]
    names = [*methods.names(), *added]
    found = _study(recipe, tmp_path, names, "H6S3")
    assert [row["method"] for row in found["summary"]] == names
    assert all(0.0 < row["mAP"] <= 1.0 for row in found["summary"])
    paired = {row["method"] for row in found["summary"] if row["paired_mAP"] is not None}
    assert paired == {*methods.ALIASES, *added}
    assert len({round(row["mAP"], 9) for row in found["summary"]}) > len(names) // 2
    assert np.isfinite([row["test_variance"] for row in found["summary"]]).all()


def test_a_method_is_trained_at_every_combination_of_the_options_it_has_and_does_not_state(recipe):
    grid = tuning.parse(["s=4,16", "m=0.1,0.3", "gamma=0.9"])
    combinations = {
        name: [each.name for each in tuning.candidates(methods.parse(name, recipe.head), grid)]
        for name in ("cosface", "leap-cv:m=0.2", "softmax")
    }
    assert combinations == {
        "cosface": ["cosface:s=4,m=0.1", "cosface:s=4,m=0.3", "cosface:s=16,m=0.1", "cosface:s=16,m=0.3"],
        "leap-cv:m=0.2": ["leap-cv:s=4,m=0.2,gamma=0.9", "leap-cv:s=16,m=0.2,gamma=0.9"],
        "softmax": ["softmax"],
    }


def test_a_line_of_one_method_stands_instead_of_those_for_all(recipe):
    grid = tuning.parse(["s=4,16", "cosface+directional:s=8", "cosface+directional:strength=1,2"])
    combinations = {
        name: [each.name for each in tuning.candidates(methods.parse(name, recipe.head), grid)]
        for name in ("cosface", "cosface+directional", "arcface+directional")
    }
    assert combinations == {
        "cosface": ["cosface:s=4", "cosface:s=16"],
        "cosface+directional": ["cosface+directional:s=8,strength=1", "cosface+directional:s=8,strength=2"],
        "arcface+directional": ["arcface+directional:s=4", "arcface+directional:s=16"],
    }


def test_across_cameras_the_same_model_finds_less_than_where_a_camera_may_answer_itself(tmp_path):
    data, by_protocol = "glyphs:identities=24,head=24,head_images=12,size=20,cameras=3", {}
    for name in ("reid", "retrieval"):
        recipe = recipe_lib.load("glyphs_cameras", [*SMALL, f"evaluation.protocol={name}"])
        by_protocol[name] = experiment.study(recipe, data, ["H3S3"], ["cosface"], 1, str(tmp_path / name))
    across, within = (found["runs"][0] for found in by_protocol.values())
    assert [found["protocol"] for found in by_protocol.values()] == ["reid", "retrieval"]
    assert across["identity_queries"] == within["identity_queries"] and across["mAP"] < within["mAP"]


def test_a_tail_of_one_camera_keeps_as_many_images_all_of_it(tmp_path):
    source = sources.open_source("glyphs:identities=8,head=8,head_images=12,cameras=3", "folder", r"_c(\d+)\.png$")
    loaded = carve.Images.load(source, dict.fromkeys({i.identity for i in source.items()}, "training"), 10**6, "--data")
    camera_of = dict(zip(loaded.encoded.tolist(), loaded.cameras.tolist(), strict=True))
    kept, _ = loaded.carve(carve.Setting(2, 3), seed=0, tail_cameras=1)
    assert sorted(kept.counts) == [3] * 6 + [12] * 2
    # Of four images a camera there is no more to cut away, and still they are of one camera.
    assert sorted(loaded.carve(carve.Setting(2, 4), seed=0, tail_cameras=1)[0].counts) == [4] * 6 + [12] * 2
    uneven = loaded.of("training")
    uneven = carve.Images(*(getattr(uneven, field.name)[9:] for field in dataclasses.fields(uneven)))
    first, _ = uneven.carve(carve.Setting(2, 3), seed=0, tail_cameras=1)
    assert sorted(first.counts)[0] == 1
    seen = [{camera_of[image] for image in kept.encoded[kept.class_ids == c].tolist()} for c in range(8)]
    assert [len(cameras) for cameras in seen] == [3 if images == 12 else 1 for images in kept.counts]
    assert len(set.union(*(cameras for cameras in seen if len(cameras) == 1))) > 1


def test_a_carve_of_fewer_tail_identities_has_the_same_head_and_some_of_the_same_tail():
    source = sources.open_source("glyphs:identities=9,head=9,head_images=6", "folder", "")
    loaded = carve.Images.load(source, dict.fromkeys({i.identity for i in source.items()}, "training"), 10**6, "--data")
    (whole, every), (some, names), (head, alone) = (
        loaded.carve(carve.Setting(2, 3, others), seed=0) for others in (None, 4, 0)
    )
    of_head = [{name for name, images in zip(*found, strict=True) if images == 6} for found in
               ((every, whole.counts), (names, some.counts), (alone, head.counts))]  # fmt: skip
    assert of_head[0] == of_head[1] == of_head[2] == set(alone) and len(alone) == 2
    assert set(names) < set(every) and names == sorted(names) and sorted(some.counts) == [3] * 4 + [6] * 2
    assert set(some.encoded) < set(whole.encoded) and some.class_ids.max() == 5


def test_closed_set_figures_of_fewer_tail_identities_are_of_those_alone(tmp_path, recipe):
    found = _study(recipe, tmp_path, ["softmax"], "H3T0S3", "H3T2S3", against="softmax")
    head_alone, two = found["runs"]
    assert "tail" not in head_alone["closed"] and head_alone["images"] < two["images"]
    assert 0 < two["closed"]["tail"]["images"] <= 2 * (8 - 3)  # of the two, not of all that were left out
    assert found["summary"][0]["against_mAP"] is None


def test_a_difference_of_closed_set_shares_has_students_interval_over_seeds():
    settings = {"setting": "H1S1", "values": {}, "trainings": 0}
    chosen = [{**settings, "method": name, "trained": name} for name in ("softmax", "softmax+ftl")]
    runs = [
        {
            **{"setting": "H1S1", "method": name, "seed": seed, "seconds": 1.0, "further": {}, "mAP": 0.5},
            **dict.fromkeys(("head_variance", "tail_variance", "head_variance_equal_n"), 0.0),
            **dict.fromkeys(("tail_variance_equal_n", "test_variance"), 0.0),
            **{"identity_mAP": [0.5, 0.5], "identity_queries": [1, 1], "closed": {"tail": {"nearest": share}}},
        }
        for name, shares in (("softmax", (0.50, 0.52, 0.54)), ("softmax+ftl", (0.51, 0.54, 0.57)))
        for seed, share in enumerate(shares)
    ]
    named = {name: methods.parse(name, config_lib.Head("softmax", 1.0, 0.0)) for name in ("softmax", "softmax+ftl")}
    _, row = table.summarise(runs, chosen, named, against="softmax")
    (found,) = row["closed_against"].values()
    half = stats.t.ppf(0.975, 2) * 0.01 / np.sqrt(3)
    np.testing.assert_allclose([found["difference"], *found["interval"]], [0.02, 0.02 - half, 0.02 + half], atol=1e-9)
    rendered = table.render([row], "softmax")[1]
    assert "54.00, +2.0 (-0.5 to +4.5)" in [next(iter(column.cells)) for column in rendered.columns]


def test_a_method_is_compared_with_the_one_that_is_named(tmp_path, recipe):
    found = _study(recipe, tmp_path, ["softmax", "cosface"], "H6S3", against="softmax")
    softmax, cosface = found["summary"]
    assert softmax["against_mAP"] is None and cosface["against_mAP"] == cosface["mAP"] - softmax["mAP"]
    by, key = cosface["closed_against"], "tail_nearest"
    assert softmax["closed_against"] == {} and by[key]["interval"] is None
    assert by[key]["difference"] == pytest.approx(cosface["closed"][key] - softmax["closed"][key])
    with pytest.raises(errors.UsageError, match="--against: no method 'arcface' among --methods; one of softmax, cosf"):
        _study(recipe, tmp_path, ["softmax", "cosface"], "H6S3", against="arcface")


def test_a_tuned_study_chooses_on_validation_warns_of_unequal_budgets_and_goes_on_where_it_was(
    tmp_path, recipe, caplog
):
    names = ["cosface", "softmax"]
    found = _study(recipe, tmp_path, names, "H6S3", tune=["s=4,16"])
    assert "different numbers of settings (cosface 2, softmax 1)" in caplog.text
    assert {choice["method"]: choice["trainings"] for choice in found["chosen"]} == {"cosface": 2, "softmax": 0}
    for choice, row in zip(found["chosen"], found["summary"], strict=True):
        best = max(choice["validation"], key=choice["validation"].get, default="softmax")
        assert choice["trained"] == best and row["values"] == choice["values"]
    assert [run["method"] for run in found["runs"]] == [choice["trained"] for choice in found["chosen"]]
    scored = {run["method"]: run["mAP"] for run in found["tuning"]}
    assert scored[found["chosen"][0]["trained"]] != found["runs"][0]["mAP"]
    caplog.set_level("INFO", "longtail")
    caplog.clear()
    wider = _study(recipe, tmp_path, names, "H6S3", tune=["s=4,16,8"])
    trained = [record.message for record in caplog.records if record.message.endswith("seed 0")]
    assert set(trained) == {"H6S3 cosface:s=8 seed 0"} and len(wider["tuning"]) == 3
    assert len(trained) == 1 + len(wider["runs"]) - len(found["runs"])
    assert "trainings to choose" in [column.header for column in table.render(wider["summary"])[0].columns]


def test_a_candidate_that_diverges_counts_as_the_worst_and_the_study_goes_on(tmp_path, caplog):
    steep = recipe_lib.load("omniglot_lt", [*SMALL, "training.optimizer=sgd", "training.rate=0.1"])
    found = _study(steep, tmp_path, ["softmax+centre"], "H6S3", tune=["centre=1e6,1e-3"])
    [choice], failed = found["chosen"], [run for run in found["tuning"] if "failed" in run]
    assert choice["values"] == {"centre": 0.001} and [run["mAP"] for run in failed] == [0.0]
    assert "weights are not finite" in failed[0]["failed"] and "it counts as the worst" in caplog.text


def test_a_final_training_that_diverges_is_told_of_after_all_others(tmp_path):
    steep = recipe_lib.load("omniglot_lt", [*SMALL, "training.optimizer=sgd", "training.rate=0.1"])
    with pytest.raises(errors.WorkError, match="^--methods: H6S3 softmax.centre:centre=1000000 seed 0 diverged; "):
        _study(steep, tmp_path, ["softmax+centre:centre=1e6", "softmax"], "H6S3")
    assert [row["method"] for row in _study(steep, tmp_path, ["softmax"], "H6S3")["summary"]] == ["softmax"]


def test_final_models_are_scored_on_further_data_without_the_identities_of_the_study(tmp_path, recipe):
    glyph_source.write_folder(glyphs.GlyphSet(30, 6, 8, 4, 16, 0), 1, str(tmp_path / "more"))
    found = _study(recipe, tmp_path, ["cosface", "leap-cv"], "H6S3", score=[f"more={tmp_path / 'more'}"])
    [plain, cloud] = found["runs"]
    assert len(plain["further"]["more"]["identity_mAP"]) == 6
    row = found["summary"][1]["further"]["more"]
    assert row["paired_mAP"] == cloud["further"]["more"]["mAP"] - plain["further"]["more"]["mAP"]
    assert row["paired_interval"][0] <= row["paired_mAP"] <= row["paired_interval"][1]
    titles = [one.title for one in table.render(found["summary"])]
    assert titles == ["test identities", "more", "trained identities, new images", "angular variance, rad²"]


def test_weights_make_the_intervals_centre_the_difference_of_map(finished):
    [run] = json.loads((finished / "s.json").read_text())["runs"]
    assert np.average(run["identity_mAP"], weights=run["identity_queries"]) == pytest.approx(run["mAP"], abs=1e-6)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tune": ["z=3"]}, "--tune 'z=3': unknown 'z'; write KEY=VALUE"),
        ({"tune": ["gamma=0.5"]}, "--tune: no method has 'gamma' left to choose"),
        ({"tune": ["s=4,x"]}, "--tune 's=4,x': 'x' is no number"),
        ({"tune": ["s"]}, "--tune 's': write KEY=VALUE,VALUE,... or METHOD:KEY=VALUE"),
        ({"tune": ["arcface:s=4"]}, "--tune: 'arcface' is not among --methods"),
        ({"tune": ["cosface:gamma=0.5"]}, "--tune: cosface has no 'gamma' left to choose"),
        ({"tune": ["s=4", "s=8"]}, "--tune 's=8': s is given twice"),
        ({"tune": ["s=4,-1"]}, "--tune: cosface:s=-1: head.scale must be a number from 1e-06 to 1000000, not -1.0"),
        ({"tune_seeds": 0}, "--tune-seeds 0: at least 1"),
        ({"score": ["faces"]}, "--score 'faces': write NAME=PATH"),
        ({"score": ["faces=/nowhere"]}, "--score faces: .*/nowhere"),
        ({"settings": "H40S3"}, "--settings: H40S3 of 14 training identities leaves no tail"),
    ],
)
def test_what_cannot_be_is_refused_before_any_image_is_read(tmp_path, recipe, monkeypatch, more, said):
    monkeypatch.setattr(carve.Images, "load", None)
    with pytest.raises(errors.UsageError, match=said):
        _study(recipe, tmp_path, ["cosface"], more.pop("settings", "H6S3"), **more)


def test_a_cloud_that_asks_for_a_head_class_is_refused_where_there_is_none(tmp_path):
    nobody = recipe_lib.load("omniglot_lt", [*SMALL, "leap.head_threshold=8"])
    with pytest.raises(errors.UsageError, match="--methods: leap-cv on H6S3: leap.head_threshold: 8 leaves"):
        _study(nobody, tmp_path, ["leap-cv"], "H6S3")


def test_further_data_without_an_unseen_identity_is_refused(tmp_path, recipe):
    with pytest.raises(errors.UsageError, match="--score same, not in --data: 0 identities with two images"):
        _study(recipe, tmp_path, ["cosface"], "H6S3", score=[f"same={tmp_path / 'd'}"])
