"""Judges one file: can it be decoded by what will serve it, and what does it look like?"""

import dataclasses
import io
import struct
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image

from longtail.components.data import features

# Formats that stay as they are. MPO is a JPEG with more pictures behind it.
_AS_FOUND = {"JPEG": b"jpeg", "MPO": b"jpeg", "PNG": b"png"}
_NOT_IN_PNG = {"CMYK", "YCbCr", "LAB", "HSV", "RGBX", "RGBa", "La"}
_LUMA = np.array([0.299, 0.587, 0.114], np.float32) / 255.0
_WINDOW = 1024  # scalars look at the middle of larger images, so that their cost is bounded

# What Pillow raises on a damaged file, besides its own errors, which are OSErrors.
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, OverflowError)


class BadImage(Exception):
    """The file is no usable image; the message is the reason, fit for the quarantine."""


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
    """Decodes a file, after its header has told its size.

    JPEG and PNG stay as they are. What else Pillow reads (its first frame) becomes PNG: losslessly,
    but for CMYK and the like, which become RGB.

    Args:
      data: the file.
      max_pixels: most pixels, height times width, that are decoded at all.

    Raises:
      BadImage: empty, not decodable, or too large.
    """
    if not data:
        raise BadImage("empty file")
    try:
        header = Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, *_DAMAGED) as error:
        raise BadImage(_reason("not an image", error)) from error
    width, height = header.size
    if width * height > max_pixels:
        raise BadImage(f"oversized: {width}x{height} pixels, more than {max_pixels}")
    encoding = _AS_FOUND.get(header.format or "", b"png")
    encoded = data if header.format in _AS_FOUND else _as_png(header)
    try:
        pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise BadImage(_reason(f"not decodable as {encoding.decode()}", error.message)) from error
    return CheckedImage(encoded, encoding, pixels)


def scalars(image: CheckedImage) -> dict[str, float]:
    """The features.SCALARS of an image; of one larger than 1024 pixels, its middle is looked at."""
    height, width, _ = image.pixels.shape
    top, left = max(0, (height - _WINDOW) // 2), max(0, (width - _WINDOW) // 2)
    grey = image.pixels[top : top + _WINDOW, left : left + _WINDOW] @ _LUMA
    return {
        features.BRIGHTNESS: float(grey.mean()),
        features.CONTRAST: float(grey.std()),
        features.SHARPNESS: _sharpness(grey),
        features.INK: float((grey < 0.5).mean()),
        features.ASPECT: width / height,
        features.KILOBYTES: len(image.encoded) / 1024.0,
    }


def _sharpness(grey: np.ndarray) -> float:
    """Mean absolute four-neighbour Laplacian; 0 where no pixel has four neighbours."""
    if min(grey.shape) < 3:
        return 0.0
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.abs(around - 4.0 * grey[1:-1, 1:-1]).mean())


def _as_png(image: Image.Image) -> bytes:
    png = io.BytesIO()
    try:
        image.load()
        (image.convert("RGB") if image.mode in _NOT_IN_PNG else image).save(png, "PNG")
    except _DAMAGED as error:
        raise BadImage(_reason(f"not decodable as {image.format}", error)) from error
    return png.getvalue()


def _reason(what: str, error: object) -> str:
    # The address of a buffer in Pillow's message would make every row another one.
    said = str(error).split("<_io")[0].splitlines()[0] if str(error) else type(error).__name__
    return f"{what}: {said.strip()[:200]}"
