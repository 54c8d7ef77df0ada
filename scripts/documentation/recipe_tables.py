"""Tables of recipes on different features and on few images. They take a stored result and return Markdown."""

import statistics
from typing import Any

from record import Result

from documentation.blocks import format_table
from documentation.numbers import (
    GIGABYTE,
    format_duration,
    format_interval,
    format_number,
    format_p,
    format_share,
    format_spread,
)

SUMMARY_ROWS = 4


def _recipe_ways(result: Result) -> list[str]:
    """The ways of the recipes' result, best first."""
    accuracy = result.results["accuracy"]
    return sorted(accuracy, key=lambda way: -accuracy[way][0])


def _recipe_cells(result: Result, way: str) -> list[str]:
    found = result.findings["ways"][way]
    accuracy = format_interval(result.results["accuracy"][way][0], found["interval"])
    recipe = way.partition(" | ")[0]
    return [f"`{recipe}`", found["features"], f"{found['columns']:,}", accuracy]


def tabulate_recipes(result: Result) -> str:
    """Accuracy and seconds of every recipe, best first, each tested against the row above."""
    tests = result.findings.get("mcnemar", {})
    rows = []
    for way in _recipe_ways(result):
        seconds = format_spread(result.results["seconds"][way])
        p = format_p(tests[way]["p"]) if way in tests else ""
        rows.append([*_recipe_cells(result, way), seconds, p])
    header = ["recipe", "features", "columns", "test accuracy (95 % interval)", "seconds", "against the row above"]
    return format_table(header, rows, align_right=2)


def tabulate_precompute(result: Result) -> str:
    """What the features of the recipes cost."""
    rows, seen = [], set()
    for found in result.findings["ways"].values():
        name = found["features"]
        if name in seen or not found.get("images_computed"):
            continue
        seen.add(name)
        seconds, images = found["precompute_seconds"], found["images_computed"]
        cost = [f"{images:,}", format_number(seconds), format_number(images / seconds)]
        rows.append([name, found["engine"], found["compute_dtype"], *cost, format_number(found["bytes"] / GIGABYTE)])
    header = ["features", "engine", "arithmetic", "images computed", "seconds", "images/s", "file, GB"]
    return format_table(header, rows, align_right=3)


def tabulate_best(result: Result) -> str:
    """Every recipe that `best` tried: how many settings, its best validation accuracy, its seconds."""
    found = result.findings
    rows = [_row_of_trials(trials, found["chosen"]) for trials in group_trials(found["trials"])]
    test = format_interval(result.results["accuracy"]["test"][0], found["interval"])
    seconds = format_spread(result.results["seconds"]["whole command"])
    rows.append([f"whole command; the test accuracy of {found['test_rows']:,} images is {test}", "", "", "", seconds])
    header = ["recipe", "settings tried", "best of them", "validation accuracy", "seconds"]
    return format_table(header, rows, align_right=3)


def group_trials(trials: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the trials of each recipe; a recipe that stands several times has one trial each time."""
    groups: list[list[dict[str, Any]]] = []
    for trial in trials:
        is_next = bool(groups) and groups[-1][0]["recipe"] == trial["recipe"] and "hidden" not in trial["setting"]
        if is_next:
            groups[-1].append(trial)
        else:
            groups.append([trial])
    return groups


def _row_of_trials(trials: list[dict[str, Any]], chosen: dict[str, Any]) -> list[str]:
    places = [(trial["recipe"], trial["setting"]) for trial in trials]
    is_chosen = (chosen["recipe"], chosen["setting"]) in places
    # Of equal accuracies the loss decides, so the best one by accuracy may not be the one that was chosen.
    best = chosen if is_chosen else max(trials, key=lambda trial: trial["val_accuracy"])
    name = f"`{best['recipe']}`" + (", chosen" if is_chosen else "")
    seconds = sum(trial.get("seconds", 0.0) for trial in trials)
    setting = format_setting(best["setting"])
    return [name, str(len(trials)), setting, format_share(best["val_accuracy"]), format_number(seconds)]


def format_setting(setting: dict[str, Any]) -> str:
    """Return a setting in words: "hidden 1024-1024, dropout 0.5"."""
    words = []
    for name, value in setting.items():
        shown = "-".join(map(str, value)) if isinstance(value, list) else str(value)
        words.append(f"{name} {shown}")
    return ", ".join(words)


def tabulate_frozen_features(result: Result) -> str:
    """Validation accuracy and seconds of every candidate, and the test accuracy of the chosen one."""
    results, found = result.results, result.findings
    rows = []
    for name, seconds in results["seconds"].items():
        views = len(found["candidates"][name]["settings"]["views"])
        accuracy = format_share(results["val_accuracy"][name][0])
        rows.append([name, str(views), accuracy, format_spread(seconds), "", ""])
    for name, accuracies in results.get("accuracy", {}).items():
        accuracy = format_interval(accuracies[0], found["interval"])
        chosen = f"**chosen**: {name}"
        refit = format_spread(results["refit_seconds"][name])
        rows.append([chosen, "", format_share(results["val_accuracy"][name][0]), "", refit, accuracy])
    header = ["head", "views", "validation accuracy", "seconds to search", "seconds to fit again", "test accuracy"]
    table = format_table(header, rows)
    unread = "" if "accuracy" in results else " Nothing has been fitted again, and the test rows are unread."
    return f"{table}\n\n{_describe_extraction(found)} The aim is {format_share(found['aim'])}.{unread}"


def _describe_extraction(found: dict[str, Any]) -> str:
    """Return a sentence about what the features of a cache cost."""
    seconds, images = found["precompute_seconds"], found["images_computed"]
    size = f"{found['bytes'] / GIGABYTE:.1f} GB"
    what = f"{found['features']}, {found['columns']:,} columns, {found['compute_dtype']}"
    if not seconds or not images:
        return f"The features: {what}; {size}."
    rate = format_number(images / seconds)
    return f"The features: {what}; {format_duration(seconds)} of extraction at {rate} images/s, {size}."


def tabulate_summary(result: Result) -> str:
    """Four rows for a front page: the article's recipe, and the best recipes of growing cost."""
    ways = result.results["accuracy"]
    seconds = result.results["seconds"]
    article = [way for way in ways if way.startswith("reference |")][:1]
    chosen = list(article)
    # From cheap to dear, a row stands here if it beats all that are cheaper.
    best = max((ways[way][0] for way in chosen), default=0.0)
    frontier = []
    for way in sorted(ways, key=lambda way: seconds[way][0]):
        if way not in chosen and ways[way][0] > best:
            best = ways[way][0]
            frontier.append(way)
    chosen += spread_evenly(frontier, SUMMARY_ROWS - len(chosen))
    rows = []
    for way in chosen:
        recipe, features, _, accuracy = _recipe_cells(result, way)
        rows.append([recipe, features, accuracy, format_spread(seconds[way])])
    header = ["recipe", "features", "test accuracy (95 % interval)", "seconds to train"]
    return format_table(header, rows, align_right=2)


def spread_evenly(items: list[str], count: int) -> list[str]:
    """Return so many items, the last one among them, evenly spread."""
    if len(items) <= count:
        return items
    step = len(items) / count
    return [items[round(step * (place + 1)) - 1] for place in range(count)]


def tabulate_few_shot(result: Result) -> str:
    """Mean and standard deviation of the accuracy, by recipe and images per class."""
    accuracy = result.results["accuracy"]
    shots = result.settings["shots"]
    recipes = list(dict.fromkeys(way.rpartition(", ")[0] for way in accuracy))
    rows = [[f"`{recipe}`", *(format_mean(accuracy[f"{recipe}, {count}"]) for count in shots)] for recipe in recipes]
    return format_table(["images per class", *map(str, shots)], rows)


def format_mean(accuracies: list[float]) -> str:
    """Return mean ± standard deviation, in per cent."""
    deviation = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    return f"{100 * statistics.mean(accuracies):.1f} ± {100 * deviation:.1f} %"


def tabulate_image_size(result: Result) -> str:
    """Accuracy by image size and layers."""
    accuracy, intervals = result.results["accuracy"], result.findings["intervals"]
    rows = []
    for size in result.settings["sizes"]:
        ways = [f"{size}, one layer", f"{size}, three layers"]
        cells = [format_interval(accuracy[way][0], intervals[way]) for way in ways]
        rows.append([str(size), *cells, format_spread(result.results["precompute_seconds"][f"{size} pixels"])])
    header = ["`--image-size`", "last layer, `logistic`", "three layers, `ridge`", "seconds of `precompute`"]
    return format_table(header, rows)


def tabulate_quickstart(result: Result) -> str:
    """Seconds and accuracy of the quickstart."""
    accuracy = format_interval(result.results["accuracy"]["test"][0], result.findings["interval"])
    seconds = format_spread(result.results["seconds"]["whole command"])
    rows = [
        [f"test accuracy of {result.findings['test_rows']:,} images (95 % interval)", accuracy],
        ["seconds of the whole command", seconds],
    ]
    return format_table(["", "measured"], rows)


def tabulate_real_data(result: Result) -> str:
    """Test accuracy and seconds of each dataset, from its images to a tested head."""
    rows = []
    for name, seconds in result.results["seconds"].items():
        found = result.findings[name]
        accuracy = format_interval(result.results["accuracy"][name][0], found["interval"])
        rows.append([name, f"{found['test_rows']:,}", accuracy, format_spread(seconds)])
    recipe, dtype = (result.settings[key] for key in ("recipe", "compute_dtype"))
    header = ["images", "test images", "test accuracy (95 % interval)", "seconds"]
    return f"{format_table(header, rows)}\n\nResNet50 at 224 pixels in {dtype}, `{recipe}`."
