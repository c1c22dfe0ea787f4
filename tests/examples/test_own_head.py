"""The head that a reader is shown: its logits are its equation, and it trains."""

import numpy as np
import pytest
import tensorflow as tf

from examples import own_head
from longtail.models import heads


@pytest.fixture(autouse=True)
def _names_of_the_house_alone(monkeypatch):
    monkeypatch.setattr(heads, "HEADS", dict(heads.HEADS))


def test_the_target_has_both_margins_and_the_others_none():
    head = own_head.BothMargins(2, scale=10.0, margin=np.pi / 6, options={"additive": 0.2})
    head.build([(1, 2), (1,)])
    head.set_weights([np.eye(2)])
    logits = head((tf.constant([[1.0, 3.0**0.5]]), tf.constant([0])), training=True).numpy()
    np.testing.assert_allclose(logits, [[10.0 * (0.0 - 0.2), 10.0 * 3.0**0.5 / 2.0]], atol=1e-5)  # 60 + 30 degrees


def test_it_learns_to_rank_characters_it_has_not_seen():
    one_epoch, six = own_head.main(epochs=1), own_head.main(epochs=6)
    assert six["mAP"] > one_epoch["mAP"] + 0.05
