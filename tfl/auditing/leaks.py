"""What leaked images do to the accuracy of a role."""

from pathlib import Path

import numpy as np

from tfl.auditing.projection import Rows
from tfl.auditing.record import Leak
from tfl.errors import RunError
from tfl.heads.selection import select_classes
from tfl.runs.folder import Run
from tfl.runs.logits import compute_all_logits, stream_rows
from tfl.specs import Role


def measure_leaks(rows: Rows, is_leaked: np.ndarray, probabilities: np.ndarray, run: Run | None) -> tuple[Leak, ...]:
    """Return, for every role but train, the accuracy with and without its leaked rows."""
    leaks, start = [], 0
    for role, count in rows.roles.items():
        block = np.s_[start : start + count]
        start += count
        if role == "train":
            continue
        is_correct = probabilities[block].argmax(axis=1) == rows.labels[block] if run is None else _judge(run, role)
        leaks.append(_compare(role, is_correct, is_leaked[block], "" if run is None else str(run.folder)))
    return tuple(leaks)


def _judge(run: Run, role: Role) -> np.ndarray:
    """Return whether a run's head classifies each row of a role correctly."""
    cache = run.open_cache()
    logits, labels = compute_all_logits(run.load_head(cache), stream_rows(cache, role, run.selection))
    return np.asarray(logits.argmax(axis=1) == labels)


def _compare(role: Role, is_correct: np.ndarray, is_leaked: np.ndarray, judge: str) -> Leak:
    rest = is_correct[~is_leaked]
    without = float(rest.mean()) if len(rest) else None
    return Leak(role, judge, len(is_correct), int(is_leaked.sum()), float(is_correct.mean()), without)


def require_same_cache(run: Run, path: Path) -> None:
    """Refuse a run of another cache, or of some classes only.

    Raises:
      RunError: which cache it was trained on.
    """
    cache = run.open_cache()
    if cache.path.resolve() != path.resolve():
        raise RunError(f"{run.folder} was trained on {cache.path}, not on {path}; audit that cache, or leave --run out")
    if select_classes(cache, run.selection):
        raise RunError(f"{run.folder} tells only some classes of {path} apart; leave --run out, or train on all")
