"""The combined model, raw images to probabilities, in a format to be shipped, proven before it is left behind."""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tfl import __version__, datasets, engine
from tfl.artefacts import card, limits, manifest, parity, runtimes
from tfl.artefacts.combined import Combined, combine, folded, found_dataset, portable
from tfl.artefacts.parity import Parity
from tfl.artefacts.predict import Progress, predict
from tfl.cache import Cache
from tfl.errors import ExportError, TflError
from tfl.files.paths import expand_user
from tfl.files.scratch import libraries_in_scratch, scratch_folder
from tfl.machine.keras_settings import pin_keras_settings
from tfl.metrics import Metrics
from tfl.runs.run import Run, open_run
from tfl.specs import Artefact, FeatureSpec, Role, View

__all__ = ["Parity", "export", "predict"]

NUM_CALIBRATION_IMAGES = 128  # of int8
PACKAGES: dict[str, tuple[str, ...]] = {
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
    "litert": ("ai-edge-litert",),
    "openvino": ("openvino",),
    "torch": ("torch",),
}
"""What a format is converted and run with, beside what every format is made with."""


@pin_keras_settings()
def export(
    run_folder: Path,
    out: Path,
    dataset: str = "",
    weights: str = "",
    artefact: Artefact = Artefact(),  # noqa: B008 -- frozen
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Parity:
    """Leave a model in the folder `out`, after a fresh process has loaded it and answered as the cache did.

    It takes `images`, uint8 `(n, h, w, 3)` of any n, h and w, and returns `probabilities (n, c)`, `logits (n, c)` and
    `class_index (n,)`. Beside it lie `tfl.json` (class names, spec, recipe, metrics, parity, versions, and the sha256
    of each file) and `README.md`, which says what it is and how to call it. Of a SavedModel see `saved_model.save` too.

    Args:
      dataset: where the cache's dataset is now, if not where `precompute` found it; checked all the same.
      weights: likewise the backbone's weights.
      on_progress: called after each image, where accuracy is measured.

    Raises:
      ExportError: `out` exists, the format needs TensorFlow or cannot carry the model, the weights or the dataset are
        not those of the cache, the served logits differ from the cached ones, or accuracy is below what was asked for;
        nothing is left behind.
      ExtraError: a package that the format needs is not there.
      RunError, CacheError: see `open_run` and `open_cache`.
    """
    out = expand_user(out)
    if out.exists():
        raise ExportError(f"{out} exists already; choose another folder or remove it")
    run = open_run(run_folder)
    cache = run.open_cache()
    limits.require_possible(run, cache, artefact)
    source = parity.opened(cache, dataset or found_dataset(cache))
    combined = combine(run, cache, weights)
    with _scratch_beside(out) as scratch:
        folder = scratch / out.name
        folder.mkdir()
        _save(
            _shipped(combined, run.spec.features, run.views, artefact),
            folder,
            artefact,
            lambda: _calibration(cache, source),
        )
        with parity.open_in_fresh_process(folder, artefact.format) as logits_of:
            measured = parity.measure_parity(run, cache, combined, source, logits_of, artefact)
            accuracy = None
            if least := artefact.assert_accuracy_at_least:
                rows = _counted(parity.rows_of(cache, "test", source), cache.num_rows["test"], on_progress)
                accuracy = _required_accuracy(parity.measure_accuracy(run, cache, rows, logits_of), least)
        _describe(folder, run, artefact, measured, accuracy)
        folder.rename(out)
    return measured


@contextlib.contextmanager
def _scratch_beside(out: Path) -> Iterator[Path]:
    """A folder on the disk of `out`, gone afterwards; folders made to hold it go too if something fails."""
    made = [folder for folder in out.parents if not folder.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with scratch_folder(out.parent) as scratch, libraries_in_scratch():
            yield scratch
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):  # another has put something there meanwhile
                folder.rmdir()
        raise


def _shipped(combined: Combined, spec: FeatureSpec, views: tuple[View, ...], artefact: Artefact) -> Combined:
    """The same answers, of what loads and runs well in the format."""
    combined = replace(combined, max_image_pixels=artefact.max_image_pixels)
    combined = folded(combined) if artefact.fold_batch_norm else combined
    return portable(combined, spec, views) if artefact.format in limits.CONVERTED else combined


def _save(combined: Combined, folder: Path, artefact: Artefact, calibration: Callable[[], list[np.ndarray]]) -> None:
    """Write a format's own files.

    Raises:
      ExportError: its converter failed; the beginning of what it said.
    """
    try:
        _convert(combined, folder, artefact, calibration)
    except (TflError, MemoryError, OSError):
        raise
    except Exception as error:  # each converter raises its own
        raise ExportError(f"{artefact.format} could not carry this model: {str(error)[:1000]}") from error


def _convert(combined: Combined, folder: Path, artefact: Artefact, calibration: Callable[[], list[np.ndarray]]) -> None:
    """Each format's module, and with it what it needs, is imported when it is asked for."""
    path = folder / runtimes.FILES[artefact.format]
    is_float16 = artefact.quantize == "float16"
    if artefact.format == "saved-model":
        from tfl.artefacts.formats import saved_model

        saved_model.save(combined, folder, is_float16)
    elif artefact.format == "onnx":
        from tfl.artefacts.formats import onnx

        onnx.save(combined, path, is_float16)
    elif artefact.format == "openvino":
        from tfl.artefacts.formats import openvino

        openvino.save(combined, path, is_float16)
    elif artefact.format == "litert":
        from tfl.artefacts.formats import litert

        litert.save(combined, path, artefact.quantize, calibration() if artefact.quantize == "int8" else ())
    elif artefact.format == "keras":
        combined.model.save(path)
    else:
        from tfl.artefacts.formats import torch

        torch.save(combined, path)


def _calibration(cache: Cache, source: datasets.Dataset) -> list[np.ndarray]:
    """Images to train on, or of what rows there are."""
    role: Role = "train" if "train" in cache.num_rows else parity.tested_role(cache)
    return [row.image for row in parity.spread(cache, role, source, NUM_CALIBRATION_IMAGES)]


def _counted(
    rows: Iterable[datasets.Example], total: int, on_progress: Callable[[Progress], None]
) -> Iterator[datasets.Example]:
    """The rows; `on_progress` is told of each that has been taken."""
    started = time.monotonic()
    for finished, row in enumerate(rows, 1):
        yield row
        on_progress(Progress(total, finished, finished / max(time.monotonic() - started, 1e-9)))


def _required_accuracy(metrics: Metrics, least: float) -> dict[str, Any]:
    """What the exported model was measured to have right of the test images."""
    if not metrics.accuracy >= least:  # nor where it is undefined
        raise ExportError(
            f"the exported model has {metrics.accuracy:.2%} of {metrics.num_rows:,} test images right; "
            f"at least {least:.2%} was asked for. Nothing was left in place"
        )
    return {"accuracy": metrics.accuracy, "accuracy_interval_95": metrics.interval, "num_images": metrics.num_rows}


def _describe(folder: Path, run: Run, artefact: Artefact, parity: Parity, accuracy: dict[str, Any] | None) -> None:
    description = {
        "class_names": run.class_names,
        "fingerprint": run.spec.fingerprint,
        "spec": asdict(run.spec),
        "recipe": run.description["recipe"],
        "settings": run.description["settings"],
        "chosen": run.description.get("chosen"),
        "views": run.views,
        "temperature": run.description.get("temperature"),
        "is_folded": run.description.get("is_folded", False),
        "decision_threshold": run.description.get("decision_threshold"),
        "metrics": run.metrics,
        "artefact": asdict(artefact),
        "parity": asdict(parity),
        "measured": accuracy,
        "files": manifest.hash_files(folder),
        "tfl": __version__,
        "versions": engine.library_versions() | {name: version(name) for name in PACKAGES.get(artefact.format, ())},
    }
    path = manifest.description_path(folder, artefact.format)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card.text(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
