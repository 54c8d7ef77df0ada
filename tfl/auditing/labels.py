"""Labels that the other images contradict, and classes that overlap."""

import numpy as np

from tfl.auditing.projection import Rows, to_probabilities
from tfl.auditing.record import LabelSuspicion, Overlap
from tfl.metrics import fit_temperature

VOTE_TEMPERATURE = 0.1  # a neighbour's vote weighs exp(cosine / temperature)
MAX_OVERLAPS = 10


def score_classes(rows: Rows, cosines: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Return the probability of each class for each row by all other rows, `(n, c)`.

    It is the mean of two heads that have not seen the row: ridge regression in closed form, and
    the votes of its neighbours.
    """
    probabilities = to_probabilities(rows.outputs, fit_temperature(rows.outputs, rows.labels))
    if not neighbours.shape[1]:
        return probabilities
    weights = np.exp((cosines - cosines[:, :1]) / np.float32(VOTE_TEMPERATURE))  # (n, k)
    votes = np.zeros_like(probabilities)
    for place in range(neighbours.shape[1]):
        votes[np.arange(len(votes)), rows.labels[neighbours[:, place]]] += weights[:, place]
    return np.asarray((probabilities + votes / votes.sum(axis=1, keepdims=True)) / 2)


def suspect_labels(
    rows: Rows, probabilities: np.ndarray, class_names: tuple[str, ...], is_all: bool
) -> tuple[LabelSuspicion, ...]:
    """Return the rows whose given class is not the most probable one; with `is_all` every row.

    They are ranked by the probability of the given class, the least first: of labels that people
    rejected, more are at the top than by the margin to the suggested class.
    Source: Northcutt et al. 2021, arXiv:1911.00068 (self-confidence).
    """
    everyone = np.arange(len(rows.labels))
    others = probabilities.copy()
    others[everyone, rows.labels] = -1
    suggested = others.argmax(axis=1)
    of_given = probabilities[everyone, rows.labels]  # (n,)
    order = np.argsort(of_given, kind="stable")
    if not is_all:
        order = order[others.max(axis=1)[order] > of_given[order]]
    names, role = list(rows.roles), rows.role_of_row
    return tuple(
        LabelSuspicion(
            rows.ids[row].decode(errors="backslashreplace"),
            names[role[row]],
            class_names[rows.labels[row]],
            class_names[suggested[row]],
            round(1 - float(of_given[row]), 4),
        )
        for row in order.tolist()
    )


def find_overlaps(rows: Rows, probabilities: np.ndarray, class_names: tuple[str, ...]) -> tuple[Overlap, ...]:
    """Return the pairs of classes that are most often taken for one another."""
    c = len(class_names)
    confused = np.zeros((c, c), np.int64)
    np.add.at(confused, (rows.labels, probabilities.argmax(axis=1)), 1)
    counts = np.bincount(rows.labels, minlength=c)
    both = np.triu(confused + confused.T, 1)  # (c, c)
    share = both / np.maximum(counts[:, None] + counts, 1)
    order = np.argsort(-share, axis=None, kind="stable")[:MAX_OVERLAPS]
    found = []
    for place in order.tolist():
        first, second = divmod(place, c)
        if both[first, second]:
            names = class_names[first], class_names[second]
            found.append(Overlap(*names, int(both[first, second]), round(float(share[first, second]), 4)))
    return tuple(found)
