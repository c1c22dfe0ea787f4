"""Judges one file: can it be decoded by what will serve it, and what does it look like?"""

import base64
import dataclasses
import io
import re

import numpy as np
import tensorflow as tf
from PIL import Image

from longtail.components.data import features
from longtail.models import pictures

BadImage = pictures.BadImage

THUMBNAIL = 112  # pixels

_LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 255.0
_WINDOW = 1024  # scalars look at the middle of larger images, so that their cost is bounded
_FOR_MACHINES = re.compile(r"\{\{[^}]*\}\}\s*|\s*\[Op:[^\]]*\].*")


@dataclasses.dataclass(frozen=True)
class CheckedImage:
    """An image that TensorFlow, which serves, has decoded.

    Attributes:
      encoded: JPEG or PNG; the file as found, or re-encoded as PNG.
      format: b"jpeg" or b"png".
      pixels: uint8 [height, width, 3].
    """

    encoded: bytes
    format: bytes
    pixels: np.ndarray


def check(data: bytes, max_pixels: int) -> CheckedImage:
    """Decodes a file as `pictures.read` shows it.

    Args:
      data: the file.
      max_pixels: most pixels, height times width, that are decoded at all.

    Raises:
      BadImage: empty, of another format, not decodable, or too large.
    """
    picture = pictures.read(data, max_pixels)
    try:
        # As `tf.io.decode_image`, without the conversions that cost as much as decoding a small image.
        contents = tf.constant(picture.encoded)
        pixels = tf.raw_ops.DecodeImage(contents=contents, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError as error:
        said = _FOR_MACHINES.sub("", error.message).strip().splitlines()[0][:200]
        raise BadImage(f"not decodable as {picture.format.decode()}: {said}") from error
    return CheckedImage(picture.encoded, picture.format, pixels)


def thumbnail(encoded: bytes, side: int = THUMBNAIL) -> str:
    """A small PNG, in base64, of a JPEG or PNG as ingestion hands it on; "" of what is none.

    Written anew, so nothing of a file but its pixels gets into a page.
    """
    try:
        # As ingestion decoded it: what Pillow makes of an odd file may be another thing, or nothing.
        pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError:
        return ""
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def scalars(image: CheckedImage) -> dict[str, float]:
    """The features.SCALARS of an image; of one larger than 1024 pixels, its middle is looked at."""
    height, width, _ = image.pixels.shape
    top, left = max(0, (height - _WINDOW) // 2), max(0, (width - _WINDOW) // 2)
    grey = image.pixels[top : top + _WINDOW, left : left + _WINDOW] @ _LUMA
    mean = grey.mean()
    apart = grey - mean
    return {
        features.BRIGHTNESS: float(mean),
        features.CONTRAST: float(np.sqrt(np.multiply(apart, apart, out=apart).mean())),
        features.SHARPNESS: _sharpness(grey),
        features.INK: np.count_nonzero(grey < 0.5) / grey.size,
        features.ASPECT: width / height,
        features.KILOBYTES: len(image.encoded) / 1024.0,
    }


def _sharpness(grey: np.ndarray) -> float:
    """Mean absolute four-neighbour Laplacian; 0 where no pixel has four neighbours."""
    if min(grey.shape) < 3:
        return 0.0
    around = grey[:-2, 1:-1] + grey[2:, 1:-1]
    around += grey[1:-1, :-2]
    around += grey[1:-1, 2:]
    around -= 4.0 * grey[1:-1, 1:-1]
    return float(np.abs(around, out=around).mean())
