"""The table of scikit-learn's estimators. It takes a stored result and returns Markdown."""

from record import Result

from documentation.blocks import format_table
from documentation.numbers import format_interval, format_number


def tabulate_estimators(result: Result) -> str:
    """Return seconds of a first fit and of a search, and the accuracy of what the search chose."""
    seconds, accuracy, findings = result.results["seconds"], result.results["accuracy"], result.findings
    (first,), (search,) = seconds["first fit"], seconds["search"]
    num_images, num_fits = findings["train_images"], findings["fits"]
    rows = [
        [f"first fit: {num_images:,} images through the network", format_number(first)],
        [f"search on the same images: {num_fits:,} fits", format_number(search)],
    ]
    intervals = findings["interval"]
    shares = [[way, format_interval(share, intervals[way])] for way, (share,) in accuracy.items()]
    title = f"test accuracy, {findings['test_images']:,} images (95 % interval)"
    return "\n\n".join([format_table(["step", "seconds"], rows), format_table(["classifier", title], shares)])
