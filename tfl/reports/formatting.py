"""What the commands found, in lines for people; the same as JSON is what the functions return.

Names stand in columns as wide as what is shown of them: escaped, for they come from files and users.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from tfl.text import display_width, pad, to_printable

MAX_CLASSES_SHOWN = 20


UNDEFINED = "undefined"


def format_metrics(metrics: dict[str, Any]) -> Iterator[str]:
    """Metrics of the test rows, as `tfl.run.evaluate` gives them; what has no value is called undefined."""
    yield f"test accuracy {format_share(metrics['accuracy'])} of {metrics['num_rows']} ({format_interval(metrics)})"
    for name, of_class in _in_column(metrics["accuracy_per_class"]):
        yield f"  {name}  " + ("no rows" if of_class is None else f"{of_class:7.2%}")
    shares = {"balanced accuracy": "balanced_accuracy", "top-5 accuracy": "top_5_accuracy"}
    words = [f"{word} {metrics[key]:.2%}" for word, key in shares.items() if metrics[key] is not None]
    areas = {"ROC AUC": "roc_auc", "average precision": "average_precision"}
    words += [f"{word} {format_number(metrics[key])}" for word, key in areas.items() if key in metrics]
    words += [
        f"loss {format_number(metrics['loss'])}",
        f"calibration error {format_number(metrics['calibration_error'])}",
    ]
    yield ", ".join(words)
    if calibration := metrics.get("calibration"):
        errors = " to ".join(format_number(calibration[when]["calibration_error"]) for when in ("before", "after"))
        place = "in the head" if calibration["is_folded"] else "--calibrate puts it into the head"
        yield f"temperature {calibration['temperature']:.3f} takes the calibration error from {errors} ({place})"
    if at := metrics.get("at_threshold"):
        names = ("accuracy", "balanced_accuracy", "precision", "recall", "f1")
        numbers = ", ".join(f"{name.replace('_', ' ')} {format_share(at[name])}" for name in names)
        yield f"at threshold {at['threshold']:.3f}: {numbers}"


def format_share(value: float | None) -> str:
    """Return a share in 0..1 as per cent; what has no value is undefined."""
    return UNDEFINED if value is None else f"{value:.2%}"


def format_number(value: float | None) -> str:
    """Return a number with four decimals, never -0.0000; what has no value is undefined."""
    return UNDEFINED if value is None else f"{round(value, 4) + 0.0:.4f}"


def format_interval(metrics: dict[str, Any]) -> str:
    """Return the interval of the accuracy of some metrics, in words."""
    if metrics["accuracy_interval_95"] is None:
        return "no rows"
    low, high = metrics["accuracy_interval_95"]
    return f"95 % interval {low:.2%} to {high:.2%}"


def format_comparison(found: dict[str, Any]) -> Iterator[str]:
    """Two runs on the same test rows, as `tfl.run.compare` gives them."""
    for key in ("a", "b"):
        yield f"{key}  {found['accuracy'][key]:.2%}  {found[key]}"
    yield (
        f"of {found['num_rows']:,} test rows, {found['only_a']} are right in a alone and {found['only_b']} in b alone: "
        f"difference {found['difference']:+.2%}, p = {found['p_value']:.3g} (McNemar, exact)"
    )


def format_runs(found: list[dict[str, Any]]) -> Iterator[str]:
    """A table of runs, as `tfl.run.list_runs` gives them."""
    heading, *names = _aligned(["run", *(run["name"] for run in found)])
    yield f"{heading}  {'recipe':<10} {'test accuracy':>26} {'seconds':>8}  chosen"
    for name, run in zip(names, found, strict=True):
        interval = "" if run["interval"] is None else f" ({run['interval'][0]:.2%} to {run['interval'][1]:.2%})"
        accuracy = "no test rows" if run["accuracy"] is None else f"{run['accuracy']:.2%}{interval}"
        seconds = "" if run["seconds"] is None else f"{run['seconds']:.1f}"
        chosen = format_setting(run["chosen"] or {})
        yield f"{name}  {run['recipe']:<10} {accuracy:>26} {seconds:>8}  {chosen}"


def format_setting(setting: dict[str, Any]) -> str:
    """A trial's setting: `l2 0.01`, `hidden 1024-1024, dropout 0.5`."""
    return ", ".join(
        f"{key} {'-'.join(map(str, value)) if isinstance(value, list) else value}" for key, value in setting.items()
    )


def format_caches(found: list[dict[str, Any]]) -> Iterator[str]:
    """A table of caches, as `tfl.cache.overview` gives them."""
    heading, *names = _aligned(["cache", *(cache["name"] for cache in found)])
    yield f"{heading}  {'bytes':>14}  {'made':>5}  holds"
    for name, cache in zip(names, found, strict=True):
        features = cache["spec"]["features"]
        made = f"{cache['finished'] / max(1, sum(cache['rows'].values())):.0%}"
        rows = ", ".join(f"{role} {count:,}" for role, count in cache["rows"].items())
        views, layers, pooling = map(_joined, (cache["spec"]["views"], features["layers"], features["pooling"]))
        yield f"{name}  {cache['bytes']:>14,}  {made:>5}  {rows}; {views}; {layers} by {pooling}"


def format_cache(found: dict[str, Any]) -> Iterator[str]:
    """A cache file or an unfinished one, as `tfl.cache.inspect` gives it."""
    spec = found["spec"]
    yield f"{found['path']}: {found['bytes']:,} bytes, format {found['format']}"
    yield f"fingerprint  {found['fingerprint']}"
    for part in ("features", "dataset"):
        words = (f"{key} {_joined(value)}" for key, value in spec[part].items() if value)
        yield f"{part:<11}  {', '.join(words)}"
    yield f"{'views':<11}  {_joined(spec['views'])}"
    yield from _overview_of_file(found) if "checked" in found else _overview_of_partial(found)


def _overview_of_file(found: dict[str, Any]) -> Iterator[str]:
    made = found["provenance"]
    yield f"{'made':<11}  {_making(made)}"
    yield from _left_out(made)
    yield f"{'rows':<11}  " + ", ".join(
        f"{role} {count:,} x {found['num_features']:,} {found['spec']['features']['feature_dtype']}"
        for role, count in found["rows"].items()
    )
    class_names = found["class_names"][:MAX_CLASSES_SHOWN]
    for shown, name in zip(_aligned(class_names), class_names, strict=True):
        counts = (f"{role} {counts[name]:>7,}" for role, counts in found["class_counts"].items())
        yield f"  {shown}  " + "  ".join(counts)
    if (more := len(found["class_names"]) - MAX_CLASSES_SHOWN) > 0:
        yield f"  ... and {more} classes more (--json lists all)"
    yield f"{'checked':<11}  {found['checked']}"


def _overview_of_partial(found: dict[str, Any]) -> Iterator[str]:
    yield f"{'made with':<11}  {_making(found['made_with'])}"
    yield from _left_out(found)
    for role, rows in found["rows"].items():
        share = rows["finished"] / rows["total"]
        yield f"{'rows':<11}  {role} {rows['finished']:,} of {rows['total']:,} finished ({share:.0%})"
    left = "not known yet" if found["seconds_left"] is None else format_duration(found["seconds_left"])
    yield f"{'time':<11}  {format_duration(found['seconds'])} so far, {left} left at the same pace"
    yield f"{'now':<11}  " + (
        f"being made by {found['held_by']}" if found["held_by"] else "not being made; the same command goes on"
    )


def _making(made: dict[str, Any]) -> str:
    """How a cache was made, in one line, without the images that were left out."""
    shown = {key: value for key, value in made.items() if key not in ("skipped", "num_skipped") and value != {}}
    return ", ".join(f"{key} {_joined(value)}" for key, value in shown.items())


def _left_out(found: dict[str, Any]) -> Iterator[str]:
    """The number of images that were left out, and the first of them."""
    skipped = found.get("skipped", [])
    if count := found.get("num_skipped", len(skipped)):
        yield f"{'left out':<11}  {count:,} bad images:"
        yield from (f"  {image['reason']}" for image in skipped[:MAX_CLASSES_SHOWN])
        if (more := count - min(len(skipped), MAX_CLASSES_SHOWN)) > 0:
            yield f"  ... and {more:,} more"


def _aligned(names: Iterable[str]) -> list[str]:
    """Names as they are shown, all with spaces up to the width of the widest."""
    shown = [to_printable(str(name)) for name in names]
    width = max(map(display_width, shown), default=0)
    return [pad(name, width) for name in shown]


def _in_column(values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The `_aligned` keys of a mapping, and its values."""
    return zip(_aligned(values), values.values(), strict=True)


def _joined(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + " ".join(f"{key} {_joined(inner)}" for key, inner in value.items()) + ")"
    return " ".join(map(_joined, value)) if isinstance(value, list) else str(value)


def format_prediction(prediction: dict[str, Any]) -> tuple[str, str]:
    """One of `tfl.predict.predictions`, in two cells: the image, and the three likeliest classes."""
    likeliest = sorted(prediction["probabilities"].items(), key=lambda item: -item[1])[:3]
    return prediction["image"], " ".join(f"{name} {share:.1%}" for name, share in likeliest)


def format_parity(parity: Any) -> str:
    """What the parity gate measured, a `tfl.export.Parity`."""
    return (
        f"(checked in a fresh process on {parity.num_images} images: logits within {parity.error:.1e} of the largest, "
        f"{parity.tolerance:.0e} allowed; {parity.same_class:.0%} of the classes the same)"
    )


def format_duration(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
