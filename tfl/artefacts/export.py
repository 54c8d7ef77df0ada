"""Export: the combined model, raw images to probabilities, in a format to be shipped, and proven first."""

import contextlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tfl import __version__, engine
from tfl.artefacts import card, manifest
from tfl.artefacts.candidate import Candidate, OnProgress, open_candidate
from tfl.artefacts.fresh_process import ComputeLogits, open_in_fresh_process
from tfl.artefacts.manifest import Manifest, MeasuredAccuracy, Parity, Substitution
from tfl.artefacts.parity import measure_parity
from tfl.artefacts.substitution import measure_substitution
from tfl.errors import ExportError
from tfl.files.paths import expand_user
from tfl.files.scratch import redirect_temporary_files, scratch_folder
from tfl.machine.keras_settings import pin_keras_settings
from tfl.specs import Artefact

__all__ = ["Parity", "export"]


class Proof(NamedTuple):
    """Everything that was measured of an exported model."""

    parity: Parity
    measured: MeasuredAccuracy | None
    substitution: Substitution | None


@pin_keras_settings()
def export(
    run_folder: Path | str,
    out: Path | str,
    dataset: str = "",
    weights: str = "",
    artefact: Artefact = Artefact(),
    on_progress: OnProgress = lambda progress: None,
) -> Parity:
    """Write a run's model into the new folder `out`, once a fresh process has loaded it and given the cache's answers.

    The model takes `images`, uint8 `(n, h, w, 3)` of any n, h and w, and returns
    `probabilities (n, c)`, `logits (n, c)` and `class_index (n,)`. Of a run on imported features it
    is the head alone, and takes `features`, float32 `(n, d)`. A SavedModel does more: see
    `tfl.artefacts.formats.signatures.save`. The folder also holds `tfl.json` (class names, spec,
    recipe, metrics, parity, versions, and the sha256 of each file) and `README.md`, which says what
    the model is and how to call it.

    Args:
      dataset: where the cache's dataset is now, if not where `precompute` found it; checked all the
        same.
      weights: where the backbone's weights are now; likewise.
      on_progress: called after each image, where accuracy is measured.

    Raises:
      SpecError: there is no such format, or it cannot do what is asked of it.
      ExportError: `out` exists, the format needs TensorFlow or cannot carry the model, the weights
        or the dataset are not those of the cache, the model's logits differ from the cached ones,
        accuracy is below what was asked for, or too much of it is lost because the format cannot
        compute as the features were made; nothing is left behind.
      ExtraError: a package that the format needs is not installed.
      RunError, CacheError: see `open_run` and `open_cache`.
    """
    out = expand_user(out)
    if out.exists():
        raise ExportError(f"{out} exists already; choose another folder or remove it")
    candidate = open_candidate(expand_user(run_folder), dataset, weights, artefact)
    with _scratch_beside(out) as scratch:
        folder = scratch / out.name
        folder.mkdir()
        candidate.save(folder)
        substitution = measure_substitution(candidate)
        with open_in_fresh_process(folder, candidate.format) as compute_logits:
            parity = measure_parity(candidate, compute_logits)
            measured = _measure_required_accuracy(candidate, compute_logits, on_progress)
        _describe(folder, candidate, Proof(parity, measured, substitution))
        folder.rename(out)
    return parity


@contextlib.contextmanager
def _scratch_beside(out: Path) -> Iterator[Path]:
    """Yield a folder on the disk of `out`, gone afterwards; folders made to hold it go too if something fails."""
    made = [folder for folder in out.parents if not folder.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with scratch_folder(out.parent) as scratch, redirect_temporary_files():
            yield scratch
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # another program has put something there meanwhile
                folder.rmdir()
        raise


def _measure_required_accuracy(
    candidate: Candidate, compute_logits: ComputeLogits, on_progress: OnProgress
) -> MeasuredAccuracy | None:
    """Measure the exported model's accuracy if a least one is asked for, and refuse a lower one.

    Raises:
      ExportError: it is lower, or undefined.
    """
    least = candidate.artefact.assert_accuracy_at_least
    if not least:
        return None
    metrics = candidate.measure_accuracy(compute_logits, on_progress)
    if not metrics.accuracy >= least:  # so that NaN is refused too
        raise ExportError(
            f"the exported model has {metrics.accuracy:.2%} of {metrics.num_rows:,} test {candidate.noun} right; "
            f"at least {least:.2%} was asked for. Nothing was left in place"
        )
    return MeasuredAccuracy(metrics.accuracy, metrics.interval, metrics.num_rows)


def _describe(folder: Path, candidate: Candidate, proof: Proof) -> None:
    """Leave `tfl.json` and the model card beside the model's files."""
    run, record = candidate.run, candidate.run.record
    description = Manifest(
        class_names=run.class_names,
        fingerprint=run.spec.fingerprint,
        spec=run.spec,
        recipe=record.recipe,
        settings=record.settings,
        chosen=record.chosen,
        views=run.views,
        temperature=record.temperature,
        is_temperature_folded=record.is_temperature_folded,
        decision_threshold=record.decision_threshold,
        metrics=run.metrics,
        artefact=candidate.artefact,
        parity=proof.parity,
        measured=proof.measured,
        substitution=proof.substitution,
        num_features=None if candidate.combined.takes_images else candidate.origin.cache.num_features,
        files=manifest.hash_files(folder),
        tfl=__version__,
        versions=engine.library_versions() | {name: version(name) for name in candidate.format.packages},
    )
    manifest.write_manifest(folder, description)
    (folder / manifest.CARD).write_text(card.format_card(description), encoding="utf-8")
