"""Every public class and function of what trains and scores shows an example, and the example is true."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import augment
from longtail.models import backbones
from longtail.models import config
from longtail.models import feature_transfer
from longtail.models import head_tail
from longtail.models import heads
from longtail.models import leap
from longtail.models import losses
from longtail.models import metrics
from longtail.models import schedules
from longtail.models.metrics import retrieval

# Parts of a training, as those of models/training are: what they do shows in a whole one alone.
OF_A_TRAINING = {"alternation", "measured", "stages", "viewer"}


def modules():
    yield from (augment, backbones, head_tail, losses, schedules)
    for package in (feature_transfer, heads, leap, metrics):
        for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if package is not feature_transfer or found.name.rpartition(".")[2] not in OF_A_TRAINING:
                yield importlib.import_module(found.name)


def defined(module):
    """The public classes and functions that stand in a module itself, `tf.custom_gradient`'s among them."""
    for name, value in vars(module).items():
        if not name.startswith("_") and callable(value) and inspect.unwrap(value).__module__ == module.__name__:
            yield pytest.param(module, value, id=f"{module.__name__}.{name}".removeprefix("longtail.models."))


PUBLIC = [case for module in modules() for case in defined(module)]


@pytest.mark.parametrize("module, public", PUBLIC)
def test_the_example_of_a_docstring_is_true(module, public):
    own_name = module.__name__.rpartition(".")[2]
    names = {**vars(module), "np": np, "tf": tf, "config": config, "heads": heads, "retrieval": retrieval}
    names[own_name] = module
    example = doctest.DocTestParser().get_doctest(public.__doc__, names, own_name, inspect.getsourcefile(module), 0)
    assert "Example:" in public.__doc__ and example.examples, "shows no example"
    said = []
    with np.printoptions(precision=4, suppress=True):
        doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert not said, "".join(said)


def test_every_head_has_one():
    assert set(heads.HEADS.values()) <= {case.values[1] for case in PUBLIC}
