"""Names in the model card: text, whatever they are."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tfl.artefacts import card
from tfl.text import to_printable

HOSTILE = [
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "<https://evil.example>",
    "a|b",
    "a\\|b",
    "a\\",
    "`",
    "``` x",
    "a\n| forged | 100.00% |",
    "a\r\n\r\n# Title",
    "# x",
    "- x",
    "1. x",
    "---",
    "> x",
    "[x]: https://evil.example",
    "*a* _b_ **c** ~~d~~",
    "&lt;b&gt;",
    "$x$",
    "<!--",
    "https://evil.example www.evil.example a@b.example",
    "\u202egpj",
    " x ",
    "",
]
names = st.one_of(st.text(st.characters()), st.text("\\`*_{}[]()<>#+-.!|~$&:@/ \n\tab1"), st.sampled_from(HOSTILE))


def rendered(text):
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)


def tags(page):
    return set(re.findall(r"<[/!?]*(\w*)", page))


@given(st.lists(names, min_size=1, max_size=4))
def test_a_table_has_a_row_for_each_class_and_nothing_else(classes):
    table = "\n".join(card._table(dict.fromkeys(classes, 0.5)))
    page = rendered(table)
    assert tags(page) == {"table", "thead", "tbody", "tr", "th", "td"}
    assert page.count("<tr>") == 1 + len(set(classes))
    assert page.count("<td>") == 2 * len(set(classes))


@given(names)
def test_a_name_is_shown_as_it_is(name):
    page = rendered(f"- data: {card.escaped(name)}, x")
    (shown,) = re.fullmatch(r"<ul>\n<li>data: (.*), x</li>\n</ul>\n", page).groups()
    assert html.unescape(shown).strip() == to_printable(name).strip()


def test_plain_names_stay_readable():
    for name in ("golden retriever", "n02099601", "snake_case", "Hündin 犬", "class (a), b/c; 50%"):
        assert card.escaped(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_a_whole_card(name):
    def described(name):
        share = {"accuracy": 0.5, "accuracy_interval_95": [0.25, 0.75]}
        roles = {f"{role}_split": name for role in ("train", "val", "test")}
        backbone = dict.fromkeys(("backbone", "image_size", "resize_mode", "interpolation", "weights"), name)
        return {
            "class_names": [name, "b"],
            "fingerprint": name,
            "spec": {"features": backbone, "dataset": {"dataset": name, "version": name, **roles}},
            "recipe": name,
            "settings": {name: name},
            "chosen": None,
            "views": [name],
            "temperature": None,
            "is_folded": False,
            "metrics": {"test": {**share, "num_rows": 4, "accuracy_per_class": {name: 0.5, "b": None}}},
            "artefact": {"format": "onnx", "quantize": "none"},
            "parity": {"num_images": 1, "error": 0.0, "tolerance": 0.1, "same_class": 1.0},
            "measured": None,
            "tfl": "1",
            "versions": {name: name},
        }

    def skeleton(name):
        return re.findall(r"</?\w+", rendered(card.text(described(name))))

    assert skeleton(name) == skeleton("plain")
