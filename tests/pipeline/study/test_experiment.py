"""The study: what a method's name means, and that each one trains."""

import numpy as np
import pytest

from longtail.components.data import glyph_source
from longtail.components.data import glyphs
from longtail.models import config as config_lib
from longtail.models import errors
from longtail.pipeline import recipe as recipe_lib
from longtail.pipeline.study import experiment

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
    method = experiment.parse_method("leap-af:s=24", recipe.head)
    assert method.plain == "arcface:s=24" and method.head.scale == 24.0
    assert method.config(recipe, 3).leap.variant == "full" and method.config(recipe, 3).training.seed == 3


def test_additions_add_up_and_work_as_the_recipe_has_it(recipe):
    both = experiment.parse_method("adaface+leap_v+class_balanced", recipe.head)
    assert both.plain == "adaface" and both.config(recipe, 0).loss == config_lib.Loss("class_balanced", beta=0.9)
    assert both.config(recipe, 0).leap.variant == "vanilla"
    assert experiment.parse_method("leap-cv+class_balanced", recipe.head).added == ("leap_v", "class_balanced")


def test_a_plain_method_has_nothing_of_the_recipes_own_loss_and_cloud(recipe):
    plain = experiment.parse_method("cosface", recipe.head).config(recipe, 0)
    assert (plain.loss.name, plain.leap.variant) == ("cross_entropy", "none")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cosface+leap_x", r"unknown 'leap_x' in 'cosface\+leap_x'"),
        ("leap-cv+leap_f", "exclude each other"),
        ("cosface+class_balanced+balanced_softmax", "exclude each other"),
        ("cosface+centre+centre", "exclude each other"),
        ("softmax:m=0.3", "softmax has no margin"),
        ("triplet:s=3", "triplet has no scale"),
    ],
)
def test_a_method_that_cannot_be_is_refused(recipe, text, said):
    with pytest.raises(errors.UsageError, match=said):
        experiment.parse_method(text, recipe.head)


def test_settings_that_do_not_go_with_a_method_are_refused_with_its_name(recipe):
    odd = recipe_lib.load("omniglot_lt", [*SMALL, "training.images_per_class=0", "training.batch=30"])
    with pytest.raises(errors.UsageError, match="--methods: triplet: training.batch: 30 is not a multiple"):
        experiment.parse_method("triplet", odd.head).config(odd, 0)


def test_the_recipes_own_head_keeps_its_scale(recipe):
    tuned = recipe_lib.load("omniglot_lt", [*SMALL, "head.scale=11"])
    assert experiment.parse_method("leap-cv", tuned.head).head.scale == 11.0


def test_a_cloud_for_a_head_without_angles_is_refused_before_anything_is_read(recipe):
    with pytest.raises(errors.UsageError, match="no angles for a cloud"):
        experiment.parse_method("softmax+leap_v", recipe.head).config(recipe, 0)


def test_every_method_trains_and_is_scored_and_paired(tmp_path, recipe):
    glyph_source.write_folder(glyphs.GlyphSet(24, 6, 8, 4, 16, 0), 1, str(tmp_path / "d"))
    added = [f"cosface+{name}" for name in ("leap_f", "class_balanced", "balanced_softmax", "centre")]
    methods = [*experiment.METHODS, *added]
    found = experiment.study(recipe, str(tmp_path / "d"), ["H6S3"], methods, 1, str(tmp_path / "s.json"))
    assert [row["method"] for row in found["summary"]] == methods
    assert all(0.0 < row["mAP"] <= 1.0 for row in found["summary"])
    paired = {row["method"] for row in found["summary"] if row["paired_mAP"] is not None}
    assert paired == {*experiment.ALIASES, *added}
    assert len({round(row["mAP"], 9) for row in found["summary"]}) > len(methods) // 2
    assert np.isfinite([row["held_out_variance"] for row in found["summary"]]).all()
