"""The findings of an audit, as records that `--json` prints and other programs read."""

from dataclasses import dataclass
from typing import Literal

from tfl.specs import Role

DuplicateKind = Literal["same", "near", "similar"]
OddKind = Literal["flat", "tiny", "far"]


@dataclass(frozen=True)
class Duplicate:
    """Two images that may be one picture.

    Attributes:
      id: of the two, the image of the later role (train, val, test) or of the later row.
      kind: `same` has the same pixels, `near` is the same picture changed, `similar` only has similar features.
      score: 1 for `same`; else the mean of the features' cosine and the pixels' correlation, of the features alone
        where the pixels were not compared.
      is_mirrored: whether the pixels agree best with the partner's mirror image.
    """

    id: str
    role: Role
    partner: str
    partner_role: Role
    kind: DuplicateKind
    score: float
    is_mirrored: bool


@dataclass(frozen=True)
class LabelSuspicion:
    """A label that the other images contradict.

    Attributes:
      score: the probability that the given class is wrong, 0 to 1.
      suggested: the most probable other class.
    """

    id: str
    role: Role
    given: str
    suggested: str
    score: float


@dataclass(frozen=True)
class OddImage:
    """An image unlike all others.

    Attributes:
      kind: `flat` has next to no contrast, `tiny` few pixels, `far` features far from all others'.
      score: 0 to 1, the larger the odder.
    """

    id: str
    role: Role
    kind: OddKind
    score: float


@dataclass(frozen=True)
class Overlap:
    """Two classes that are taken for one another.

    Attributes:
      num_rows: images of one of them for which the other is suggested.
      share: of the images of both.
    """

    first: str
    second: str
    num_rows: int
    share: float


@dataclass(frozen=True)
class Leak:
    """What images of a role that are training images too do to its accuracy.

    Attributes:
      judged_by: the run whose head classified; empty for the audit's own scores.
      accuracy_without: of the rows that have no `same` or `near` training image.
    """

    role: Role
    judged_by: str
    num_rows: int
    num_leaked: int
    accuracy: float
    accuracy_without: float | None


@dataclass(frozen=True)
class LabelNext:
    """An unlabelled image that is worth a label.

    Attributes:
      path: of its file.
      suggested: the most probable class.
      score: the probability that another class is right, 0 to 1.
    """

    path: str
    suggested: str
    score: float


@dataclass(frozen=True)
class Audit:
    """What an audit found, each list ranked with the most certain first.

    Attributes:
      fingerprint: of the cache's spec.
      folder: of the images, where their ids are paths in it; else empty.
      has_pixels: whether the images were looked at; else every duplicate is `similar`.
      leaks: of every role but train; none where the images were not looked at.
      accuracy: of the audit's own out-of-sample scores, over all rows.
      l2: the penalty of these scores.
    """

    cache: str
    fingerprint: str
    folder: str
    num_rows: dict[Role, int]
    has_pixels: bool
    accuracy: float
    l2: float
    duplicates: tuple[Duplicate, ...]
    labels: tuple[LabelSuspicion, ...]
    odd: tuple[OddImage, ...]
    overlaps: tuple[Overlap, ...]
    leaks: tuple[Leak, ...]
    label_next: tuple[LabelNext, ...]
    seconds: float
