"""The records of `metrics.json`: a run's metrics by role."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfl.errors import RunError
from tfl.files.codec import Count, NotNegative, Share, decode_record, list_none_fields
from tfl.metrics import ThresholdMetrics
from tfl.runs.json_files import read_json
from tfl.specs import Role

METRICS = "metrics.json"
MAX_METRICS_BYTES = 256 << 20  # with 1,000 classes a file has 22 MB
MAX_NAMES_SHOWN = 20

Interval = tuple[Share, Share]


@dataclass(frozen=True)
class CalibrationError:
    """The error of a head's probabilities: expected calibration error in 0..1, and mean cross-entropy in nats."""

    calibration_error: NotNegative | None
    loss: NotNegative | None


@dataclass(frozen=True)
class TemperatureEffect:
    """The error of a head's probabilities before and after a temperature is applied.

    Attributes:
      is_temperature_folded: whether the head has the temperature inside.
    """

    temperature: float
    is_temperature_folded: bool
    before: CalibrationError
    after: CalibrationError


@dataclass(frozen=True, kw_only=True)
class RoleMetrics:
    """Metrics of a head on the rows of one role; see `tfl.metrics.Metrics`. Undefined ones are None.

    Attributes:
      accuracy_interval_95: the 95 % Wilson interval of the accuracy.
      loss: mean cross-entropy, in nats.
      top_5_accuracy: None also for fewer than six classes.
      roc_auc: None also unless there are two classes; so is `average_precision`.
      confusion: `(c, c)` counts; the row is the label, the column the predicted class.
      calibration: effect of the run's temperature; None without a temperature.
      at_threshold: metrics at the run's decision threshold; None without one.
    """

    accuracy: Share | None
    accuracy_interval_95: Interval | None
    num_rows: Count
    loss: NotNegative | None
    balanced_accuracy: Share | None = None
    top_5_accuracy: Share | None = None
    calibration_error: NotNegative | None = None
    roc_auc: Share | None = None
    average_precision: Share | None = None
    accuracy_per_class: dict[str, Share | None]
    interval_95_per_class: dict[str, Interval | None] = field(default_factory=dict)
    confusion: list[list[Count]] = field(default_factory=list)
    calibration: TemperatureEffect | None = None
    at_threshold: ThresholdMetrics | None = None

    @property
    def is_of_two_classes(self) -> bool:
        """True if there are two classes."""
        return len(self.accuracy_per_class) == 2

    def list_omitted_fields(self) -> list[str]:
        """Return the fields that JSON leaves out: those that are not measured for this run."""
        unmeasured = list_none_fields(self, ("calibration", "at_threshold"))
        return unmeasured if self.is_of_two_classes else [*unmeasured, "roc_auc", "average_precision"]


MetricsByRole = dict[Role, RoleMetrics]


def read_metrics(path: Path, class_names: tuple[str, ...]) -> MetricsByRole:
    """Return the content of `metrics.json`.

    Raises:
      RunError: it does not hold metrics of these classes.
    """
    values = read_json(path, MAX_METRICS_BYTES)
    try:
        metrics = decode_record(_rename_old_fields(values), MetricsByRole)
        for role, of_role in metrics.items():
            _require_classes(role, of_role, class_names)
    except ValueError as error:
        raise RunError(f"{path} holds no metrics of this run: {error}; train again") from error
    return metrics


def _require_classes(role: Role, metrics: RoleMetrics, class_names: tuple[str, ...]) -> None:
    names = list(metrics.accuracy_per_class)
    if names != list(class_names):
        expected = ", ".join(class_names[:MAX_NAMES_SHOWN])
        received = ", ".join(names[:MAX_NAMES_SHOWN])
        raise ValueError(f"accuracy_per_class of {role} is of {received}; expected a share of each class, {expected}")


def _rename_old_fields(values: Any) -> Any:
    """Return the file's content with `is_folded` as `is_temperature_folded`, the name that it has now."""
    if not isinstance(values, dict):
        return values
    for of_role in values.values():
        calibration = of_role.get("calibration") if isinstance(of_role, dict) else None
        if isinstance(calibration, dict) and "is_folded" in calibration:
            calibration["is_temperature_folded"] = calibration.pop("is_folded")
    return values
