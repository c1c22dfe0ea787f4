"""Fills in the HTML pages of `templates/`: no script, nothing from a network, so they open anywhere, years from now.

All that is filled in is escaped, but for the charts, which `charts` and `plots` make of texts that they escape
themselves. Images are thumbnails, of which nothing but pixels gets into a page.
"""

import re

import jinja2

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # no HTML may hold them

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: object) -> str:
    """A page as UTF-8 holds it: of a file's name that is no UTF-8, a question mark stands for what is none.

    The replacement character stands for each control character.
    """
    text = _TEMPLATES.get_template(template).render(values).encode(errors="replace").decode()
    return _CONTROL.sub("\ufffd", text)
