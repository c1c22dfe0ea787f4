"""What is measured of a training set: here which of its images a centre is of."""

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import config
from longtail.models.feature_transfer import measured
from longtail.models.training import data as training_data

# Of the first class one image is turned away; of the second both are.
YAW = np.array([0.0, 60.0, -60.0, 80.0])


@pytest.mark.parametrize(("yaw", "centres"), [(YAW, [1.0, 6.0]), (None, [2.0, 6.0]), (YAW * np.nan, [2.0, 6.0])])
def test_a_centre_is_of_the_images_that_are_not_turned_away(yaw, centres):
    pixels = np.broadcast_to(np.array([1.0, 3.0, 5.0, 7.0], np.float32)[:, None, None, None], (4, 2, 2, 1)).copy()
    data = training_data.TrainingSet(np.array([b""] * 4, object), np.array([0, 0, 1, 1]), np.array([2, 2]), yaw)
    inputs = tf.keras.Input([2, 2, 1])
    encoder = tf.keras.Model(inputs, tf.keras.layers.GlobalAveragePooling2D()(inputs))
    transfer = config.Transfer(most_yaw=30.0)
    found = measured.Measure(encoder, data, lambda batch: (batch, 0), transfer, head_threshold=1, pixels=pixels)()
    np.testing.assert_allclose(found.centres.ravel(), centres)
