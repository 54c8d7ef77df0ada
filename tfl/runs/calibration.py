"""Calibration of a head on validation rows: a temperature and, for two classes, a decision threshold."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from tfl.metrics import (
    Metrics,
    ThresholdMetrics,
    fit_decision_threshold,
    fit_temperature,
    measure,
    measure_at,
    measure_blocks,
    none_if_nan,
)
from tfl.runs.metrics import CalibrationError, RoleMetrics, TemperatureEffect

Blocks = Iterable[tuple[np.ndarray, np.ndarray]]  # logits (m, c) and labels (m,)


@dataclass(frozen=True)
class Calibration:
    """A temperature and a decision threshold, by which a head's logits are read.

    Attributes:
      temperature: divides the logits of the head as it was trained; None without validation rows.
      is_temperature_folded: whether the head that is kept has the temperature inside.
      decision_threshold: for two classes, the probability from which on the second is predicted;
        else None.
    """

    temperature: float | None = None
    is_temperature_folded: bool = False
    decision_threshold: float | None = None

    @classmethod
    def fit(cls, logits: np.ndarray, labels: np.ndarray, is_temperature_folded: bool) -> Self:
        """Return the calibration that fits validation rows best.

        Args:
          logits: `(n, c)`, of the head before it was fitted on these rows.
        """
        calibration = cls(fit_temperature(logits, labels), is_temperature_folded)
        if logits.shape[1] != 2 or len(np.unique(labels)) != 2:
            return calibration
        threshold = fit_decision_threshold(calibration.apply(logits), labels)
        return cls(calibration.temperature, is_temperature_folded, threshold)

    def apply(self, logits: np.ndarray) -> np.ndarray:
        """Return the logits of the head that is kept, from those of the head as it was trained."""
        return logits / self.temperature if self.is_temperature_folded and self.temperature else logits

    def measure(self, blocks: Blocks, class_names: tuple[str, ...]) -> RoleMetrics:
        """Return metrics of the kept head, and what temperature and threshold change about them.

        Args:
          blocks: the kept head's logits and the labels.
        """
        if self.temperature is None:
            return make_record(measure_blocks(blocks), class_names)
        logits, labels = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
        return replace(
            make_record(measure(logits, labels), class_names),
            calibration=self._measure_temperature(self.temperature, logits, labels),
            at_threshold=self._measure_threshold(logits, labels),
        )

    def _measure_temperature(self, temperature: float, logits: np.ndarray, labels: np.ndarray) -> TemperatureEffect:
        before, after = logits, logits / temperature
        if self.is_temperature_folded:
            before, after = logits * temperature, logits
        return TemperatureEffect(
            temperature,
            self.is_temperature_folded,
            _measure_error(before, labels),
            _measure_error(after, labels),
        )

    def _measure_threshold(self, logits: np.ndarray, labels: np.ndarray) -> ThresholdMetrics | None:
        if self.decision_threshold is None:
            return None
        return measure_at(self.decision_threshold, logits, labels)


def _measure_error(logits: np.ndarray, labels: np.ndarray) -> CalibrationError:
    metrics = measure(logits, labels)
    return CalibrationError(none_if_nan(metrics.calibration_error), none_if_nan(metrics.loss))


def make_record(metrics: Metrics, class_names: tuple[str, ...]) -> RoleMetrics:
    """Return metrics as `metrics.json` has them."""
    shares = map(none_if_nan, metrics.per_class().tolist())
    return RoleMetrics(
        accuracy=none_if_nan(metrics.accuracy),
        accuracy_interval_95=metrics.interval if metrics.num_rows else None,
        num_rows=metrics.num_rows,
        loss=none_if_nan(metrics.loss),
        balanced_accuracy=none_if_nan(metrics.balanced_accuracy),
        top_5_accuracy=none_if_nan(metrics.top_5_accuracy),
        calibration_error=none_if_nan(metrics.calibration_error),
        roc_auc=metrics.roc_auc,
        average_precision=metrics.average_precision,
        accuracy_per_class=dict(zip(class_names, shares, strict=True)),
        interval_95_per_class=dict(zip(class_names, metrics.intervals_per_class(), strict=True)),
        confusion=metrics.confusion.tolist(),
    )
