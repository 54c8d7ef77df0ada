"""A comparison in lines for people."""

from collections.abc import Iterator
from typing import Any

from tfl.reports import formatting

FORMS = {
    "ours": "ours",
    "fair-cached": "PyTorch, fair, cached",
    "fair": "PyTorch, fair, uncached",
    "article": "PyTorch, the article's",
}
MODES = {"train": " (left in training mode)", "eval": " (after eval())"}
WIDTH = 46
# The columns of the table of seconds: the stages, of which each form has one at most.
COLUMNS = {"before, an image": ("extract",), "an epoch, an image": ("fit", "train"), "testing an image": ("test",)}


def format_lines(found: dict[str, Any]) -> Iterator[str]:
    """What `tfl.comparison.compare` found."""
    for part in (_head, _parity, _accuracy, _stages):
        yield from part(found)
        yield ""
    if "seconds" in found:
        yield from _whole_job(found)


def _head(found: dict[str, Any]) -> Iterator[str]:
    rows, sliced, machine = found["rows"], found["slice"], found["machine"]
    yield f"{found['cache']}: {rows['train']:,} training and {rows['test']:,} test rows"
    if sliced:
        yield (
            f"the slice: its first {sliced['train']} and {sliced['test']} images at {found['image_size']} pixels, "
            f"{found['compute_dtype']} on both sides; weights of {found['weights']}"
        )
    yield f"batches of {found['batch_size']}, {found['epochs']} epochs; {machine['threads']} threads on each side"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield f"{machine['device']}, of the reference {machine['reference_device']}; {versions}"
    if sliced:
        fair = f"PyTorch's, fair, by {machine['fair_forward']}, the faster here of eager and torch.compile"
        yield f"forward pass: ours by {machine['our_forward']}; {fair}"
    for reason in found["not_compared"]:
        yield f"not compared: {reason}"


def _parity(found: dict[str, Any]) -> Iterator[str]:
    if pixels := found.get("pixels"):
        yield (
            f"pixels    differ by {pixels['largest_difference']:.1e} of 255 at most, {pixels['num_images']} images "
            f"({pixels['resized_by_pil']:.2f} where the reference resizes with PIL)"
        )
    if features := found.get("features"):
        same, whole = features["same_pixels"], features["from_uint8"]
        yield (
            f"features  differ by {same['largest_difference']:.1e} of the largest, {same['num_images']} images, "
            f"same pixels; from uint8 by {whole['largest_difference']:.1e}, {whole['num_images']} images"
        )
    if "cache_difference" in found:
        yield f"cache     ours, computed again, differ from it by {found['cache_difference']:.1e} of the largest"
    training, num_rows = found["training"], found["rows"]["train"]
    ours, reference = (training["losses"][side][-1] for side in ("ours", "reference"))
    yield (
        f"training  losses differ by {training['largest_relative_difference']:.1e} at most in {found['epochs']} epochs "
        f"on {num_rows:,} rows, same start and order; the last are {ours:.6f} and {reference:.6f}"
    )


def _accuracy(found: dict[str, Any]) -> Iterator[str]:
    yield f"{'test accuracy':<{WIDTH}} {'trained on':>10} {'tested on':>10}   accuracy (95 % interval)"
    order = list(FORMS)
    for row in sorted(found["accuracy"], key=lambda row: (-row["train"], order.index(row["form"]))):
        low, high = row["interval"]
        name = FORMS[row["form"]] + MODES.get(row["mode"], "")
        share = f"{row['accuracy']:.2%} ({low:.2%} to {high:.2%})"
        yield f"{name:<{WIDTH}} {row['train']:>10,} {row['test']:>10,}   {share}"


def _stages(found: dict[str, Any]) -> Iterator[str]:
    """A row a form; a batch is a turn, and so is a training on the cache's rows."""
    columns = list(COLUMNS) if found["slice"] else ["an epoch, an image"]
    yield _row("seconds", ["start-up", *columns, "peak memory"])
    for form, name in FORMS.items():
        if stages := found["stages"].get(form):
            cells = [_cell([stages[stage] for stage in COLUMNS[column] if stage in stages]) for column in columns]
            start = f"{stages['start-up']['seconds']:.1f}" if "start-up" in stages else "-"
            yield _row(name, [start, *cells, f"{found['peak_bytes'][form] / 1e9:.2f} GB"])
    yield "(median, least to largest, of n turns; start-up, and the first batch in it, is in no other number)"
    for stage, name in (("extract", "extracting"), ("fit", "training")):
        if ratio := found["ratios"][stage]:
            yield (
                f"{name}: {FORMS['fair-cached']}, takes {ratio['median']:.2f} times ours, turn by turn "
                f"({ratio['least']:.2f} to {ratio['largest']:.2f}, n = {ratio['turns']})"
            )


def _cell(stages: list[Any]) -> str:
    if not stages:
        return "-"
    (stage,) = stages
    return f"{stage['median']:.3g} ({stage['least']:.2g} to {stage['largest']:.2g}) n={stage['turns']}"


def _row(name: str, cells: list[str]) -> str:
    first, *middle, last = cells
    return f"{name:<24} {first:>8}" + "".join(f" {cell:>32}" for cell in middle) + f" {last:>11}"


def _whole_job(found: dict[str, Any]) -> Iterator[str]:
    seconds, epochs = found["seconds"], found["epochs"]
    yield f"{epochs} epochs, {seconds['title']} from the medians above:"
    yield f"  {seconds['formula']}"
    for form, name in FORMS.items():
        costs, even = seconds["costs"][form], seconds["break_even_epochs"].get(form)
        of_form = ", ".join(f"{key} {value:.3g}" for key, value in costs.items())
        line = f"  {name:<24} {formatting.format_duration(seconds['by_epoch'][form][-1]):>14}  ({of_form})"
        if form != "ours":
            when = "ours never pays" if even is None else f"ours pays after {even:.2f} epochs"
            line += f"  {seconds['times_ours'][form]:.1f} times ours; {when}"
        yield f"{line}; one more head {formatting.format_duration(seconds['one_more_head'][form])}"
    alone = seconds["caching_alone"]
    when = "never" if alone["break_even_epochs"] is None else f"after {alone['break_even_epochs']:.2f} epochs"
    yield f"  caching alone, fair uncached over fair cached: {alone['times']:.1f} times; it pays {when}"
