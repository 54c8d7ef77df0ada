"""The findings of a comparison: differences, accuracies and seconds, as records."""

from dataclasses import dataclass
from typing import Literal

from tfl.comparison.timing import Ratio, SecondsPerImage, StageTiming
from tfl.files.codec import list_none_fields

UsedRole = Literal["train", "test"]


@dataclass(frozen=True)
class MachineFindings:
    """The machine and the libraries that the programs ran on.

    Attributes:
      reference_device: where PyTorch computed.
      threads: of each program.
      our_forward: the engine of our forward pass; None without images.
      fair_forward: how the fair programs ran theirs; empty without images.
    """

    device: str
    reference_device: str
    threads: int
    versions: dict[str, str]
    our_forward: str | None
    fair_forward: str


@dataclass(frozen=True)
class Losses:
    """Mean loss of each epoch, in nats."""

    ours: list[float]
    reference: list[float]


@dataclass(frozen=True)
class TrainingFindings:
    """The loss curves on all rows of the cache, from the same start and in the same order."""

    losses: Losses
    largest_relative_difference: float


@dataclass(frozen=True)
class AccuracyFinding:
    """The accuracy of one program.

    Attributes:
      form: the program.
      mode: of its network while it was tested: `train` or `eval`; empty for programs that have one
        only.
      train, test: how many images it was trained and tested on.
      interval: the 95 % Wilson interval.
    """

    form: str
    mode: str
    train: int
    test: int
    accuracy: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class PixelFindings:
    """Largest differences of what the networks are given, in units of 0..255.

    Attributes:
      resized_by_pil: where the reference resizes as the article does.
    """

    num_images: int
    largest_difference: float
    resized_by_pil: float


@dataclass(frozen=True)
class FeatureDifference:
    """Largest difference of features, as a share of the largest feature."""

    num_images: int
    largest_difference: float


@dataclass(frozen=True)
class FeatureFindings:
    """Differences of features.

    Attributes:
      same_pixels: where both networks are given our pixels.
      from_uint8: where each side presents the images itself.
    """

    same_pixels: FeatureDifference
    from_uint8: FeatureDifference


@dataclass(frozen=True)
class CachingFindings:
    """The fair program without caching against the one with it: how many times as long, and when caching pays."""

    times: float
    break_even_epochs: float | None


@dataclass(frozen=True)
class SecondsFindings:
    """Seconds of the whole training on the cache's rows, computed from seconds per image; all by program.

    Attributes:
      by_epoch: after 0, 1, 2... epochs.
      times_ours: how many times as long as ours.
      break_even_epochs: from which on ours takes no longer; None if never.
      one_more_head: of a second training.
    """

    formula: str
    title: str
    costs: dict[str, SecondsPerImage]
    by_epoch: dict[str, list[float]]
    times_ours: dict[str, float]
    caching_alone: CachingFindings
    break_even_epochs: dict[str, float | None]
    one_more_head: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All findings; those that need images are None without images.

    Attributes:
      rows: of the cache, by role.
      slice: images that were compared, by role.
      weights: which weights the reference used.
      not_compared: why images were not compared; empty if they were.
      stages, peak_bytes: by program.
      ratios: of the fair program that caches over ours, by stage.
      cache_difference: of the cached features from those computed now, as a share of the largest.
    """

    cache: str
    rows: dict[UsedRole, int]
    slice: dict[UsedRole, int] | None
    image_size: int
    compute_dtype: str
    batch_size: int
    epochs: int
    weights: str
    machine: MachineFindings
    not_compared: list[str]
    training: TrainingFindings
    accuracy: list[AccuracyFinding]
    stages: dict[str, dict[str, StageTiming]]
    peak_bytes: dict[str, int]
    ratios: dict[str, Ratio | None]
    seconds: SecondsFindings | None
    cache_difference: float | None
    pixels: PixelFindings | None
    features: FeatureFindings | None

    def list_omitted_fields(self) -> list[str]:
        """Return the fields that JSON leaves out: what needs images and was not compared."""
        return list_none_fields(self, ("seconds", "cache_difference", "pixels", "features"))
