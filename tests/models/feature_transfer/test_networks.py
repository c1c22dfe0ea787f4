"""The networks of feature transfer: as tabled at 100x100, and of other sizes."""

import numpy as np
import pytest
import tensorflow as tf

from longtail.models import config
from longtail.models.feature_transfer import blocks
from longtail.models.feature_transfer import networks

PAPER = config.Model("casianet", image=(100, 100, 3), dimension=320, filter=True)


def sides(network):
    """The sides of what each convolution answers."""
    kinds = (tf.keras.layers.Conv2D, tf.keras.layers.Conv2DTranspose)
    return [layer.output_shape[1] for layer in network.layers if isinstance(layer, kinds)]


def channels(network):
    kinds = (tf.keras.layers.Conv2D, tf.keras.layers.Conv2DTranspose)
    return [layer.filters for layer in network.layers if isinstance(layer, kinds)]


@pytest.mark.parametrize(
    "build, millions",
    [(networks.build_encoder, 2.87), (networks.build_decoder, 6.56), (networks.build_filter, 5.36)],
)
def test_the_papers_networks_have_as_many_parameters_as_it_says(build, millions):
    assert round(build(PAPER).count_params() / 1e6, 2) == millions


def test_the_papers_encoder_halves_where_its_table_says():
    encoder = networks.build_encoder(PAPER)
    assert sides(encoder) == [100] * 2 + [50] * 3 + [25] * 3 + [12] * 3 + [6] * 3
    assert channels(encoder) == [32, 64, 64, 64, 128, 128, 96, 192, 192, 128, 256, 256, 160, 320]


def test_the_papers_decoder_doubles_where_its_table_says():
    decoder = networks.build_decoder(PAPER)
    assert sides(decoder) == [6] * 2 + [12] * 3 + [24] * 3 + [48] * 2 + [50] + [100] * 3
    assert channels(decoder) == [160, 256, 256, 128, 192, 192, 96, 128, 128, 64, 64, 64, 32, 3]


@pytest.mark.parametrize("image", [(28, 28, 1), (33, 21, 3), (100, 64, 1), (20, 20, 1)])
def test_networks_of_any_side_and_width_draw_images_of_that_side(image):
    model = config.Model("casianet", image=image, dimension=12, filter=True, width=0.1)
    embedder, decoder = networks.build_embedder(model), networks.build_decoder(model)
    assert embedder.output_shape == (None, 12)
    assert embedder.encoder.output_shape == decoder.input_shape == (None, 32)
    assert decoder.output_shape == (None, *image)


def test_a_resnet_can_be_the_encoder():
    model = config.Model("resnet18", image=(32, 32, 3), dimension=16, filter=True, width=0.25)
    embedder = networks.build_embedder(model)
    assert embedder(tf.zeros([2, 32, 32, 3])).shape == (2, 16)
    assert embedder.encoder.output_shape == (None, 80)


def test_rich_features_and_embeddings_and_drawn_pixels_can_be_negative():
    model = config.Model("casianet", image=(28, 28, 1), dimension=16, filter=True, width=0.1)
    images = tf.random.stateless_normal([8, 28, 28, 1], [0, 1])
    embedder, decoder = networks.build_embedder(model), networks.build_decoder(model)
    rich = embedder.encoder(images)
    for values in (rich, embedder(images), decoder(rich)):
        assert values.numpy().min() < 0.0 < values.numpy().max()


@pytest.mark.parametrize("initializer, n", [("entries", 3 * 3 * 20 * 40), ("inputs", 3 * 3 * 20)])
def test_weights_are_uniform_up_to_the_root_of_three_over_n(initializer, n):
    weights = blocks.Kernel(initializer=initializer).options["kernel_initializer"]([3, 3, 20, 40]).numpy()
    most = np.sqrt(3.0 / n)
    assert np.abs(weights).max() <= most
    np.testing.assert_allclose(weights.std(), most / np.sqrt(3.0), rtol=0.02)
