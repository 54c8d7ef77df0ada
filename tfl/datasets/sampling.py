"""A fixed sample of a split that has every class, as far as that can be known without reading all images."""

from collections.abc import Iterator, Sequence

import numpy as np

from tfl.datasets.rows import count_rows, read_rows
from tfl.datasets.source import BadImage, Dataset, Example
from tfl.datasets.splits import select_rows

NUM_STRETCHES = 4  # where labels come only with the images; opening a stretch takes TFDS a fifth of a second
CANDIDATES_PER_IMAGE = 4  # images read for each that is taken, there


def sample_by_class(dataset: Dataset, split: str, count: int, seed: int) -> list[Example]:
    """Return up to `count` images of a split, as many of each class as there are of the others.

    The same dataset, split and seed give the same images, in stored order. Bad images are left out.
    If labels come only with the images, those of a few stretches of rows are read, and the sample
    is taken among them.
    """
    rng = np.random.default_rng(seed)
    labels = read_labels(dataset, split)
    if labels is not None:
        # More than are needed: some may be bad images.
        rows = choose_by_class(labels, 2 * count, rng)
        found = [row for position in rows for row in read_rows(dataset, split, position, position + 1)]
        good = [row for row in found if not isinstance(row, BadImage)]
        return good if len(good) <= count else _thin(good, count, rng)
    candidates = list(_read_stretches(dataset, split, CANDIDATES_PER_IMAGE * count))
    return _thin(candidates, count, rng)


def read_labels(dataset: Dataset, split: str) -> np.ndarray | None:
    """Return the label of every row that a split expression selects, `(n,)`; None if they come with the images."""
    found = []
    for piece in select_rows(dataset, split):
        labels = dataset.labels(piece.split)
        if labels is None:
            return None
        found.append(labels[piece.rows])
    return np.concatenate(found)


def choose_by_class(labels: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """Return the positions of up to `count` labels, ascending, one of each class after the other.

    Args:
      labels: `(n,)`.
    """
    order = rng.permutation(len(labels))
    turn_of = np.empty(len(labels), np.int64)  # how many of its class come before
    for label in np.unique(labels):
        of_class = order[labels[order] == label]
        turn_of[of_class] = np.arange(len(of_class))
    place = np.argsort(turn_of[order], kind="stable")
    return sorted(order[place][:count].tolist())


def _thin(examples: Sequence[Example], count: int, rng: np.random.Generator) -> list[Example]:
    labels = np.asarray([example.label for example in examples], np.int64)
    return [examples[position] for position in choose_by_class(labels, count, rng)]


def _read_stretches(dataset: Dataset, split: str, count: int) -> Iterator[Example]:
    """Yield about `count` images, from stretches of rows evenly over the split."""
    total = count_rows(dataset, split)
    length = -(-count // NUM_STRETCHES)
    if total <= count:
        starts, length = [0], total
    else:
        starts = np.linspace(0, total - length, NUM_STRETCHES).astype(int).tolist()
    for start in starts:
        for row in read_rows(dataset, split, start, start + length):
            if not isinstance(row, BadImage):
                yield row
