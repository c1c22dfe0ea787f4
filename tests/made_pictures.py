"""Pictures that tests make, in every format that is read, and pixels as a person sees them."""

import io

import numpy as np
from PIL import Image
from PIL import ImageOps

ORIENTATION = 0x0112
FORMATS = ("JPEG", "MPO", "PNG", "PPM", "PGM", "BMP", "GIF", "WEBP", "TIFF")
TAGGED = ("JPEG", "MPO", "PNG", "WEBP", "TIFF")  # formats that carry an orientation tag
TRANSPARENT = ("PNG", "GIF", "WEBP", "TIFF")
_FINE = {"quality": 98, "subsampling": 0}
_OPTIONS = {"JPEG": _FINE, "MPO": {**_FINE, "save_all": True}, "WEBP": {"lossless": True}}


def picture(seed: int = 0, size: tuple[int, int] = (24, 16), grey: bool = False) -> Image.Image:
    """A smooth picture, width x height, that no mirror and no turn leaves as it is."""
    rough = np.random.default_rng(seed).integers(0, 256, (4, 6) if grey else (4, 6, 3), np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BILINEAR)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    """The file."""
    file = io.BytesIO()
    if form == "PGM":
        image, form = image.convert("L"), "PPM"
    if form == "MPO":  # a second picture, or it is written as a JPEG
        options = {**options, "append_images": [Image.new("RGB", image.size)]}
    image.save(file, form, **{**_OPTIONS.get(form, {}), **options})
    return file.getvalue()


def turned(image: Image.Image, form: str, tag: int) -> bytes:
    """A file with an orientation tag that shows `image` to a person."""
    exif = Image.Exif()
    exif[ORIENTATION] = tag
    # Of the eight, 6 and 8 undo each other and the others themselves.
    undone = Image.Exif()
    undone[ORIENTATION] = {6: 8, 8: 6}.get(tag, tag)
    lying = Image.open(io.BytesIO(encoded(image, "PNG", exif=undone)))
    pixels = ImageOps.exif_transpose(lying)
    return encoded(Image.fromarray(np.asarray(pixels)), form, exif=exif)


def pixels_of(data: bytes) -> np.ndarray:
    """What a file's pixels are, its tags aside: int [h, w, 3]."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
