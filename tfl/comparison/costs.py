"""Seconds: of each stage as measured, and of a whole job as computed from them."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfl.machine.lockstep import Turn

FORMULA = "seconds = once x (training + test images) + each_epoch x training images x epochs + at_end x test images"


def stages(turns: Sequence[Turn]) -> dict[str, dict[str, Any]]:
    """What each stage of a form took.

    Returns:
      For each stage how many `turns` and images it had, their `seconds`, and of a turn's seconds per image the
      `median`, the `least` and the `largest`; None of stages without images. A form's first batch is its `start-up`'s.
    """
    found = {}
    for stage in dict.fromkeys(turn.stage for turn in turns):
        of_stage = [turn for turn in turns if turn.stage == stage]
        num_images = sum(turn.num_images for turn in of_stage)
        each = [turn.seconds / turn.num_images for turn in of_stage if turn.num_images]
        found[stage] = {
            "turns": len(of_stage),
            "images": num_images,
            "seconds": sum(turn.seconds for turn in of_stage),
            "median": statistics.median(each) if each else None,
            "least": min(each, default=None),
            "largest": max(each, default=None),
        }
    return found


def ratios(slow: Sequence[Turn], fast: Sequence[Turn], stage: str) -> dict[str, Any] | None:
    """Seconds of one form over those of another, turn by turn in a stage that both have; None if they have not."""
    pairs = zip(*([turn.seconds for turn in of_form if turn.stage == stage] for of_form in (slow, fast)), strict=True)
    found = [a / b for a, b in pairs]
    if not found:
        return None
    return {"turns": len(found), "median": statistics.median(found), "least": min(found), "largest": max(found)}


@dataclass(frozen=True)
class Costs:
    """Of a form, in seconds per image: the medians of its turns, so that a disturbance of one counts for no form.

    Attributes:
      once: of every image, before the first epoch.
      each_epoch: of every training image, in every epoch.
      at_end: of every test image, at the end.
    """

    once: float
    each_epoch: float
    at_end: float

    @classmethod
    def of(cls, found: Mapping[str, Mapping[str, Any]]) -> "Costs":
        """From the stages of a form that caches, or of one that does not."""
        if "fit" not in found:
            return cls(0.0, found["train"]["median"], found["test"]["median"])
        num_images = found["start-up"]["images"] + found["extract"]["images"]
        keeping = found["keep"]["seconds"] / num_images
        return cls(found["extract"]["median"] + keeping, found["fit"]["median"], 0.0)

    def before(self, train: int, test: int) -> float:
        """Seconds before the first epoch."""
        return self.once * (train + test)

    def seconds(self, train: int, test: int, epochs: int) -> float:
        """Of a whole job on so many images."""
        return self.before(train, test) + self.each_epoch * train * epochs + self.at_end * test

    def break_even(self, other: "Costs", train: int, test: int) -> float:
        """The number of epochs from which on these costs are no more than others'; infinite if there is none."""
        gain = (other.each_epoch - self.each_epoch) * train
        head_start = self.seconds(train, test, 0) - other.seconds(train, test, 0)
        return max(0.0, head_start / gain) if gain > 0 else math.inf
