"""The proof: answers of a fresh process that has the format's runtime alone, compared with the head's."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from tfl import datasets
from tfl.artefacts.candidate import Candidate
from tfl.artefacts.fresh_process import ComputeLogits
from tfl.artefacts.manifest import Parity
from tfl.artefacts.origin import Origin
from tfl.errors import ExportError
from tfl.heads.examples import average_views
from tfl.heads.model import compute_logits
from tfl.machine import batching
from tfl.metrics import Metrics, measure_blocks
from tfl.runs.folder import Run
from tfl.specs import INT8, Artefact, FeatureSpec, Role

BATCHES = (1, 7, 24, 32)  # images, of the cache's test rows
# Further batches of one image each, since the cache's images may all be of one size: twice as wide,
# three times as high, a single pixel; and upright, upside down and mirrored together.
CHANGES: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda image: image.repeat(2, axis=1)[None],
    lambda image: image.repeat(3, axis=0)[None],
    lambda image: image[None, :1, :1],
    lambda image: np.stack([image, image[::-1], image[:, ::-1]]),
)

# Largest difference of a logit, as a share of the largest logit, that is let pass. Low precision
# rounds differently in every graph: bfloat16 keeps 8 bits, float16 11, through some fifty layers.
TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1, "int8": 1e-2}
# An int8 network rounds its pixels to 256 levels: the last bits of a pixel may move it to the next level, from where
# the difference grows through the layers. Plain bilinear pixels are the same bits in every engine, and so are
# ResNet50's answers (5e-7); a network that scales its pixels may still be fused with their rounding in another way.
INT8_TOLERANCE_RESAMPLED = 5e-2
STORED_TOLERANCES = {"float32": 0.0, "float16": 5e-3}  # by what the cache rounds features to


@dataclass
class _Questions:
    """Batches of images, and the logits that are expected of each."""

    batches: list[np.ndarray] = field(default_factory=list)
    expected: list[np.ndarray] = field(default_factory=list)

    def add(self, batch: np.ndarray, logits: np.ndarray) -> None:
        self.batches.append(batch)
        self.expected.append(logits)


def measure_parity(candidate: Candidate, compute_logits: ComputeLogits) -> Parity:
    """Ask an exported model about test rows of the cache, in batches of several sizes, and about changed images.

    Raises:
      ExportError: an answer differs by more than the tolerance; or the dataset's rows are not those
        of the cache.
    """
    questions = _collect_questions(candidate)
    expected = np.concatenate(questions.expected)  # (n, c)
    _require_finite(expected, "the head", "train again")
    answers = np.concatenate([compute_logits(batch) for batch in questions.batches])  # (n, c)
    _require_finite(answers, "the exported model", "its format cannot carry this model")
    parity = _compare_logits(answers, expected, _find_tolerance(candidate))
    least_same_class = _find_least_same_class(candidate)
    _require_parity(parity, candidate.tested_role, candidate.artefact, least_same_class)
    return parity


def _collect_questions(candidate: Candidate) -> _Questions:
    """Return test rows with the logits of their cached features, and changed images with those of this process.

    A network of another arithmetic than the cached features' is compared with this process for all images.
    """
    questions = _Questions()
    rows = list(candidate.origin.sample_rows(candidate.tested_role, sum(BATCHES)))
    images = [row.image for row in rows]
    if candidate.has_own_arithmetic:
        logits = _compute_cached_logits(candidate, rows)  # (n, c)
    else:
        logits = np.concatenate([candidate.combined.compute_logits(image[None]) for image in images])  # (n, c)
    for positions in _split_positions(images):
        questions.add(np.stack([images[i] for i in positions]), logits[positions])
    for image, change in zip(itertools.cycle(images), CHANGES, strict=False):
        changed = change(image)
        questions.add(changed, candidate.combined.compute_logits(changed))
    if candidate.format.takes_encoded_images:
        from tfl.artefacts.decoding import decode

        image = _crop_to(images[-1], candidate.artefact.max_image_pixels)
        questions.add(decode.encode_png(image), candidate.combined.compute_logits(image[None]))
    return questions


def _compute_cached_logits(candidate: Candidate, rows: list[datasets.Example]) -> np.ndarray:
    """Return the head's logits `(n, c)` of some rows' features in the cache."""
    origin, role = candidate.origin, candidate.tested_role
    positions = origin.find_positions(role, rows)
    by_view = [origin.cache.read_rows(role, positions, view=view) for view in candidate.run.views]
    return compute_logits(candidate.combined.head, average_views(by_view))


def _split_positions(images: list[np.ndarray]) -> list[np.ndarray]:
    """Split images into batches of several sizes if all are of one shape, else one by one; return their positions."""
    positions = np.arange(len(images))
    has_one_shape = len({image.shape for image in images}) == 1
    bounds = np.cumsum(BATCHES)[:-1] if has_one_shape else positions[1:]
    return [batch for batch in np.split(positions, bounds) if len(batch)]


def _crop_to(image: np.ndarray, max_pixels: int) -> np.ndarray:
    """Return an image, or as much of its top left as has at most `max_pixels`."""
    height, width, _ = image.shape
    if height * width <= max_pixels:
        return image
    columns = min(width, max_pixels)
    return image[: max_pixels // columns, :columns]


def _require_finite(logits: np.ndarray, whose: str, advice: str) -> None:
    """Refuse logits that are not finite: no tolerance means anything for them."""
    num_bad = int((~np.isfinite(logits)).any(axis=1).sum())
    if num_bad:
        raise ExportError(
            f"{whose} answers {num_bad} of {len(logits)} images with logits that are not finite (NaN or infinite); "
            f"{advice}. Nothing was left in place"
        )


def _find_tolerance(candidate: Candidate) -> float:
    """Return the largest difference of a logit that is let pass, as a share of the largest logit."""
    spec: FeatureSpec = candidate.origin.cache.spec.features
    compute_dtype = candidate.combined.compute_dtype
    computed, stored = TOLERANCES[compute_dtype], STORED_TOLERANCES[spec.feature_dtype]
    if compute_dtype in candidate.format.tolerances:
        computed = candidate.format.tolerances[compute_dtype].error
    elif compute_dtype == INT8 and (spec.antialias or spec.interpolation not in ("nearest", "bilinear")):
        computed = INT8_TOLERANCE_RESAMPLED
    return max(computed, stored, candidate.quantization.tolerance)


def _find_least_same_class(candidate: Candidate) -> float:
    """Return the least share of images that must be of the same class."""
    own = candidate.format.tolerances.get(candidate.combined.compute_dtype)
    return max(candidate.quantization.least_same_class, own.least_same_class if own else 0.0)


def _compare_logits(answers: np.ndarray, expected: np.ndarray, tolerance: float) -> Parity:
    return Parity(
        num_images=len(expected),
        error=float(np.abs(answers - expected).max() / np.abs(expected).max()),
        tolerance=tolerance,
        same_class=float((answers.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    )


def _require_parity(parity: Parity, role: Role, artefact: Artefact, least_same_class: float) -> None:
    """Refuse a model whose answers differ too much; a NaN error is no parity either."""
    if parity.error <= parity.tolerance and parity.same_class >= least_same_class:
        return
    wanted = f", at least {least_same_class:.0%} were expected" if least_same_class else ""
    hint = ". If --no-fold-batch-norm passes, folding is at fault" if artefact.fold_batch_norm else ""
    raise ExportError(
        f"the exported model does not answer as the cache did on {parity.num_images} {role} images: its logits "
        f"differ by {parity.error:.2e} of the largest, at most {parity.tolerance:.0e} was expected; "
        f"{parity.same_class:.1%} of the classes agree{wanted}{hint}. Nothing was left in place"
    )


def measure_accuracy(
    run: Run, origin: Origin, rows: Iterable[datasets.Example], compute_logits: ComputeLogits
) -> Metrics:
    """Return an exported model's metrics on those of some rows whose class the run has."""
    class_of = {origin.cache.class_names.index(name): i for i, name in enumerate(run.class_names)}
    known = (row for row in rows if row.label in class_of)

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for batch in batching.split_into_batches(known, lambda row: row.image.nbytes, batching.BATCH_SIZE):
            for positions in batching.group_by_shape([row.image for row in batch]):
                images = np.stack([batch[i].image for i in positions])
                labels = np.asarray([class_of[batch[i].label] for i in positions])
                yield compute_logits(images), labels

    return measure_blocks(blocks())
