"""README, docs and their generated parts: links resolve, and every number comes from a stored result."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_architecture import ROOMS

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))

import make_docs  # noqa: E402
from documentation import blocks, estimator_tables, hook, kinds, numbers, pictures, recipe_tables, speed_tables, tables  # noqa: E402
from record import Hardware, Result, read_result, write_result  # noqa: E402

README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "cache" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STORED = sorted((ROOT / "docs" / "results").glob("*.json"))
GENERATED_PAGES = {"index.md", "changelog.md", "cache-file.md"}
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def of_root(path):
    return str(path.relative_to(ROOT))


def text_of(page):
    return page.read_text(encoding="utf-8")


def anchors_of(page):
    """The anchors of a page's headings, as GitHub and the site spell them."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def source_of(page, link):
    """The file in the repository that a link of a page leads to."""
    if page.parent.name == "docs" and link in GENERATED_PAGES:
        return ROOT / {made: source for source, made in hook.PAGES.items()}[link]
    return page.parent / link


@pytest.mark.parametrize("page", PAGES, ids=of_root)
def test_internal_links_resolve(page):
    prose = CODE.sub("", text_of(page))
    for link in LINK.findall(prose):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = source_of(page, path) if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors_of(target), f"{link}: no such heading"


def test_the_readme_is_short():
    words = re.sub(r"<!--.*?-->", "", text_of(README)).split()
    assert len(text_of(README).splitlines()) <= 150
    assert 300 <= len(words) <= 1600


def test_setting_up_takes_one_of_two_commands():
    section = text_of(README).partition("## Set up")[2].partition("\n## ")[0]
    commands = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert [command.strip() for command in commands] == [
        "pip install '.[openvino]' && tfl quickstart",
        "pip install '.[test]' && tfl fetch && python -m pytest -n auto",
    ]


def test_the_architecture_lists_every_package_in_the_order_of_imports():
    section = text_of(ROOT / "docs" / "architecture.md").partition("## The packages")[2].partition("\n## ")[0]
    listed = re.findall(r"`tfl\.(\w+)`", re.sub(r" \|[^|]*\|$", "", section, flags=re.MULTILINE))
    assert tuple(listed) == ROOMS


@pytest.mark.parametrize("path", STORED, ids=of_root)
def test_stored_results_are_of_the_one_form(path):
    result = read_result(path)
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", result.date)
    assert result.question
    assert result.versions
    assert result.n >= 1


def test_generated_parts_are_up_to_date():
    old = [of_root(path) for path in make_docs.update_all(is_check=True)]
    assert not old, "run `python scripts/make_docs.py`"


@pytest.fixture
def stored(tmp_path):
    """A folder with one small result, under the name that the table of the input pipeline is made of."""
    result = Result(
        question="Is the generator right?",
        command="python scripts/benchmarks/input_pipeline.py",
        date="2026-11-26",
        hardware=Hardware("Some CPU", 2, ("avx2",), 8_000_000_000, None, None, "virtual"),
        versions={"python": "3.11.7", "keras": "3.15.1"},
        n=3,
        settings={},
        results={"images_per_second": {"TFDS": [1200.0, 1000.0, 1100.0], "npz": [20_000.0]}},
    )
    write_result(tmp_path / "input_pipeline.json", result)
    return tmp_path


def test_a_table_and_its_caption(stored):
    lines = tables.make_results_block("input-pipeline", stored / "page.md", stored).splitlines()
    assert lines[:2] == ["| source | images/s |", "| --- | ---: |"]
    assert lines[2] == "| TFDS, CIFAR-10 | 1,100 (1,000 to 1,200) |"
    assert lines[3] == "| `.npz`, every row compared with its digest | 20,000 |"
    assert lines[5] == (
        "<small>n = 1 to 3, median (least to largest). `python scripts/benchmarks/input_pipeline.py`, 2026-11-26. "
        "Some CPU (avx2), 2 cores, 8 GB, virtual. Python 3.11.7, Keras 3.15.1. "
        "Stored in [input_pipeline.json](input_pipeline.json).</small>"
    )


def test_a_table_without_a_stored_result(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"input_pipeline\.json"):
        tables.make_results_block("input-pipeline", tmp_path / "page.md", tmp_path)


def test_a_table_that_is_still_to_be_measured(tmp_path):
    shown = tables.make_results_block("calibration", tmp_path / "page.md", tmp_path)
    assert shown == "*Not measured yet: `python scripts/benchmarks/calibration.py`.*"


def test_what_is_awaited_is_a_table_and_has_a_script():
    assert set(tables.AWAITED) <= set(tables.TABLES)
    for command in tables.AWAITED.values():
        assert (ROOT / "scripts" / "benchmarks" / command.split()[0]).is_file()


def test_an_unknown_table(tmp_path):
    with pytest.raises(ValueError, match="asks for the table 'speed'; known are summary"):
        tables.make_results_block("speed", tmp_path / "page.md", tmp_path)
    with pytest.raises(ValueError, match="no table of kinds 'colours'; known are recipes"):
        kinds.make_kinds_block("colours")


def test_a_result_with_an_unknown_field(stored):
    path = stored / "input_pipeline.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}))
    with pytest.raises(ValueError, match="colour"):
        tables.make_results_block("input-pipeline", stored / "page.md", stored)


def recipes_of(accuracies):
    """A result of recipes: seconds grow by ten from one to the next."""
    ways = {f"{recipe} | 1 layer, bilinear": accuracy for recipe, accuracy in accuracies.items()}
    findings = {way: {"features": "1 layer, bilinear", "columns": 2048, "interval": [0.8, 0.95]} for way in ways}
    return Result(
        question="?",
        command="python scripts/benchmarks/recipes.py",
        date="2026-11-26",
        hardware=Hardware("Some CPU", 2, (), None, None, None),
        versions={},
        n=1,
        settings={},
        results={
            "accuracy": {way: [accuracy] for way, accuracy in ways.items()},
            "seconds": {way: [10.0 * (place + 1)] for place, way in enumerate(ways)},
        },
        findings={"ways": findings, "mcnemar": {"ridge | 1 layer, bilinear": {"p": 0.0123}}},
    )


def test_recipes_are_listed_best_first_and_tested_against_the_row_above():
    rows = recipe_tables.tabulate_recipes(recipes_of({"reference": 0.9, "ridge": 0.91, "mlp": 0.93})).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| `mlp`", "| `ridge`", "| `reference`"]
    assert rows[1] == "| `ridge` | 1 layer, bilinear | 2,048 | 91.00 % (80.00 to 95.00) | 20.0 | p = 0.012 |"


def test_the_front_page_shows_four_recipes_each_better_than_all_that_cost_less():
    result = recipes_of({"reference": 0.9, "knn": 0.85, "a": 0.91, "b": 0.92, "worse": 0.915, "c": 0.93, "d": 0.94})
    rows = recipe_tables.tabulate_summary(result).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| `reference`", "| `a`", "| `c`", "| `d`"]


def result_of(results, findings, settings):
    n = max(len(numbers) for ways in results.values() for numbers in ways.values())
    return replace(recipes_of({"ridge": 0.9}), n=n, results=results, findings=findings, settings=settings)


def test_the_whole_command_and_how_many_times_faster_it_is(tmp_path):
    seconds = {"keras predict": [60.0, 66.0, 72.0], "float32": [30.0, 33.0, 36.0], "int8, warm": [10.0, 10.0, 12.0]}
    rates = {way: [60 / number for number in numbers] for way, numbers in seconds.items()}
    times = {"int8, warm over keras predict": [6.0, 6.6, 6.0]}
    results = {"seconds": seconds, "images_per_second": rates, "times_faster": times}
    result = result_of(results, {"goals": {"int8, warm over keras predict": 6.0}}, {"images": 60})
    rows = speed_tables.tabulate_whole_command(result).splitlines()
    assert rows[0] == "| 60 images | seconds, start-up included | images/s |"
    assert rows[-1] == "| `tfl precompute`, int8, quantised before | 10.0 (10.0 to 12.0) | 6.00 (5.00 to 6.00) |"
    (row,) = speed_tables.tabulate_times_faster(result).splitlines()[2:]
    assert row.endswith("| a program that calls Keras `predict` | 6.00 (6.00 to 6.60) | 6.0 |")
    write_result(tmp_path / "whole_command.json", result)
    pictures.draw_picture(tmp_path / "whole_command.svg", tmp_path)
    drawn = (tmp_path / "whole_command.svg").read_text(encoding="utf-8")
    assert "tfl, int8, quantised before" in drawn
    assert "int8, cold" not in drawn


def test_accuracy_by_arithmetic():
    results = {
        "precompute_seconds": {"float32": [100.0], "int8": [30.0]},
        "accuracy": {"ridge, float32": [0.9], "ridge, int8": [0.901]},
    }
    findings = {"ridge, float32 against int8": {"p_value": 0.5}}
    rows = speed_tables.tabulate_arithmetic(result_of(results, findings, {"test_rows": 10_000})).splitlines()
    assert rows[0] == "| test accuracy, 10,000 images | float32 | int8 |"
    assert rows[2:] == ["| `ridge` | 90.00 % | 90.10 % (p = 0.50) |", "| seconds of `precompute` | 100 | 30.0 |"]


def test_ways_to_calibrate():
    results = {
        "seconds": {"32 images": [3.0]},
        "relative_change": {"float32": [0.0], "32 images": [0.16]},
        "accuracy": {"float32": [0.901], "32 images": [0.9]},
    }
    rows = speed_tables.tabulate_calibration(result_of(results, {}, {"head": "ridge"})).splitlines()[2:]
    assert rows == ["| float32 |  | 0 % | 90.10 % |", "| 32 images | 3.00 | 16.0 % | 90.00 % |"]


def test_heads_beside_those_of_other_libraries():
    settings = {"rows": 50_000, "features": 2048, "test_rows": 10_000}
    settings |= {"logistic_max_iterations": 200, "scikit_learn_max_iter": 100}
    result = result_of(
        {"seconds": {"tfl ridge": [2.0], "tfl grid": [3.0]}}, {"test_accuracy": {"tfl ridge": 0.9}}, settings
    )
    lines = speed_tables.tabulate_heads(result).splitlines()
    assert lines[0] == "| 50,000 rows of 2,048 columns | seconds | accuracy, 10,000 test rows |"
    assert lines[2:4] == ["| tfl ridge | 2.00 | 90.00 % |", "| tfl grid | 3.00 |  |"]
    assert lines[-1] == "For each penalty at most 100 iterations of L-BFGS in scikit-learn, 200 in tfl."


def test_a_search_with_estimators():
    results = {"seconds": {"first fit": [10.0], "search": [3.0]}, "accuracy": {"chosen": [0.98], "pixels": [0.95]}}
    interval = {"chosen": [0.95, 0.99], "pixels": [0.9, 0.98]}
    findings = {"interval": interval, "fits": 25, "train_images": 1437, "test_images": 360}
    lines = estimator_tables.tabulate_estimators(result_of(results, findings, {})).splitlines()
    assert lines[2:4] == [
        "| first fit: 1,437 images through the network | 10.0 |",
        "| search on the same images: 25 fits | 3.00 |",
    ]
    assert lines[5] == "| classifier | test accuracy, 360 images (95 % interval) |"
    assert lines[7:] == ["| chosen | 98.00 % (95.00 to 99.00) |", "| pixels | 95.00 % (90.00 to 98.00) |"]


def test_what_best_tried():
    trials = [
        {"recipe": "ridge", "setting": {"l2": 1.0}, "val_accuracy": 0.9, "seconds": 1.0},
        {"recipe": "ridge", "setting": {"l2": 0.1}, "val_accuracy": 0.91, "seconds": 2.0},
        {"recipe": "mlp", "setting": {"hidden": [8], "epochs": 3}, "val_accuracy": 0.92, "seconds": 9.0},
        {"recipe": "mlp", "setting": {"hidden": [8, 8], "epochs": 2}, "val_accuracy": 0.9, "seconds": 9.0},
    ]
    findings = {"trials": trials, "chosen": trials[2], "interval": [0.9, 0.94], "test_rows": 100}
    results = {"accuracy": {"test": [0.925]}, "seconds": {"whole command": [30.0]}}
    rows = recipe_tables.tabulate_best(result_of(results, findings, {})).splitlines()[2:]
    assert rows[:3] == [
        "| `ridge` | 2 | l2 0.1 | 91.00 % | 3.00 |",
        "| `mlp`, chosen | 1 | hidden 8, epochs 3 | 92.00 % | 9.00 |",
        "| `mlp` | 1 | hidden 8-8, epochs 2 | 90.00 % | 9.00 |",
    ]
    assert "the test accuracy of 100 images is 92.50 % (90.00 to 94.00)" in rows[3]


def test_candidates_on_frozen_features_and_the_chosen_one():
    cost = {"precompute_seconds": 600.0, "images_computed": 60_000, "bytes": 5e9}
    what = {"features": "3 layers, bicubic, 7 views", "columns": 7168, "compute_dtype": "bfloat16"}
    settings = {"settings": {"views": ["original", "hflip"]}}
    findings = {**cost, **what, "aim": 0.955, "interval": [0.95, 0.96], "candidates": {"a": settings, "b": settings}}
    results = {
        "seconds": {"a": [10.0], "b": [20.0]},
        "val_accuracy": {"a": [0.94], "b": [0.95], "a + b": [0.951]},
        "accuracy": {"a + b": [0.955]},
        "refit_seconds": {"a + b": [40.0]},
    }
    lines = recipe_tables.tabulate_frozen_features(result_of(results, findings, {})).splitlines()
    assert lines[2] == "| a | 2 | 94.00 % | 10.0 |  |  |"
    assert lines[4] == "| **chosen**: a + b |  | 95.10 % |  | 40.0 | 95.50 % (95.00 to 96.00) |"
    assert lines[-1] == (
        "The features: 3 layers, bicubic, 7 views, 7,168 columns, bfloat16; "
        "10 min of extraction at 100 images/s, 5.0 GB. The aim is 95.50 %."
    )


def test_blocks_are_filled_between_their_marks():
    page = "before\n<!-- results: a-b -->\nold\n<!-- end -->\nbetween\n<!-- kinds: c -->\n<!-- end -->\nafter\n"
    filled = blocks.fill_blocks(page, lambda kind, name: f"{kind} {name}")
    assert filled == (
        "before\n<!-- results: a-b -->\n\nresults a-b\n\n<!-- end -->\n"
        "between\n<!-- kinds: c -->\n\nkinds c\n\n<!-- end -->\nafter\n"
    )
    assert blocks.fill_blocks(filled, lambda kind, name: f"{kind} {name}") == filled
    assert blocks.list_blocks(filled) == [("results", "a-b"), ("kinds", "c")]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ([0.0], "0"),
        ([3.14159], "3.14"),
        ([99.96], "100"),
        ([1234.5], "1,230"),
        ([0.000012345], "1.2e-5"),
        ([1.0, 2.0], "1.00 and 2.00"),
        ([3.0, 1.0, 2.0], "2.00 (1.00 to 3.00)"),
    ],
)
def test_numbers_as_they_are_shown(given, shown):
    assert numbers.format_spread(given) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(1.5, "1.5 s"), (119, "120 s"), (600, "10 min"), (7200, "2.0 h")])
def test_durations_as_they_are_shown(seconds, shown):
    assert numbers.format_duration(seconds) == shown


def test_a_picture_knows_what_it_was_drawn_from(stored, monkeypatch):
    def draw(result, axes):
        axes.bar(["a", "b"], [1, 2])

    monkeypatch.setitem(pictures.PICTURES, "bars.svg", (("input_pipeline",), draw))
    path = stored / "bars.svg"
    assert not pictures.is_current(path, stored)
    pictures.draw_picture(path, stored)
    assert pictures.is_current(path, stored)
    drawn = path.read_bytes()
    pictures.draw_picture(path, stored)
    assert path.read_bytes() == drawn, "drawing is deterministic"
    with (stored / "input_pipeline.json").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert not pictures.is_current(path, stored)


def test_links_of_pages_that_are_kept_elsewhere():
    assert (
        hook.rewrite_links("[a](docs/heads.md#x) ![b](docs/pictures/o.svg)", "")
        == "[a](heads.md#x) ![b](pictures/o.svg)"
    )
    assert hook.rewrite_links("[a](cache/README.md) [b](CHANGELOG.md)", "") == "[a](cache-file.md) [b](changelog.md)"
    assert hook.rewrite_links("[a](https://x.org) [b](#c)", "cache") == "[a](https://x.org) [b](#c)"
    assert hook.rewrite_links("[a](../docs/data.md)", "cache") == "[a](data.md)"
