"""What of a name is printed: itself, where a terminal would print just that."""

import hypothesis
from hypothesis import strategies

from longtail.models import errors


def test_letters_of_any_language_are_shown_as_they_are():
    assert errors.shown("Zoë/写真 1.png") == "Zoë/写真 1.png"


def test_escape_sequences_line_breaks_turned_writing_and_stray_bytes_are_escaped():
    assert errors.shown("a\x1b[31m\n\u202eb\udcff") == r"a\x1b[31m\n\u202eb\udcff"


@hypothesis.given(strategies.text())
def test_whatever_a_name_is_it_is_one_line_that_can_be_printed(name):
    shown = errors.shown(name)
    assert shown.isprintable() and len(shown.splitlines()) <= 1
    shown.encode()
