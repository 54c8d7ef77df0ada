"""Numbers about predictions: accuracy, calibration, thresholds, differences by chance."""

from tfl.metrics.calibration import fit_temperature
from tfl.metrics.classification import Metrics, measure, measure_blocks, none_if_nan
from tfl.metrics.significance import McNemar, mcnemar, wilson_interval
from tfl.metrics.softmax import log_softmax
from tfl.metrics.threshold import ThresholdMetrics, fit_decision_threshold, measure_at

__all__ = [
    "McNemar",
    "Metrics",
    "ThresholdMetrics",
    "fit_decision_threshold",
    "fit_temperature",
    "log_softmax",
    "mcnemar",
    "measure",
    "measure_at",
    "measure_blocks",
    "none_if_nan",
    "wilson_interval",
]
