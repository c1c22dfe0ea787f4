"""What the tests of loading share: the smallest model, which loads at once."""

import pathlib

import pytest
import tensorflow as tf

from tests.serving import conftest
from tests.serving.conformance import model_zoo


@pytest.fixture(scope="session")
def affine_saved_model(tmp_path_factory):
    """Version folders of a x + b, whose b is the version: 1, 2 and 3."""
    folder = tmp_path_factory.mktemp("affine")
    for version in (1, 2, 3):
        affine = model_zoo.Affine(0.5, float(version))
        tf.saved_model.save(affine, str(folder / str(version)), signatures=affine.__call__)
    return folder


@pytest.fixture
def push_affine(affine_saved_model, tmp_path):
    """push(model, version): pushes that version into folder `model`; returns the folder."""

    def push(model: str, version: int) -> pathlib.Path:
        (tmp_path / model).mkdir(exist_ok=True)
        conftest.push(affine_saved_model / str(version), tmp_path / model, version)
        return tmp_path / model

    return push
