"""One rule for head and tail."""

from longtail.models import head_tail
from longtail.models.leap import angle_memory


def test_the_cloud_divides_by_the_rule():
    counts = [9, 10, 11, 40]
    memory = angle_memory.AngleMemory(counts, head_threshold=10)
    memory.build([None, 2])
    assert memory.is_head.numpy().tolist() == head_tail.is_head(counts, 10).tolist() == [False, False, True, True]
