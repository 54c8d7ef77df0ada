"""Tables of tfl against PyTorch. They take the stored result and return Markdown."""

from typing import Any

from record import Result

from documentation.blocks import format_table
from documentation.numbers import GIGABYTE, HOUR, format_duration, format_interval, format_number

FORMS = {
    "ours": "tfl",
    "fair-cached": "PyTorch, fair, cached",
    "fair": "PyTorch, fair, uncached",
    "article": "PyTorch, the article's",
}


def tabulate_hours(result: Result) -> str:
    """Hours of the whole job for every program, and when tfl pays."""
    found = result.findings["seconds"]
    ours = found["by_epoch"]["ours"]
    epochs = len(ours) - 1
    rows = []
    for form, name in FORMS.items():
        seconds = found["by_epoch"][form]
        times = format_number(seconds[-1] / ours[-1]) if form != "ours" else "1"
        even = found["break_even_epochs"].get(form)
        pays = "" if form == "ours" else "never" if even is None else f"{format_number(even, 2)} epochs"
        head = format_duration(found["one_more_head"][form])
        rows.append([name, format_number(seconds[-1] / HOUR), times, pays, head])
    header = ["program", f"hours, {epochs} epochs", "times tfl", "tfl pays after", "one more head"]
    return f"{found['title'].capitalize()}:\n\n{format_table(header, rows)}"


def tabulate_seconds(result: Result) -> str:
    """Seconds an image, measured, of each stage of every program."""
    columns = {"extract": "seconds an image, once", "epoch": "seconds an image, in an epoch"}
    rows = []
    for form, name in FORMS.items():
        stages = result.findings["stages"][form]
        stages = {**stages, "epoch": stages.get("fit", stages.get("train"))}
        cells = [_format_stage(stages.get(column)) for column in columns]
        rows.append([name, *cells, format_number(result.findings["peak_bytes"][form] / GIGABYTE)])
    return format_table(["program", *columns.values(), "peak memory, GB"], rows)


def _format_stage(stage: dict[str, Any] | None) -> str:
    if not stage:
        return ""
    low, high = (format_number(stage[key], 2) for key in ("least", "largest"))
    return f"{format_number(stage['median'])} ({low} to {high}; {stage['turns']} turn{'s' * (stage['turns'] != 1)})"


def tabulate_parity(result: Result) -> str:
    """How far both sides' numbers lie apart."""
    found = result.findings
    rows = []
    if pixels := found.get("pixels"):
        difference = f"{format_number(pixels['largest_difference'])} of 255"
        rows.append(["pixels given to the network", f"{pixels['num_images']} images", difference])
    if features := found.get("features"):
        for key, name in (("same_pixels", "features of the same pixels"), ("from_uint8", "features from uint8 images")):
            of = features[key]
            difference = f"{format_number(of['largest_difference'])} of the largest"
            rows.append([name, f"{of['num_images']} images", difference])
    training = format_number(found["training"]["largest_relative_difference"])
    num_rows = f"{found['rows']['train']:,} rows"
    rows.append(["training loss, same start and order", num_rows, f"{training}, relative"])
    return format_table(["compared", "on", "largest difference"], rows, align_right=2)


def tabulate_accuracy(result: Result) -> str:
    """Test accuracy of every program."""
    modes = {"train": ", left in training mode", "eval": ", after `eval()`"}
    rows = []
    for row in sorted(result.findings["accuracy"], key=lambda row: (-row["train"], list(FORMS).index(row["form"]))):
        name = FORMS[row["form"]] + modes.get(row["mode"], "")
        accuracy = format_interval(row["accuracy"], row["interval"])
        rows.append([name, f"{row['train']:,}", f"{row['test']:,}", accuracy])
    return format_table(["program", "trained on", "tested on", "test accuracy (95 % interval)"], rows)
