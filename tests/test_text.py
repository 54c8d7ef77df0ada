import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfl import text
from tfl.text import first_lines, join_first, to_printable


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


def test_errors_of_libraries_become_one_line():
    said = ValueError("Layer 'a'\n  expected 3\x1b[31m tensors,\n got 2")
    assert text.to_one_line(said) == r"Layer 'a' expected 3\x1b[31m tensors, got 2"
    assert text.to_one_line("one  two three", 8) == "one two…"
    assert text.to_one_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_the_nearest_name_is_suggested():
    assert text.suggest_name("ResNet-50", ["resnet50", "xception"]) == "; did you mean resnet50?"
    assert text.suggest_name("qqqq", ["resnet50", "xception"]) == ""


def test_of_few_items_all_are_shown():
    assert join_first(["a", "b"], "classes") == "a, b"
    assert first_lines(["a", "b"]) == ["  a", "  b"]


def test_of_many_items_the_first_are_shown_and_the_others_counted():
    items = [f"x{i}" for i in range(1012)]
    assert join_first(items, "classes").endswith("x8, x9 and 1,002 more classes")
    assert join_first(items).endswith("x9 and 1,002 more")
    assert first_lines(items)[-2:] == ["  x9", "  ... and 1,002 more"]
