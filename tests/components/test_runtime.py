"""What is known only when a run starts: values left open, and folders named after the model."""

import dataclasses
import json

import pytest
from tfx.orchestration import data_types

from longtail.components import runtime
from longtail.components.trainer import executor as trainer
from longtail.models import config
from longtail.models import errors
from longtail.models import settings

CONFIG = json.dumps(dataclasses.asdict(config.TrainConfig()), sort_keys=True)


def test_the_models_name_stands_where_it_is_asked_for():
    assert runtime.folder("gs://b/models/{MODEL}", "glyphs") == "gs://b/models/glyphs"
    assert runtime.folder("/models", "") == "/models"


@pytest.mark.parametrize("name", ["", "../other", "a/b", ".hidden", "a\\b"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(name):
    with pytest.raises(errors.UsageError, match="is no name of a folder"):
        runtime.folder("gs://b/models/{MODEL}", name)


def test_a_value_that_is_left_open_is_left_as_it_is():
    parameter = data_types.RuntimeParameter("p", float, 1.0)
    assert runtime.number(float, parameter) is parameter and runtime.number(float, 1) == 1.0
    assert runtime.known(1, "a") and not runtime.known(1, parameter)


def test_settings_are_completed_when_a_training_starts():
    given = {"head_scale": 16.0, "training_epochs": 3, "augment_flip": 1, "run_fn": "f", "leap_variant": None}
    completed = settings.read(config.TrainConfig, json.loads(trainer.complete(CONFIG, given)), "test")
    assert (completed.head.scale, completed.training.epochs, completed.augment.flip) == (16.0, 3, True)
    assert completed.head.margin == config.Head().margin


def test_where_nothing_was_left_open_settings_stay_the_text_they_are():
    assert trainer.complete(CONFIG, {"run_fn": "longtail.models.training.loop.run_fn"}) == CONFIG


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"training_epochs": "many"}, "training.epochs must be a whole number from 1 to 1000000000, not 'many'"),
        ({"augment_flip": 2}, "augment.flip must be 0 or 1, not 2"),
    ],
)
def test_a_wrong_value_is_refused_as_a_recipes_is(given, why):
    with pytest.raises(errors.UsageError) as caught:
        trainer.complete(CONFIG, given)
    assert str(caught.value) == f"runtime parameters: {why}"


def test_a_value_that_the_recipes_check_would_refuse_is_refused_when_a_training_starts():
    with pytest.raises(errors.UsageError, match="head.margin must be a number from 0 to 1.6, not 3.0"):
        trainer.complete(CONFIG, {"head_margin": 3.0})
