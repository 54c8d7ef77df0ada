"""Seconds of each stage as measured, and of a whole training as computed from them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfl.comparison.lockstep import Turn

FORMULA = "seconds = once x (training + test images) + each_epoch x training images x epochs + at_end x test images"


@dataclass(frozen=True)
class StageTiming:
    """The turns of one stage of a program.

    Attributes:
      images: of all turns together.
      seconds: of all turns together.
      median, least, largest: a turn's seconds per image; None for stages without images.
    """

    turns: int
    images: int
    seconds: float
    median: float | None
    least: float | None
    largest: float | None


@dataclass(frozen=True)
class Ratio:
    """Seconds of one program over those of another, turn by turn."""

    turns: int
    median: float
    least: float
    largest: float


def summarize_stages(turns: Sequence[Turn]) -> dict[str, StageTiming]:
    """Return what each stage of a program took; its first batch belongs to the stage `start-up`."""
    stages = dict.fromkeys(turn.stage for turn in turns)
    return {stage: _summarize_stage([turn for turn in turns if turn.stage == stage]) for stage in stages}


def _summarize_stage(turns: Sequence[Turn]) -> StageTiming:
    per_image = [turn.seconds / turn.num_images for turn in turns if turn.num_images]
    return StageTiming(
        turns=len(turns),
        images=sum(turn.num_images for turn in turns),
        seconds=sum(turn.seconds for turn in turns),
        median=statistics.median(per_image) if per_image else None,
        least=min(per_image, default=None),
        largest=max(per_image, default=None),
    )


def compare_turns(slow: Sequence[Turn], fast: Sequence[Turn], stage: str) -> Ratio | None:
    """Compare two programs in a stage that both have; None if they have not."""
    slow_seconds = [turn.seconds for turn in slow if turn.stage == stage]
    fast_seconds = [turn.seconds for turn in fast if turn.stage == stage]
    ratios = [a / b for a, b in zip(slow_seconds, fast_seconds, strict=True)]
    if not ratios:
        return None
    return Ratio(len(ratios), statistics.median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True)
class SecondsPerImage:
    """Seconds per image of a program: medians of its turns, which a single disturbed turn does not change.

    Attributes:
      once: for every image, before the first epoch.
      each_epoch: for every training image, in every epoch.
      at_end: for every test image, at the end.
    """

    once: float
    each_epoch: float
    at_end: float

    @classmethod
    def measure(cls, stages: Mapping[str, StageTiming]) -> "SecondsPerImage":
        """Return the seconds of a program that caches features, or of one that does not, from its stages."""
        if "fit" not in stages:
            return cls(0.0, _get_median(stages, "train"), _get_median(stages, "test"))
        num_images = stages["start-up"].images + stages["extract"].images
        writing = stages["keep"].seconds / num_images
        return cls(_get_median(stages, "extract") + writing, _get_median(stages, "fit"), 0.0)

    def count_before(self, num_train: int, num_test: int) -> float:
        """Return the seconds before the first epoch."""
        return self.once * (num_train + num_test)

    def count_all(self, num_train: int, num_test: int, epochs: int) -> float:
        """Return the seconds of the whole training on that many images."""
        of_epochs = self.each_epoch * num_train * epochs
        return self.count_before(num_train, num_test) + of_epochs + self.at_end * num_test

    def find_break_even(self, other: "SecondsPerImage", num_train: int, num_test: int) -> float:
        """Return the number of epochs from which on this program takes no longer than another; infinite if none."""
        gain = (other.each_epoch - self.each_epoch) * num_train
        head_start = self.count_all(num_train, num_test, 0) - other.count_all(num_train, num_test, 0)
        return max(0.0, head_start / gain) if gain > 0 else math.inf


def _get_median(stages: Mapping[str, StageTiming], stage: str) -> float:
    median = stages[stage].median
    assert median is not None
    return median
