"""The one door to a picture for all that reads one: what it is by its content, upright, transparent parts on white.

Loads no TensorFlow, so that clients can use it too.
"""

import dataclasses
import io
import os
import re
import stat
import struct
import zlib

from PIL import Image
from PIL import ImageOps

from longtail.models import config
from longtail.models.export import signatures

HEAD = 32  # bytes that tell what a file is

# What reaches a decoder: a name, and how such a file begins. MPO is a JPEG with more pictures behind it.
_BEGINNINGS = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "PPM": rb"P[2356]\s",
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "GIF": rb"GIF8[79]a",
    "WEBP": rb"RIFF.{4}WEBP",
    "TIFF": rb"II\*\0|MM\0\*",
}
_KINDS = {name: re.compile(beginning, re.DOTALL) for name, beginning in _BEGINNINGS.items()}
READ = "JPEG, MPO, PNG, PPM, PGM, BMP, GIF, WebP and TIFF"

# What people take for a picture and is none here: worth a word of its own.
_STRANGERS = {
    "PostScript": rb"%!PS|\xc5\xd0\xd3\xc6",
    "PDF": rb"%PDF",
    "a HEIC picture": rb".{4}ftyp(hei|hev|mif|msf)",
    "an AVIF picture": rb".{4}ftypavi",
    "a JPEG 2000 picture": rb"\0\0\0\x0cjP|\xff\x4f\xff\x51",
    "a JPEG XL picture": rb"\xff\x0a|\0\0\0\x0cJXL",
    "a Photoshop file": rb"8BPS",
    "an SVG drawing": rb"<svg|<\?xml",
    "a bitmap of PBM": rb"P[14]\s",
    "an icon": rb"\0\0[\1\2]\0",
}
_KNOWN_STRANGERS = {name: re.compile(beginning, re.DOTALL) for name, beginning in _STRANGERS.items()}

_AS_FOUND = {"JPEG": b"jpeg", "PNG": b"png"}  # formats that stay as they are, where nothing need be done
_NOT_IN_PNG = {"CMYK", "YCbCr", "LAB", "HSV", "RGBX", "RGBa", "La"}
_ORIENTATION = 0x0112  # tag of EXIF, and of TIFF

# A byte cannot stand for more pixels than that. JPEG spends a bit or more on every block of 8 x 8; deflate packs 1032
# to 1, and a byte of PNG's holds 8 pixels at most; PPM spends a byte on each. A header that states more is a lie.
PIXELS_A_BYTE = {"JPEG": 8 * 64, "PNG": 1032 * 8, "PPM": 1}

# What Pillow raises on a damaged file, besides its own errors, which are OSErrors.
_DAMAGED = (
    OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, OverflowError, TypeError, IndexError,
    KeyError, AttributeError, MemoryError, ZeroDivisionError, NotImplementedError,
)  # fmt: skip


class BadImage(Exception):
    """The file is no usable picture; the message is the reason, in one line, fit for the quarantine.

    Attributes:
      status: as a served model would answer, see `longtail.models.export.signatures.STATUS_MEANING`.
    """

    def __init__(self, reason: str, status: int = signatures.STATUS_UNDECODABLE):
        super().__init__(reason)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as a person sees it.

    Attributes:
      encoded: JPEG or PNG: the file as found where that shows the same, or made anew as PNG.
      format: b"jpeg" or b"png".
    """

    encoded: bytes
    format: bytes


def kind_of(head: bytes) -> str:
    """Which of the formats that are read a file has, by its first `HEAD` bytes; "" where it has none of them."""
    return next((name for name, beginning in _KINDS.items() if beginning.match(head)), "")


def stranger(head: bytes) -> str:
    """What a file is that has none of the formats, for people."""
    if not head:
        return "empty file"
    known = next((name for name, beginning in _KNOWN_STRANGERS.items() if beginning.match(head)), "")
    if known:
        return f"not an image that is read: {known} by its content; convert it to JPEG or PNG"
    return "not an image by its content"


def max_bytes(max_pixels: int) -> int:
    """Larger files are no honest pictures of so many pixels: 16 bits, four channels, and room for metadata."""
    return 8 * max_pixels + 2**20


def read_file(path: str, most: int) -> bytes:
    """The first `most` bytes of a local regular file: a pipe or a device is not waited for, nor read without end.

    Raises:
      FileNotFoundError: there is none.
      BadImage: it is something else, or cannot be read.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise BadImage("not a regular file")
            return file.read(most)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BadImage(f"cannot be read: {error.strerror}") from error


def read(data: bytes, max_pixels: int = config.MAX_PIXELS) -> Picture:
    """The picture in a file: its first frame, upright by its orientation tag, transparent parts on white.

    JPEG and PNG stay as they are, byte for byte, unless they are to be turned or have transparent parts. The others
    become PNG: losslessly, but for CMYK and the like, which become RGB.

    Args:
      data: the file.
      max_pixels: most pixels, height times width, that are decoded at all: about 12 bytes of memory each.

    Raises:
      BadImage: of none of the formats, damaged as far as its header or the work here shows, or too large.
    """
    kind = kind_of(data[:HEAD])
    if not kind:
        raise BadImage(stranger(data[:HEAD]))
    try:
        image = Image.open(io.BytesIO(data), formats=[kind])
    except Image.DecompressionBombError as error:
        raise BadImage(f"oversized: {_said(error)}", signatures.STATUS_TOO_LARGE) from error
    except _DAMAGED as error:
        raise BadImage(f"damaged {kind}: its header cannot be read") from error
    _check_size(kind, image.size, len(data), max_pixels)
    try:
        shown = _shown(image, kind, data)
        if shown is None:
            return Picture(data, _AS_FOUND[kind])
        png = io.BytesIO()
        (shown.convert("RGB") if shown.mode in _NOT_IN_PNG else shown).save(png, "PNG", exif=b"", icc_profile=None)
    except (Image.DecompressionBombError, *_DAMAGED) as error:
        raise BadImage(f"not decodable as {kind}: {_said(error)}") from error
    return Picture(png.getvalue(), b"png")


def _check_size(kind: str, size: tuple[int, int], length: int, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        reason = f"oversized: {width}x{height} pixels, more than {max_pixels}"
        raise BadImage(reason, signatures.STATUS_TOO_LARGE)
    if kind in PIXELS_A_BYTE and width * height > length * PIXELS_A_BYTE[kind]:
        raise BadImage(f"damaged {kind}: its header states {width}x{height} pixels, too many for {length} bytes")


def _shown(image: Image.Image, kind: str, data: bytes) -> Image.Image | None:
    """What a person sees; None where the file shows that already to every decoder of its format."""
    # To look for the tag, Pillow decodes the whole of a PNG: only where there may be one.
    may_turn = kind != "PNG" or b"eXIf" in data or b"Raw profile type" in data or b"tiff:Orientation" in data
    turned = may_turn and image.getexif().get(_ORIENTATION, 1) in range(2, 9)
    transparent = image.has_transparency_data and not image.mode.startswith("I")
    if kind in _AS_FOUND and not turned and not transparent:
        return None
    image.load()
    if turned:
        image = ImageOps.exif_transpose(image)
    on_white = _on_white(image) if transparent else None
    if kind in _AS_FOUND and not turned and on_white is None:
        return None
    return on_white or image


def _on_white(image: Image.Image) -> Image.Image | None:
    """The picture on white paper; None where no part of it is transparent."""
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema()[0] == 255:
        return None
    paper = Image.new("RGBA", layer.size, "white")
    paper.alpha_composite(layer)
    return paper.convert("RGB").convert("L") if image.mode in ("L", "LA", "La", "1") else paper.convert("RGB")


def _said(error: BaseException) -> str:
    """An error's first words: no address of a buffer, which would make every reason another one."""
    lines = str(error).split("<_io")[0].strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
