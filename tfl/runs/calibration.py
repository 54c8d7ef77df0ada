"""What validation rows ask for beyond the head itself: a temperature and, of two classes, a threshold."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from tfl.metrics import fit_decision_threshold, fit_temperature, measure, measure_at, measure_blocks, none_if_nan

Blocks = Iterable[tuple[np.ndarray, np.ndarray]]  # logits (m, c) and labels (m,)


@dataclass(frozen=True)
class Scores:
    """How a head's logits are read.

    Attributes:
      temperature: divides the logits of the head as it was trained; None without validation rows.
      is_folded: whether the head that is kept has it inside.
      decision_threshold: of two classes, the probability from which the second is predicted; else None.
    """

    temperature: float | None = None
    is_folded: bool = False
    decision_threshold: float | None = None

    @classmethod
    def asked_for(cls, logits: np.ndarray, labels: np.ndarray, is_folded: bool) -> Self:
        """What validation rows ask for, from the logits `(n, c)` that the head gave before it was fitted on them."""
        temperature = fit_temperature(logits, labels)
        found = cls(temperature, is_folded)
        if logits.shape[1] != 2 or len(np.unique(labels)) != 2:
            return found
        return cls(temperature, is_folded, fit_decision_threshold(found.shipped(logits), labels))

    def shipped(self, logits: np.ndarray) -> np.ndarray:
        """Logits of the head that is kept, from those of the head as it was trained."""
        return logits / self.temperature if self.is_folded and self.temperature else logits

    def metrics(self, blocks: Blocks, class_names: tuple[str, ...]) -> dict[str, Any]:
        """Metrics of blocks of the kept head's logits, and what temperature and threshold make of them.

        Returns:
          `Metrics.to_dict`; where there is a temperature, `calibration` with it, `is_folded`, and calibration error and
          loss `before` and `after` it; where there is a threshold, `at_threshold`.
        """
        if self.temperature is None:
            return measure_blocks(blocks).to_dict(class_names)
        logits, labels = (np.concatenate(arrays) for arrays in zip(*blocks, strict=True))
        before, after = (logits * self.temperature, logits) if self.is_folded else (logits, logits / self.temperature)
        calibration: dict[str, Any] = {"temperature": self.temperature, "is_folded": self.is_folded}
        for when, scaled in (("before", measure(before, labels)), ("after", measure(after, labels))):
            calibration[when] = {
                "calibration_error": none_if_nan(scaled.calibration_error),
                "loss": none_if_nan(scaled.loss),
            }
        found = {**measure(logits, labels).to_dict(class_names), "calibration": calibration}
        if self.decision_threshold is not None:
            found["at_threshold"] = measure_at(self.decision_threshold, logits, labels)
        return found
