import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfl.text import to_printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat.jpg", "cat.jpg"),
        ("Hündin 犬 🐕\u200d🦺", "Hündin 犬 🐕\u200d🦺"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("two\nlines\tand\r", "two\\nlines\\tand\\r"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("a\u2028b\u2029c\x85d", "a\\u2028b\\u2029c\\x85d"),
        ("caf\udce9", "caf\\udce9"),
        ("back\\slash", "back\\slash"),
        ("", ""),
    ],
)
def test_what_steers_a_terminal_is_escaped(text, shown):
    assert to_printable(text) == shown


@given(st.text(st.characters()))
def test_any_text_becomes_one_line_that_can_be_written(text):
    shown = to_printable(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert to_printable(shown) == shown
