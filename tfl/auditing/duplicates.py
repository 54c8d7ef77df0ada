"""Leaks and duplicates: pairs of neighbours by features, looked at once more by pixels."""

from dataclasses import dataclass

import numpy as np

from tfl.auditing.images import Images
from tfl.auditing.pixels import correlate_pairs
from tfl.auditing.projection import Rows
from tfl.auditing.record import Duplicate, DuplicateKind

KINDS: tuple[DuplicateKind, ...] = ("same", "near", "similar")
SAME, NEAR, SIMILAR = range(len(KINDS))
NEAR_SCORE = 0.55  # from which on a pair is one picture; chosen by looking at pairs of CIFAR-10, for all datasets
MIRROR_COST = 0.1  # of correlation: a mirror image is a second guess
LEAST_COMPARED = 1000  # pairs whose pixels are compared; otherwise as many as there are images


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows, the most certain first.

    Attributes:
      rows, partners: places of the later and of the earlier row, `(p,)` each.
      kinds: places in `KINDS`, `(p,)`.
      scores: float32 `(p,)`.
      mirrored: bool `(p,)`.
    """

    rows: np.ndarray
    partners: np.ndarray
    kinds: np.ndarray
    scores: np.ndarray
    mirrored: np.ndarray

    def part(self, chosen: np.ndarray) -> "Pairs":
        """Return some of the pairs, in this order."""
        return Pairs(*(array[chosen] for array in vars(self).values()))

    @property
    def is_one_picture(self) -> np.ndarray:
        """Whether a pair is `same` or `near`, `(p,)`."""
        return np.asarray(self.kinds < SIMILAR)


def find_pairs(rows: Rows, cosines: np.ndarray, neighbours: np.ndarray, images: Images | None) -> Pairs:
    """Return every pair of neighbours once, ranked: see `_rank`.

    The pixels of as many pairs as there are images are compared, those of the largest cosines.

    Args:
      cosines: of each row with its neighbours, `(n, k)`.
      neighbours: their places, `(n, k)`.
    """
    first, second, cosine = _unite(cosines, neighbours)
    count = len(first)
    pairs = Pairs(first, second, np.full(count, SIMILAR), cosine.copy(), np.zeros(count, bool))
    if images is not None:
        pairs = _add_same(pairs, images)
        _compare_pixels(pairs, images)
    return _rank(rows, pairs)


def _unite(cosines: np.ndarray, neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each pair once: its later row, its earlier row, and its cosine, `(p,)` each."""
    n, k = neighbours.shape
    ends = np.repeat(np.arange(n), k), neighbours.ravel().astype(np.int64)
    later, earlier = np.maximum(*ends), np.minimum(*ends)
    _, places = np.unique(later * n + earlier, return_index=True)
    return later[places], earlier[places], cosines.ravel()[places]


def _add_same(pairs: Pairs, images: Images) -> Pairs:
    """Return the pairs with those of the same pixels, each image with the first one of its pixels."""
    _, first, group = np.unique(images.hashes, return_index=True, return_inverse=True)
    later = np.flatnonzero(first[group] != np.arange(len(group)))
    earlier = first[group][later]
    n = len(group)
    is_known = np.isin(pairs.rows * n + pairs.partners, later * n + earlier)
    rest, count = pairs.part(~is_known), len(later)
    kinds = np.concatenate([np.full(count, SAME), rest.kinds])
    scores = np.concatenate([np.ones(count, np.float32), rest.scores])
    mirrored = np.concatenate([np.zeros(count, bool), rest.mirrored])
    rows, partners = np.concatenate([later, rest.rows]), np.concatenate([earlier, rest.partners])
    is_same = images.hashes[rows] == images.hashes[partners]
    kinds[is_same], scores[is_same] = SAME, 1
    return Pairs(rows, partners, kinds, scores, mirrored)


def _compare_pixels(pairs: Pairs, images: Images) -> None:
    """Set kind and score of the pairs with the largest cosines, in place."""
    candidates = np.flatnonzero(pairs.kinds == SIMILAR)
    count = max(LEAST_COMPARED, len(images.hashes))
    candidates = candidates[np.argsort(-pairs.scores[candidates], kind="stable")[:count]]
    plain, mirrored = correlate_pairs(images.thumbnails, pairs.rows[candidates], pairs.partners[candidates])
    pairs.mirrored[candidates] = mirrored - MIRROR_COST > plain
    correlation = np.maximum(plain, mirrored - MIRROR_COST)
    scores = (correlation + pairs.scores[candidates]) / 2
    is_near = scores >= NEAR_SCORE
    pairs.scores[candidates] = np.where(is_near, scores, np.minimum(scores, pairs.scores[candidates]))
    pairs.kinds[candidates[is_near]] = NEAR


def _rank(rows: Rows, pairs: Pairs) -> Pairs:
    """Return the pairs by kind; inside a kind each row with its best partner first, then its further partners.

    Otherwise one picture that is there forty times would fill the top of the list with its pairs.
    Pairs of two roles come before pairs inside one among equals.
    """
    role = rows.role_of_row
    order = np.lexsort((-pairs.scores, pairs.kinds))
    pairs = pairs.part(order)
    of_one_list = pairs.rows * len(rows.roles) + role[pairs.partners]  # a row, and the role of its partner
    is_first = np.zeros(len(order), bool)
    is_first[np.unique(of_one_list, return_index=True)[1]] = True
    return pairs.part(np.lexsort((-pairs.scores, ~is_first, pairs.kinds)))


def describe_pairs(rows: Rows, pairs: Pairs) -> tuple[Duplicate, ...]:
    """Return pairs as records."""
    names, role = list(rows.roles), rows.role_of_row
    ids = [id_.decode(errors="backslashreplace") for id_ in rows.ids.tolist()]
    found = []
    for row, partner, kind, score, is_mirrored in zip(*(array.tolist() for array in vars(pairs).values()), strict=True):
        ends = ids[row], names[role[row]], ids[partner], names[role[partner]]
        found.append(Duplicate(*ends, KINDS[kind], round(score, 4), is_mirrored))
    return tuple(found)


def find_leaked(rows: Rows, pairs: Pairs) -> np.ndarray:
    """Return whether each row has a training image of one picture with it, and is none itself, `(n,)` bool."""
    is_leaked = np.zeros(len(rows.labels), bool)
    if "train" not in rows.roles:
        return is_leaked
    is_train = rows.role_of_row == list(rows.roles).index("train")
    is_leak = pairs.is_one_picture & ~is_train[pairs.rows] & is_train[pairs.partners]
    is_leaked[pairs.rows[is_leak]] = True
    return is_leaked
