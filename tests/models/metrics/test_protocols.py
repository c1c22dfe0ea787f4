"""The names of protocols: each means one thing, and another name is refused with the nearest."""

import pytest

from longtail.models import errors
from longtail.models.metrics import protocols


@pytest.mark.parametrize(
    ("name", "divided", "cross_camera"),
    [("retrieval", False, False), ("query_gallery", True, False), ("reid", True, True)],
)
def test_a_name_is_one_way_to_rank(name, divided, cross_camera):
    found = protocols.find(name, "--protocol")
    assert (found.name, found.divided, found.cross_camera) == (name, divided, cross_camera)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("leave_one_out", "did you mean 'retrieval'?"),
        ("retreival", "did you mean 'retrieval'?"),
        ("re-id", "did you mean 'reid'?"),
        ("verification", "one of retrieval, query_gallery, reid"),
    ],
)
def test_another_name_is_refused_with_the_nearest(name, hint):
    with pytest.raises(errors.UsageError) as caught:
        protocols.find(name, "evaluation.protocol")
    assert str(caught.value) == f"evaluation.protocol: unknown {name!r}; {hint}"
