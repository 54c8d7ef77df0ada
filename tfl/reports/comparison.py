"""The findings of a comparison, in lines for people."""

from collections.abc import Iterator, Mapping

from tfl.comparison.findings import AccuracyFinding, Findings, SecondsFindings
from tfl.comparison.programs import TITLES
from tfl.comparison.timing import StageTiming
from tfl.reports.numbers import format_duration

MODES = {"": "", "train": " (left in training mode)", "eval": " (after eval())"}
WIDTH = 46
# The columns of the table of seconds, and their stages: a program has one stage of each column at most.
COLUMNS = {
    "before, an image": ("extract",),
    "an epoch, an image": ("fit", "train"),
    "testing an image": ("test",),
}
COLUMN_WITHOUT_IMAGES = "an epoch, an image"


def format_findings(findings: Findings) -> Iterator[str]:
    """Describe what a comparison found."""
    for part in (_format_setup, _format_parity, _format_accuracy, _format_stages):
        yield from part(findings)
        yield ""
    if findings.seconds is not None:
        yield from _format_seconds(findings.seconds, findings.epochs)


def _format_setup(findings: Findings) -> Iterator[str]:
    rows, machine = findings.rows, findings.machine
    yield f"{findings.cache}: {rows['train']:,} training and {rows['test']:,} test rows"
    if findings.slice:
        yield (
            f"the slice: its first {findings.slice['train']} and {findings.slice['test']} images at "
            f"{findings.image_size} pixels, {findings.compute_dtype} on both sides; weights of {findings.weights}"
        )
    yield f"batches of {findings.batch_size}, {findings.epochs} epochs; {machine.threads} threads on each side"
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    yield f"{machine.device}; the reference on {machine.reference_device}; {versions}"
    if findings.slice:
        fair = f"PyTorch's, fair, by {machine.fair_forward}, the faster of eager and torch.compile here"
        yield f"forward pass: ours by {machine.our_forward}; {fair}"
    for reason in findings.not_compared:
        yield f"not compared: {reason}"


def _format_parity(findings: Findings) -> Iterator[str]:
    if pixels := findings.pixels:
        yield (
            f"pixels    differ by {pixels.largest_difference:.1e} of 255 at most, {pixels.num_images} images "
            f"({pixels.resized_by_pil:.2f} where the reference resizes with PIL)"
        )
    if features := findings.features:
        same, whole = features.same_pixels, features.from_uint8
        yield (
            f"features  differ by {same.largest_difference:.1e} of the largest, {same.num_images} images, "
            f"same pixels; from uint8 by {whole.largest_difference:.1e}, {whole.num_images} images"
        )
    if findings.cache_difference is not None:
        yield f"cache     ours, computed again, differ from it by {findings.cache_difference:.1e} of the largest"
    training, losses = findings.training, findings.training.losses
    yield (
        f"training  losses differ by {training.largest_relative_difference:.1e} at most in {findings.epochs} epochs "
        f"on {findings.rows['train']:,} rows, same start and order; the last are {losses.ours[-1]:.6f} and "
        f"{losses.reference[-1]:.6f}"
    )


def _format_accuracy(findings: Findings) -> Iterator[str]:
    yield f"{'test accuracy':<{WIDTH}} {'trained on':>10} {'tested on':>10}   accuracy (95 % interval)"
    for row in sorted(findings.accuracy, key=_sort_key):
        low, high = row.interval
        name = TITLES[row.form] + MODES[row.mode]
        share = f"{row.accuracy:.2%} ({low:.2%} to {high:.2%})"
        yield f"{name:<{WIDTH}} {row.train:>10,} {row.test:>10,}   {share}"


def _sort_key(row: AccuracyFinding) -> tuple[int, int]:
    """Sort by the number of training images, largest first, and then as `TITLES`."""
    return -row.train, list(TITLES).index(row.form)


def _format_stages(findings: Findings) -> Iterator[str]:
    """Yield a row for each program; a batch is a turn, and so is a training on the cache's rows."""
    columns = list(COLUMNS) if findings.slice else [COLUMN_WITHOUT_IMAGES]
    yield _format_row("seconds", ["start-up", *columns, "peak memory"])
    for name, title in TITLES.items():
        stages = findings.stages.get(name)
        if stages:
            start = f"{stages['start-up'].seconds:.1f}" if "start-up" in stages else "-"
            cells = [_format_cell(stages, column) for column in columns]
            yield _format_row(title, [start, *cells, f"{findings.peak_bytes[name] / 1e9:.2f} GB"])
    yield "(median, least to largest, of n turns; start-up, and the first batch in it, is in no other number)"
    for stage, word in (("extract", "extracting"), ("fit", "training")):
        ratio = findings.ratios[stage]
        if ratio:
            yield (
                f"{word}: {TITLES['fair-cached']}, takes {ratio.median:.2f} times ours, turn by turn "
                f"({ratio.least:.2f} to {ratio.largest:.2f}, n = {ratio.turns})"
            )


def _format_cell(stages: Mapping[str, StageTiming], column: str) -> str:
    for stage in COLUMNS[column]:
        if stage in stages:
            timing = stages[stage]
            return f"{timing.median:.3g} ({timing.least:.2g} to {timing.largest:.2g}) n={timing.turns}"
    return "-"


def _format_row(name: str, cells: list[str]) -> str:
    first, *middle, last = cells
    return f"{name:<24} {first:>8}" + "".join(f" {cell:>32}" for cell in middle) + f" {last:>11}"


def _format_seconds(seconds: SecondsFindings, epochs: int) -> Iterator[str]:
    yield f"{epochs} epochs, {seconds.title} from the medians above:"
    yield f"  {seconds.formula}"
    for name in TITLES:
        yield _format_program(seconds, name)
    alone = seconds.caching_alone
    when = "never" if alone.break_even_epochs is None else f"after {alone.break_even_epochs:.2f} epochs"
    yield f"  caching alone, fair uncached over fair cached: {alone.times:.1f} times; it pays {when}"


def _format_program(seconds: SecondsFindings, name: str) -> str:
    costs, total = seconds.costs[name], format_duration(seconds.by_epoch[name][-1])
    per_image = f"once {costs.once:.3g}, each_epoch {costs.each_epoch:.3g}, at_end {costs.at_end:.3g}"
    line = f"  {TITLES[name]:<24} {total:>14}  ({per_image})"
    if name != "ours":
        even = seconds.break_even_epochs[name]
        when = "ours never pays" if even is None else f"ours pays after {even:.2f} epochs"
        line += f"  {seconds.times_ours[name]:.1f} times ours; {when}"
    return f"{line}; one more head {format_duration(seconds.one_more_head[name])}"
