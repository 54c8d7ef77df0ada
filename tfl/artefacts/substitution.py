"""A head that was trained on one arithmetic and is shipped with another: measured before it is allowed."""

import numpy as np

from tfl import datasets, engine
from tfl.artefacts.candidate import Candidate
from tfl.artefacts.formats import FORMATS
from tfl.artefacts.manifest import Substitution
from tfl.backbones import Backbone
from tfl.errors import ExportError
from tfl.heads.examples import average_views
from tfl.heads.model import compute_logits
from tfl.machine import batching
from tfl.specs import Role

NUM_IMAGES = 1000
SEED = 0
PREFERRED_ROLES: tuple[Role, ...] = ("val", "train")
MAX_LOSS = 0.01  # of accuracy, in 0..1; on so many images chance alone moves it by some thousandths


def measure_substitution(candidate: Candidate) -> Substitution | None:
    """Measure what the head loses with the network that the format carries; None if it is the cached features' own.

    The images are validation rows; if there are none, training rows, which the head has seen.

    Raises:
      ExportError: it loses more than `MAX_LOSS`.
    """
    if candidate.has_own_arithmetic:
        return None
    role = _choose_role(candidate)
    rows = _sample_rows(candidate, role)
    measured = _measure(candidate, role, rows)
    if measured.accuracy_trained_on - measured.accuracy_carried > MAX_LOSS:
        _refuse(candidate, measured)
    return measured


def _choose_role(candidate: Candidate) -> Role:
    for role in PREFERRED_ROLES:
        if role in candidate.origin.cache.num_rows:
            return role
    raise ExportError(
        f"the format {candidate.format.name} carries the float32 network, and there are neither validation nor "
        "training rows to measure on what the head loses with it; choose --format openvino"
    )


def _sample_rows(candidate: Candidate, role: Role) -> list[datasets.Example]:
    """Return rows of the run's classes, as many of each class as of the others."""
    origin = candidate.origin
    split = origin.cache.spec.dataset.roles[role]
    rows = datasets.sample_by_class(origin.dataset, split, NUM_IMAGES, SEED)
    known = set(candidate.run.class_names)
    used = origin.drop_unused(rows)
    return [row for row in used if origin.cache.class_names[row.label] in known]


def _measure(candidate: Candidate, role: Role, rows: list[datasets.Example]) -> Substitution:
    origin, run = candidate.origin, candidate.run
    positions = origin.find_positions(role, rows)
    cached = [origin.cache.read_rows(role, positions, view=view) for view in run.views]
    assert candidate.backbone is not None  # a head alone has its own arithmetic
    forward = _prepare_forward(candidate.backbone)
    images = [row.image for row in rows]
    computed = [forward.compute_all(images, view) for view in run.views]
    names = [origin.cache.class_names[row.label] for row in rows]
    labels = np.asarray([run.class_names.index(name) for name in names])
    return Substitution(
        trained_on=origin.cache.spec.features.compute_dtype,
        carried=candidate.combined.compute_dtype,
        role=role,
        num_images=len(rows),
        accuracy_trained_on=_measure_accuracy(candidate, cached, labels),
        accuracy_carried=_measure_accuracy(candidate, computed, labels),
        tolerance=MAX_LOSS,
    )


def _prepare_forward(backbone: Backbone) -> engine.Forward:
    name = engine.resolve_engine("auto", backbone.spec.compute_dtype)
    return engine.Forward(backbone, batching.BATCH_SIZE, name)


def _measure_accuracy(candidate: Candidate, by_view: list[np.ndarray], labels: np.ndarray) -> float:
    logits = compute_logits(candidate.combined.head, average_views(by_view))  # (n, c)
    return float((logits.argmax(axis=1) == labels).mean())


def _refuse(candidate: Candidate, measured: Substitution) -> None:
    able = [name for name, kind in FORMATS.items() if measured.trained_on in kind.compute_dtypes]
    instead = f"choose --format {' or '.join(able)}, which computes in {measured.trained_on}, or " if able else ""
    raise ExportError(
        f"the head was trained on {measured.trained_on} features, and the format {candidate.format.name} carries the "
        f"{measured.carried} network: with it the accuracy on {measured.num_images} {measured.role} images is "
        f"{measured.accuracy_carried:.2%} instead of {measured.accuracy_trained_on:.2%}; at most "
        f"{measured.tolerance:.0%} may be lost. Nothing was left in place; {instead}"
        f"train on {measured.carried} features"
    )
