"""Fills in the HTML pages of `templates/`: no script, nothing from a network, so they open anywhere, years from now.

All that is filled in is escaped, but for the charts, which `charts` makes of texts that it escapes itself. Images are
shrunk and written anew as PNG, so nothing of a file but its pixels gets into a page.
"""

import base64
import io

import jinja2
import tensorflow as tf
from PIL import Image

_THUMBNAIL = 112  # pixels

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: object) -> str:
    """A page as UTF-8 holds it: of a file's name that is no UTF-8, a question mark stands for what is none."""
    return _TEMPLATES.get_template(template).render(values).encode(errors="replace").decode()


def thumbnail(encoded: bytes) -> str:
    """A small PNG, in base64, of a JPEG or PNG as ingestion hands it on."""
    # As ingestion decoded it: what Pillow makes of an odd file may be another thing, or nothing.
    image = Image.fromarray(tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy())
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()
