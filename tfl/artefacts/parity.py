"""The proof: answers of a fresh process that has the format's runtime alone, compared with the head's."""

import numpy as np

from tfl.artefacts.candidate import Candidate
from tfl.artefacts.fresh_process import ComputeLogits
from tfl.artefacts.manifest import Parity
from tfl.errors import ExportError
from tfl.specs import INT8, Artefact, FeatureSpec

# Largest difference of a logit, as a share of the largest logit, that is let pass. Low precision
# rounds differently in every graph: bfloat16 keeps 8 bits, float16 11, through some fifty layers.
TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1, "int8": 1e-2}
# An int8 network rounds its pixels to 256 levels: the last bits of a pixel may move it to the next level, from where
# the difference grows through the layers. Plain bilinear pixels are the same bits in every engine, and so are
# ResNet50's answers (5e-7); a network that scales its pixels may still be fused with their rounding in another way.
INT8_TOLERANCE_RESAMPLED = 5e-2
STORED_TOLERANCES = {"float32": 0.0, "float16": 5e-3}  # by what the cache rounds features to


def measure_parity(candidate: Candidate, compute_logits: ComputeLogits) -> Parity:
    """Ask an exported model about test rows of the cache, in batches of several sizes, and about changed images.

    Raises:
      ExportError: an answer differs by more than the tolerance; or the dataset's rows are not those
        of the cache.
    """
    questions = candidate.collect_questions()
    expected = np.concatenate(questions.expected)  # (n, c)
    _require_finite(expected, "the head", "train again")
    answers = np.concatenate([compute_logits(batch) for batch in questions.batches])  # (n, c)
    _require_finite(answers, "the exported model", "its format cannot carry this model")
    parity = _compare_logits(answers, expected, _find_tolerance(candidate))
    least_same_class = _find_least_same_class(candidate)
    _require_parity(parity, f"{candidate.tested_role} {candidate.noun}", candidate.artefact, least_same_class)
    return parity


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


def _require_parity(parity: Parity, rows: str, artefact: Artefact, least_same_class: float) -> None:
    """Refuse a model whose answers differ too much; a NaN error is no parity either.

    Args:
      rows: what was compared, `test images`.
    """
    if parity.error <= parity.tolerance and parity.same_class >= least_same_class:
        return
    wanted = f", at least {least_same_class:.0%} were expected" if least_same_class else ""
    hint = ". If --no-fold-batch-norm passes, folding is at fault" if artefact.fold_batch_norm else ""
    raise ExportError(
        f"the exported model does not answer as the cache did on {parity.num_images} {rows}: its logits "
        f"differ by {parity.error:.2e} of the largest, at most {parity.tolerance:.0e} was expected; "
        f"{parity.same_class:.1%} of the classes agree{wanted}{hint}. Nothing was left in place"
    )
