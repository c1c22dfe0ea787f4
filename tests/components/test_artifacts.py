"""Artifact types: Kubeflow's launcher takes the name of one apart at its one dot, and imports it."""

import inspect

import pytest
from tfx.types import artifact
from tfx.utils import import_utils

from longtail.components import artifacts

TYPES = [one for _, one in inspect.getmembers(artifacts, inspect.isclass) if issubclass(one, artifact.Artifact)]


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_a_types_name_is_a_package_of_one_word_and_where_it_is_imported_from(kind):
    assert f"longtail.{kind.__name__}" == kind.TYPE_NAME
    assert import_utils.import_class_by_path(kind.TYPE_NAME) is kind


def test_no_type_is_overlooked():
    assert {"Quarantine", "ClassCensus", "Gallery"} <= {kind.__name__ for kind in TYPES}
