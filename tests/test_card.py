"""Names in the model card: text, whatever they are."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifests import make_manifest
from markdown_it import MarkdownIt

from tfl.artefacts import card
from tfl.runs.metrics import RoleMetrics
from tfl.specs import CacheSpec, DatasetSpec, FeatureSpec
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
    table = "\n".join(card._format_table(dict.fromkeys(classes, 0.5)))
    page = rendered(table)
    assert tags(page) == {"table", "thead", "tbody", "tr", "th", "td"}
    assert page.count("<tr>") == 1 + len(set(classes))
    assert page.count("<td>") == 2 * len(set(classes))


@given(names)
def test_a_name_is_shown_as_it_is(name):
    page = rendered(f"- data: {card.escape(name)}, x")
    (shown,) = re.fullmatch(r"<ul>\n<li>data: (.*), x</li>\n</ul>\n", page).groups()
    assert html.unescape(shown).strip() == to_printable(name).strip()


def test_plain_names_stay_readable():
    for name in ("golden retriever", "n02099601", "snake_case", "Hündin 犬", "class (a), b/c; 50%"):
        assert card.escape(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_a_whole_card(name):
    def described(name):
        shares = {name: 0.5, "b": None}
        dataset = DatasetSpec(name or "x", name, name, name or "x", version=name)
        return make_manifest(
            "onnx",
            {"model.onnx": "0" * 64},
            class_names=[name, "b"],
            fingerprint=name,
            spec=CacheSpec(FeatureSpec(backbone=name, weights=name), dataset),
            recipe=name,
            settings={name: name},
            views=(name,),
            metrics={
                "test": RoleMetrics(
                    accuracy=0.5, accuracy_interval_95=(0.25, 0.75), num_rows=4, loss=None, accuracy_per_class=shares
                )
            },
            versions={name: name},
        )

    def skeleton(name):
        return re.findall(r"</?\w+", rendered(card.format_card(described(name))))

    assert skeleton(name) == skeleton("plain")
