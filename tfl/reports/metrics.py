"""Metrics of a run as lines of text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tfl.reports.columns import pad_keys
from tfl.reports.numbers import format_number, format_share

if TYPE_CHECKING:  # `tfl --help` imports this module: nothing that takes long
    from tfl.metrics import ThresholdMetrics
    from tfl.runs.metrics import RoleMetrics, TemperatureEffect


def format_metrics(metrics: "RoleMetrics") -> Iterator[str]:
    """Describe metrics of the test rows; a metric without a value is called undefined."""
    yield f"test accuracy {format_share(metrics.accuracy)} of {metrics.num_rows} ({format_interval(metrics)})"
    for name, accuracy in pad_keys(metrics.accuracy_per_class):
        yield f"  {name}  " + ("no rows" if accuracy is None else f"{accuracy:7.2%}")
    yield ", ".join(_list_numbers(metrics))
    if metrics.calibration:
        yield _format_temperature(metrics.calibration)
    if metrics.at_threshold:
        yield _format_threshold(metrics.at_threshold)


def _list_numbers(metrics: "RoleMetrics") -> Iterator[str]:
    if metrics.balanced_accuracy is not None:
        yield f"balanced accuracy {metrics.balanced_accuracy:.2%}"
    if metrics.top_5_accuracy is not None:
        yield f"top-5 accuracy {metrics.top_5_accuracy:.2%}"
    if metrics.is_of_two_classes:
        yield f"ROC AUC {format_number(metrics.roc_auc)}"
        yield f"average precision {format_number(metrics.average_precision)}"
    yield f"loss {format_number(metrics.loss)}"
    yield f"calibration error {format_number(metrics.calibration_error)}"


def _format_temperature(effect: "TemperatureEffect") -> str:
    before, after = (format_number(error.calibration_error) for error in (effect.before, effect.after))
    place = "in the head" if effect.is_temperature_folded else "--calibrate puts it into the head"
    return f"temperature {effect.temperature:.3f} takes the calibration error from {before} to {after} ({place})"


def _format_threshold(metrics: "ThresholdMetrics") -> str:
    shares = {
        "accuracy": metrics.accuracy,
        "balanced accuracy": metrics.balanced_accuracy,
        "precision": metrics.precision,
        "recall": metrics.recall,
        "f1": metrics.f1,
    }
    numbers = ", ".join(f"{name} {format_share(share)}" for name, share in shares.items())
    return f"at threshold {metrics.threshold:.3f}: {numbers}"


def format_interval(metrics: "RoleMetrics") -> str:
    """Describe the interval of an accuracy."""
    if metrics.accuracy_interval_95 is None:
        return "no rows"
    low, high = metrics.accuracy_interval_95
    return f"95 % interval {low:.2%} to {high:.2%}"
