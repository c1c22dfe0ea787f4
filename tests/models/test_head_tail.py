"""One rule for head and tail, and examples in docstrings that give what they say."""

import doctest

import pytest

from longtail.models import head_tail
from longtail.models.leap import angle_memory
from longtail.models.metrics import angular
from longtail.models.metrics import metric
from longtail.models.metrics import protocols
from longtail.models.metrics import retrieval


def test_the_cloud_divides_by_the_rule():
    counts = [9, 10, 11, 40]
    memory = angle_memory.AngleMemory(counts, head_threshold=10)
    memory.build([None, 2])
    assert memory.is_head.numpy().tolist() == head_tail.is_head(counts, 10).tolist() == [False, False, True, True]


@pytest.mark.parametrize("module", [head_tail, angular, metric, protocols, retrieval])
def test_examples_in_docstrings_hold(module):
    failed, tried = doctest.testmod(module)
    assert tried and not failed
