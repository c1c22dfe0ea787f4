"""What a training says of itself: its steps before it starts, a line an epoch, and every step to whoever watches."""

import logging
import re

import pytest
import tensorflow as tf

from longtail.models.export import preprocess
from longtail.models.training import loop
from longtail.models.training import position
from tests.models.training import test_loop

DECODE = preprocess.Preprocess(test_loop.SHAPE)


class Lines(logging.Handler):
    """Keeps what longtail's own log says while the block runs."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.lines = []

    def emit(self, record):
        self.lines.append((record.levelname, record.getMessage()))

    def __enter__(self):
        log = logging.getLogger("longtail")
        self._level = log.level
        log.setLevel(logging.INFO)
        log.addHandler(self)
        return self

    def __exit__(self, *exception):
        log = logging.getLogger("longtail")
        log.removeHandler(self)
        log.setLevel(self._level)


class Interrupted(tf.keras.callbacks.Callback):
    """Ends a training as it begins an epoch, its second one unless told otherwise."""

    def __init__(self, epoch=1):
        super().__init__()
        self._epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self._epoch:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What a training of 3 epochs of 4 steps that goes on after its first one says, and what watchers are told."""
    folder = str(tmp_path_factory.mktemp("checkpoints"))
    settings, seen = test_loop.config(training={"epochs": 3}), []
    with pytest.raises(KeyboardInterrupt):
        loop.train(settings, test_loop.data(), DECODE, folder, [Interrupted()])
    with Lines() as said, position.watched(seen.append):
        loop.train(settings, test_loop.data(), DECODE, folder)
    return said.lines, seen


def test_steps_of_an_epoch_and_of_all_are_said_before_the_first_and_few_are_warned_of(trained):
    lines, _ = trained
    assert lines[0] == ("INFO", "4 steps an epoch, 12 in all, of 8 images each")
    assert lines[1][0] == "WARNING" and lines[1][1].startswith("12 steps in all: too few to learn from; raise")
    assert lines[2] == ("INFO", "going on after epoch 1 of 3")


def test_each_epoch_but_the_last_says_how_long_the_others_will_take(trained):
    epochs = [line for _, line in trained[0] if line.startswith("epoch")]
    assert re.match(r"epoch 2/3  step 8/12  loss .* images/s  \d+ s left", epochs[0])
    assert re.match(r"epoch 3/3  step 12/12  loss .* images/s", epochs[1]) and "left" not in epochs[1]


def test_every_step_of_a_resumed_training_is_told_and_its_end(trained):
    found = [(one.done, one.step) for one in trained[1]]
    assert found == [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (3, 0)]
    assert {(one.epochs, one.steps) for one in trained[1]} == {(3, 4)}


def test_a_training_of_many_steps_is_not_warned_of(caplog):
    settings = test_loop.config(training={"epochs": 75})
    with caplog.at_level(logging.INFO, "longtail"), pytest.raises(KeyboardInterrupt):
        loop.train(settings, test_loop.data(), DECODE, None, [Interrupted(0)])
    assert "4 steps an epoch, 300 in all, of 8 images each" in caplog.messages
    assert not any("too few" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (5400, "1 h 30 min"), (86400, "24 h 00 min")]
)
def test_times_are_as_people_say_them(seconds, said):
    assert position.duration(seconds) == said
