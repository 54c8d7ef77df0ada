"""Tables of the whole job on a GPU. They take the stored result and return Markdown."""

from record import Result

from documentation.blocks import format_table
from documentation.numbers import format_share, format_spread
from documentation.speed_tables import name_way

COMMANDS = {"cold": "first time, nothing compiled", "warm": "again, with the compiled programs that were kept"}


def tabulate_rates(result: Result) -> str:
    """Images/s of the bare forward passes."""
    rates = result.results["bare_images_per_second"]
    fastest_first = sorted(rates, key=lambda way: -max(rates[way]))
    rows = [[name_way(way), format_spread(rates[way])] for way in fastest_first]
    failures = [f"{name_way(way)} failed: `{reason}`" for way, reason in result.failed.items() if way in rates]
    return "\n\n".join([format_table(["forward pass", "images/s"], rows), *failures])


def tabulate_command(result: Result) -> str:
    """Seconds of the whole command, from its start to the finished file."""
    results = result.results
    shares = results.get("gpu_percent_while_extracting", {})
    rows = []
    for way, seconds in results["command_seconds"].items():
        rates = results.get("command_images_per_second", {}).get(way, [])
        busy = [f"{format_spread(shares[way], 2)} %"] if way in shares else [""]
        name = COMMANDS.get(way, f"`{way}`")
        rows.append([name, format_spread(seconds), format_spread(rates) if rates else "", *busy])
    resumed = results.get("resume_seconds", {}).get("resumed")
    if resumed:
        rows.append(["resumed after a kill half-way", format_spread(resumed), "", ""])
    images = f"{result.settings['num_images']:,} images"
    return format_table([f"`tfl precompute`, {images}", "seconds", "images/s while extracting", "GPU busy"], rows)


def tabulate_training(result: Result) -> str:
    """Seconds of training each recipe: in a warm process, and as a command."""
    results = result.results
    accuracies = result.findings.get("test_accuracy", {})
    rows = []
    for recipe, seconds in results["train_seconds"].items():
        command = results.get("train_command_seconds", {}).get(recipe, [])
        accuracy = accuracies.get(recipe)
        cells = [format_spread(seconds), format_spread(command) if command else ""]
        rows.append([f"`{recipe}`", *cells, format_share(accuracy) if accuracy is not None else ""])
    header = ["recipe", "seconds in a warm process", "seconds of `tfl train`", "test accuracy"]
    return format_table(header, rows)


def tabulate_precision(result: Result) -> str:
    """Operations a second in each arithmetic."""
    rows = []
    for way, numbers in result.results["tera_operations_per_second"].items():
        rows.append([way, format_spread(numbers)])
    rows += [[way, "failed"] for way in result.failed]
    return format_table(["operation", "tera-operations/s"], rows)
