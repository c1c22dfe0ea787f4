"""decode_batch: every kind of image comes out, and a broken one costs its batch nothing."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from longtail.models import pictures
from longtail.models.export import preprocess
from longtail.models.export import signatures
from tests import made_pictures as made

SHAPE = (16, 12)


def encoded(mode="RGB", size=(12, 16), kind="PNG", **options):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def decode(images, channels=1, **settings):
    run = tf.function(lambda batch: preprocess.decode_batch(batch, *SHAPE, channels, **settings))
    return [t.numpy() for t in run(tf.constant(images, tf.string))]


def test_broken_images_get_their_status_and_leave_the_others_alone():
    png, jpeg = encoded(), encoded(kind="JPEG")
    pixels, status = decode([png, b"", b"not an image", png[:60], jpeg, jpeg[:50], png])
    assert status.tolist() == [0, 1, 1, 1, 0, 1, 0]
    np.testing.assert_array_equal(pixels[0], pixels[6])
    assert not pixels[status == 1].any()
    assert pixels[4].any()


def test_a_batch_of_nothing_but_broken_images_has_an_answer():
    _, status = decode([b"", b"x"])
    assert status.tolist() == [signatures.STATUS_UNDECODABLE] * 2


def test_an_empty_batch_has_an_empty_answer():
    pixels, status = decode(np.zeros([0], object))
    assert pixels.shape == (0, *SHAPE, 1) and status.shape == (0,)


def test_an_image_that_states_too_many_pixels_is_not_decoded():
    for kind in ("PNG", "JPEG"):
        _, status = decode([encoded(size=(100, 100), kind=kind), encoded()], max_pixels=9_999)
        assert status.tolist() == [signatures.STATUS_TOO_LARGE, 0]


def test_a_png_that_lies_about_its_size_is_refused_before_it_is_decoded():
    bomb = bytearray(encoded())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    _, status = decode([bytes(bomb)])
    assert status.tolist() == [signatures.STATUS_TOO_LARGE]


def test_what_is_no_image_is_not_taken_for_a_large_one():
    _, status = decode([b"x" * 100, b"GIF89a" + b"\xff" * 90])
    assert status.tolist() == [signatures.STATUS_UNDECODABLE] * 2


def test_grey_palette_alpha_and_one_bit_images_are_all_read():
    images = [encoded(mode) for mode in ("L", "P", "RGBA", "1", "LA")]
    for channels in (1, 3):
        pixels, status = decode(images, channels)
        assert not status.any() and pixels.shape[-1] == channels


def test_a_jpeg_of_four_inks_is_read_as_grey_and_as_colour():
    for channels in (1, 3):
        pixels, status = decode([encoded("CMYK", kind="JPEG"), encoded()], channels)
        assert not status.any() and pixels[0].any()


def test_pixels_of_the_right_size_are_what_pillow_reads():
    image = encoded("L")
    pixels, _ = decode([image])
    wanted = np.asarray(Image.open(io.BytesIO(image)), np.float32) / 127.5 - 1.0
    np.testing.assert_allclose(pixels[0, :, :, 0], wanted, atol=1e-6)


def test_resized_pixels_stay_in_range():
    pixels, _ = decode([encoded(size=(90, 40))], 3)
    assert pixels.shape == (1, *SHAPE, 3) and np.abs(pixels).max() <= 1.0 + 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_is_put_upright_in_the_graph_as_the_door_does(channels):
    files = [made.turned(made.picture(), form, tag) for form in ("JPEG", "MPO") for tag in range(1, 9)]
    as_found, _ = decode(files, channels)
    through_the_door, _ = decode([pictures.read(file).encoded for file in files], channels)
    np.testing.assert_allclose(as_found, through_the_door, atol=0.1)  # two decoders of JPEG


def test_the_tag_is_read_in_either_byte_order_and_among_others():
    upright, _ = decode([encoded(kind="JPEG")])
    for order in ("<", ">"):
        exif = Image.Exif()
        exif.endian = order
        exif.update({0x010F: "a camera of some name", 0x0110: "model", made.ORIENTATION: 3, 0x0132: "2026"})
        [pixels], _ = decode([encoded(kind="JPEG", exif=exif)])
        np.testing.assert_allclose(pixels, upright[0][::-1, ::-1], atol=1e-6)


def test_a_damaged_tag_turns_nothing():
    exif = Image.Exif()
    exif[made.ORIENTATION] = 6
    data = encoded(kind="JPEG", exif=exif)
    begin = data.index(b"Exif\0\0") + 6
    for damage in (b"MM\0*\xff\xff\xff\xff", b"II*\0\xff\xff\xff\x7f", b"\0" * 8):
        _, status = decode([data[:begin] + damage + data[begin + 8 :]])
        assert status.tolist() == [signatures.STATUS_OK]


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_parts_are_white_in_the_graph_as_at_the_door(channels):
    layers = [np.asarray(made.picture()), np.linspace(0, 255, 16 * 24).reshape(16, 24, 1).astype(np.uint8)]
    colour = Image.fromarray(np.concatenate(layers, axis=2))
    grey = colour.convert("LA")
    palette = made.encoded(made.picture().quantize(8), "PNG", transparency=2)
    files = [made.encoded(colour, "PNG"), made.encoded(grey, "PNG"), palette]
    as_found, _ = decode(files, channels)
    through_the_door, _ = decode([pictures.read(file).encoded for file in files], channels)
    np.testing.assert_allclose(as_found, through_the_door, atol=0.02)


def test_a_jpeg_header_that_states_more_than_its_data_can_fill_is_not_decoded():
    data = encoded(kind="JPEG")
    at = data.index(b"\xff\xc0") + 5
    lie = data[:at] + (5000).to_bytes(2, "big") * 2 + data[at + 4 :]
    _, status = decode([lie, data])
    assert status.tolist() == [signatures.STATUS_TOO_LARGE, 0]
