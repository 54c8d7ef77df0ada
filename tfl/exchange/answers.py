"""A run's head, and its answers for cached features."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfl.cache import Cache
from tfl.errors import RunError
from tfl.heads.examples import average_views
from tfl.heads.model import compute_logits
from tfl.runs.folder import Run, open_run
from tfl.specs import View


@dataclass(frozen=True)
class Answers:
    """A head and the run that it is of."""

    run: Run
    head: keras.Model

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class of each logit."""
        return self.run.class_names

    @property
    def views(self) -> tuple[View, ...]:
        """The views whose mean features the head takes."""
        return self.run.views

    def compute(self, by_view: list[np.ndarray]) -> np.ndarray:
        """Return logits `(m, c)` of the features `(m, d)` of each of `views`, as `evaluate` measures them."""
        return compute_logits(self.head, average_views(by_view))

    def describe(self) -> dict[str, Any]:
        """Return what the answers are of, in JSON's types."""
        record = self.run.record
        return {
            "recipe": record.recipe,
            "settings": record.settings,
            "views": list(self.views),
            "class_names": list(self.class_names),
            "temperature": record.temperature,
            "is_temperature_folded": record.is_temperature_folded,
        }


def open_answers(folder: Path, cache: Cache) -> Answers:
    """Open the head of a run that was trained on a cache.

    Raises:
      RunError: it was trained on another cache; and see `open_run`.
    """
    run = open_run(folder)
    if run.spec.fingerprint != cache.spec.fingerprint:
        raise RunError(
            f"{folder} was not trained on {cache.path}: its cache has the fingerprint {run.spec.fingerprint[:12]}, "
            f"this one {cache.spec.fingerprint[:12]}; name the run's own cache, {run.folder / run.record.cache}"
        )
    return Answers(run, run.load_head(cache))
