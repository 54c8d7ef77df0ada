"""Tables of speed and memory. They take a stored result and return Markdown."""

from record import Result

from documentation.blocks import format_table
from documentation.numbers import GIGABYTE, format_number, format_p, format_share, format_spread

NAMES = {
    "keras predict": "Keras predict on the whole model",
    "openvino": "OpenVINO",
    "tensorflow": "TensorFlow",
    "pytorch": "PyTorch",
    "keras": "Keras",
    "jax": "JAX",
}
BOUND = " matrix product bound"
MEGABYTE, MILLISECONDS = 1e6, 1e3


def name_way(way: str) -> str:
    """Return what a way is called in tables and pictures: "OpenVINO, bfloat16"."""
    if way in NAMES:
        return NAMES[way]
    if way.endswith(BOUND):
        return f"matrix products as a bound, {way.removesuffix(BOUND)}"
    first, _, rest = way.partition(" ")
    if first not in NAMES:
        return way.replace("keras", "Keras")
    return f"{NAMES[first]}, {rest}" if rest else NAMES[first]


def tabulate_extraction(result: Result) -> str:
    """Images/s of every way, and how many times Keras `predict` that is."""
    rates = result.results["images_per_second"]
    over_naive = result.findings["median_over_keras_predict"]
    fastest_first = sorted(rates, key=lambda way: -over_naive[way])
    rows = [[name_way(way), format_spread(rates[way]), format_number(over_naive[way])] for way in fastest_first]
    table = format_table(["forward pass", "images/s", "times Keras predict"], rows)
    failures = [f"{name_way(way)} failed: `{reason}`" for way, reason in result.failed.items()]
    return "\n\n".join([table, *failures])


def tabulate_command_over_bare(result: Result) -> str:
    """Images/s of the whole command without its start, beside those of the bare forward pass."""
    rates = result.results["images_per_second_of_command"]
    rows = []
    for dtype, ratios in result.results["command_over_bare"].items():
        cells = [rates[f"command {dtype}"], rates[f"bare {dtype}"], ratios]
        rows.append([dtype, *map(format_spread, cells)])
    return format_table(["arithmetic", "`tfl precompute`, images/s", "forward pass alone, images/s", "share"], rows)


def tabulate_start_up(result: Result) -> str:
    """Seconds of the stages of a small `tfl precompute`, without and with a compiled network that was kept."""
    stages: dict[str, dict[str, list[float]]] = {}
    for way, seconds in result.results["precompute_seconds"].items():
        command, stage = way.split(", ", 2)[:2], way.split(", ", 2)[2]
        stages.setdefault(", ".join(command), {})[stage] = seconds
    shown = ("start-up", "compilation and first shard", "to the first batch", "whole command")
    rows = [[command, *(format_spread(of[stage]) for stage in shown)] for command, of in stages.items()]
    return format_table(["command", *(f"{stage}, s" for stage in shown)], rows)


def tabulate_arithmetic(result: Result) -> str:
    """Accuracy in each arithmetic, and whether it differs from the first one's."""
    accuracy = result.results["accuracy"]
    dtypes = list(dict.fromkeys(way.rpartition(", ")[2] for way in accuracy))
    recipes = list(dict.fromkeys(way.rpartition(", ")[0] for way in accuracy))
    rows = []
    for recipe in recipes:
        cells = [f"`{recipe}`"]
        for dtype in dtypes:
            found = result.findings.get(f"{recipe}, {dtypes[0]} against {dtype}")
            p = f" ({format_p(found['p_value'])})" if found else ""
            cells.append(format_share(accuracy[f"{recipe}, {dtype}"][0]) + p)
        rows.append(cells)
    seconds = result.results.get("precompute_seconds", {})
    if seconds:
        rows.append(["seconds of `precompute`", *(format_spread(seconds.get(dtype, [])) for dtype in dtypes)])
    tested = result.settings.get("test_rows")
    title = f"test accuracy, {tested:,} images" if tested else "test accuracy"
    return format_table([title, *dtypes], rows)


def tabulate_whole_command(result: Result) -> str:
    """Seconds of the whole command in each arithmetic, and of Keras `predict`."""
    seconds, rates = result.results["seconds"], result.results["images_per_second"]
    rows = [[name_command(way), format_spread(seconds[way]), format_spread(rates[way])] for way in seconds]
    header = [f"{result.settings['images']:,} images", "seconds, start-up included", "images/s"]
    return format_table(header, rows)


def show_whole_command(result: Result) -> str:
    """Picture and table of the whole command; the picture is drawn when the pages are made."""
    picture = "![Seconds of the whole command in each arithmetic](pictures/whole_command.svg)"
    return f"{picture}\n\n{tabulate_whole_command(result)}"


def tabulate_times_faster(result: Result) -> str:
    """How many times faster one way was than another in the same turn, beside the goal."""
    goals = result.findings["goals"]
    rows = []
    for pair, numbers in result.results.get("times_faster", {}).items():
        way, base = pair.split(" over ")
        goal = f"{goals[pair]:.1f}" if pair in goals else ""
        rows.append([name_command(way), name_command(base), format_spread(numbers), goal])
    return format_table(["faster", "than", "times", "goal"], rows, align_right=2)


PLAIN_COMMANDS = {  # in pictures
    "keras predict": "Keras predict",
    "float32": "tfl, float32",
    "bfloat16": "tfl, bfloat16",
    "int8, cold": "tfl, int8, calibrating first",
    "int8, warm": "tfl, int8, quantised before",
}
COMMANDS = {
    "keras predict": "a program that calls Keras `predict`",
    "keras predict, without start-up": "its `predict` alone",
    "int8, cold": "`tfl precompute`, int8, calibration included",
    "int8, warm": "`tfl precompute`, int8, quantised before",
}


def name_command(way: str) -> str:
    """Return what a way to do the whole job is called in tables."""
    return COMMANDS.get(way, f"`tfl precompute`, {way}")


def tabulate_calibration(result: Result) -> str:
    """Seconds, change of the features and accuracy of each way to calibrate."""
    results = result.results
    rows = []
    for way, accuracies in results["accuracy"].items():
        seconds = results["seconds"].get(way, [])
        change = results["relative_change"][way]
        shown = format_spread([100 * share for share in change])
        accuracy = format_spread([100 * share for share in accuracies], 4)
        rows.append([way, format_spread(seconds) if seconds else "", f"{shown} %", f"{accuracy} %"])
    header = ["calibrated on", "seconds", "features move by", f"accuracy of `{result.settings['head']}`"]
    return format_table(header, rows)


def tabulate_input_pipeline(result: Result) -> str:
    """Images/s of each source."""
    names = {"npz": "`.npz`, every row compared with its digest", "TFDS": "TFDS, CIFAR-10"}
    rates = result.results["images_per_second"]
    rows = [[names.get(source, source), format_spread(of)] for source, of in rates.items()]
    return format_table(["source", "images/s"], rows)


def tabulate_memory(result: Result) -> str:
    """Peak memory of precompute and merge."""
    rows = [
        [way, format_spread([number / GIGABYTE for number in of]), format_spread(result.results["seconds"][way])]
        for way, of in result.results["peak_bytes"].items()
    ]
    return format_table(["stage", "peak memory, GB", "seconds"], rows)


def tabulate_predict_memory(result: Result) -> str:
    """Peak memory of predict for each format."""
    rows = []
    for way, peaks in result.results["peak_bytes"].items():
        rows.append([f"`{way}`", format_spread([peak / GIGABYTE for peak in peaks])])
    return format_table(["format", "peak memory, GB"], rows)


def tabulate_exported_models(result: Result) -> str:
    """Size, start-up, latency, throughput, parity and accuracy of every format."""
    results, findings = result.results, result.findings
    accuracies = findings.get("accuracy", {})
    calls = result.settings["calls_in_a_repeat"]["1"]
    rows = []
    for way, (size,) in results["bytes"].items():
        latencies = [MILLISECONDS * seconds / calls for seconds in results["seconds_of_batch_of_1"].get(way, [])]
        starts = results["start_seconds"].get(way, [])
        throughput = findings["median_throughput_over_first"].get(way)
        parity = findings["parity"][way]["largest_difference"]
        rows.append(
            [
                name_format(way),
                format_number(size / MEGABYTE),
                format_spread(starts) if starts else "",
                format_spread(latencies) if latencies else "",
                format_number(throughput) if throughput else "",
                format_number(parity),
                format_share(accuracies[way]) if way in accuracies else "",
            ]
        )
    header = ["format", "MB", "start-up, s", "latency, ms", "throughput", "logits differ by", "accuracy"]
    return format_table(header, rows)


def name_format(way: str) -> str:
    """Return the name of a format as code, and how it was exported: "`onnx`, float16"."""
    name, comma, rest = way.partition(", ")
    return f"`{name}`{comma}{rest}"


def tabulate_heads(result: Result) -> str:
    """Seconds and accuracy of training heads in several ways."""
    accuracies = result.findings.get("test_accuracy", {})
    rows = []
    for way, seconds in result.results["seconds"].items():
        accuracy = accuracies.get(way)
        rows.append([way, format_spread(seconds), format_share(accuracy) if accuracy is not None else ""])
    settings = result.settings
    title = f"{settings['rows']:,} rows of {settings['features']:,} columns"
    table = format_table([title, "seconds", f"accuracy, {settings['test_rows']:,} test rows"], rows)
    ours, theirs = settings["logistic_max_iterations"], settings["scikit_learn_max_iter"]
    return f"{table}\n\nFor each penalty at most {theirs} iterations of L-BFGS in scikit-learn, {ours} in tfl."


def tabulate_reading(result: Result) -> str:
    """Seconds of reading a cache in several ways."""
    rows = [[way, format_spread(seconds)] for way, seconds in result.results["seconds"].items()]
    return format_table(["read by", "seconds"], rows)


def tabulate_recipe_memory(result: Result) -> str:
    """Memory that each recipe takes, and asks for, in copies of one view's features."""
    asked = result.results["copies_of_one_view_asked_for"]
    taken = result.results["copies_of_one_view_taken"]
    rows = []
    for way, copies in taken.items():
        rows.append([way, format_spread(copies, 2), format_spread(asked[way], 2) if way in asked else ""])
    return format_table(["recipe", "copies taken", "copies asked for"], rows)


def tabulate_many_files(result: Result) -> str:
    """Seconds and peak memory of the command on each folder."""
    rows = []
    for way, seconds in result.results["seconds"].items():
        peaks = [peak / GIGABYTE for peak in result.results["peak_bytes"][way]]
        rows.append([way, format_spread(seconds), format_spread(peaks)])
    return format_table(["folder", "seconds", "most memory, GB"], rows)
