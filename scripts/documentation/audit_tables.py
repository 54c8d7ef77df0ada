"""Tables of the audit. They take the stored result and return Markdown."""

import statistics

from record import Result

from documentation.blocks import format_table
from documentation.numbers import GIGABYTE, HOUR, format_number

MILLION = 1_000_000


def tabulate_findings(result: Result) -> str:
    """How many of the published duplicates and wrong labels are among the first findings, and what the command took."""
    pairs, labels = result.findings["duplicates"], result.findings["labels"]
    rows = []
    for count, hits in pairs["found_in_first"].items():
        rows.append([f"first {int(count):,} pairs", str(hits["pairs"]), str(hits["images"])])
    rows.append(["all there are", str(pairs["num_true"]), str(pairs["num_true"])])
    duplicates = format_table(["test and training image", "published pairs", "test images with a published pair"], rows)
    rows = [[f"first {int(count):,} test images", str(hits)] for count, hits in labels["found_in_first"].items()]
    rows.append(["all there are", str(labels["num_true"])])
    wrong = format_table(["labels", "rejected by people"], rows)
    return f"{duplicates}\n\n{wrong}\n\n{_describe_cost(result)} {_describe_leaks(result)}"


def _describe_cost(result: Result) -> str:
    quantities = ("seconds", "cpu_seconds", "peak_bytes")
    seconds, cpu, peak = (statistics.median(result.results[name]["tfl audit"]) for name in quantities)
    hours = seconds * (MILLION / sum(result.settings["rows"].values())) ** 2 / HOUR
    return (
        f"The command took {format_number(seconds)} s, {format_number(cpu)} s of processor time over all cores, and "
        f"{format_number(peak / GIGABYTE)} GB of memory. If all of it grew with the square of the images, "
        f"1,000,000 would take {format_number(hours, 2)} hours."
    )


def _describe_leaks(result: Result) -> str:
    (leak,) = result.findings["leaks"]
    return (
        f"{leak['num_leaked']} of {leak['num_rows']:,} test images have a training image of the same picture, by the "
        f"audit: its own scores are right for {leak['accuracy']:.2%} of all test images, and for "
        f"{leak['accuracy_without']:.2%} of the others."
    )


def tabulate_left_out(result: Result) -> str:
    """Test accuracy with suspicious training rows left out."""
    found = result.findings["left_out"]
    rows = [[f"{int(count):,}", f"{accuracy:.2%}"] for count, accuracy in found.items()]
    return format_table(["training rows left out", "test accuracy"], rows)
