"""The combined model, raw images to probabilities, in a format to be shipped, proven before it is left behind."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tfl import __version__, engine, served
from tfl.cache import Cache
from tfl.errors import ExportError
from tfl.export import card, gate, limits
from tfl.export.combined import Combined, combine, folded, found_dataset
from tfl.export.gate import Parity
from tfl.predict import description_path, predict
from tfl.run import Run, open_run
from tfl.spec import Artefact, Role

__all__ = ["Parity", "export", "predict"]

NUM_CALIBRATION_IMAGES = 128  # of int8


def export(
    run_folder: Path,
    out: Path,
    dataset: str = "",
    weights: str = "",
    artefact: Artefact = Artefact(),  # noqa: B008 -- frozen
) -> Parity:
    """Leave a model in the folder `out`, after a fresh process has loaded it and answered as the cache did.

    It takes `images`, uint8 `(n, h, w, 3)` of any n, h and w, and returns `probabilities (n, c)`, `logits (n, c)` and
    `class_index (n,)`. Beside it lie `tfl.json` (class names, spec, recipe, metrics, parity, versions) and `README.md`,
    which says what it is and how to call it. Of a SavedModel see `saved_model.save` too.

    Args:
      dataset: where the cache's dataset is now, if not where `precompute` found it; checked all the same.
      weights: likewise the backbone's weights.

    Raises:
      ExportError: `out` exists, the format needs TensorFlow or a package that is not there, the weights or the dataset
        are not those of the cache, the served logits differ from the cached ones, or accuracy is below what was asked
        for; nothing is left behind.
      RunError, CacheError: see `open_run` and `open_cache`.
    """
    if out.exists():
        raise ExportError(f"{out} exists already; choose another folder or remove it")
    run = open_run(run_folder)
    cache = run.open_cache()
    limits.require_possible(run, cache, artefact)
    place = dataset or found_dataset(cache)
    combined = combine(run, cache, weights)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        folder = Path(scratch) / out.name
        folder.mkdir()
        _save(
            folded(combined) if artefact.fold_batch_norm else combined,
            folder,
            artefact,
            lambda: _calibration(cache, place),
        )
        with gate.fresh_process(folder) as logits_of:
            tolerance = gate.tolerance_of(cache, artefact.quantize)
            parity = gate.measured_parity(run, cache, combined, place, logits_of, tolerance)
            accuracy = _required_accuracy(run, cache, place, logits_of, artefact.assert_accuracy_at_least)
        _describe(folder, run, artefact, parity, accuracy)
        folder.rename(out)
    return parity


def _save(combined: Combined, folder: Path, artefact: Artefact, calibration: Callable[[], list[np.ndarray]]) -> None:
    """Write a format's own files; each format's module, and with it what it needs, is imported when it is asked for."""
    path = folder / served.FILES[artefact.format]
    is_float16 = artefact.quantize == "float16"
    if artefact.format == "saved-model":
        from tfl.export import saved_model

        saved_model.save(combined, folder, is_float16)
    elif artefact.format == "onnx":
        from tfl.export import onnx

        onnx.save(combined, path, is_float16)
    elif artefact.format == "openvino":
        from tfl.export import openvino

        openvino.save(combined, path, is_float16)
    elif artefact.format == "litert":
        from tfl.export import litert

        litert.save(combined, path, artefact.quantize, calibration() if artefact.quantize == "int8" else ())
    elif artefact.format == "keras":
        combined.model.save(path)
    else:
        from tfl.export import torch

        torch.save(combined, path)


def _calibration(cache: Cache, dataset: str) -> list[np.ndarray]:
    """Images of the first rows to train on, or of what rows there are."""
    role: Role = "train" if "train" in cache.num_rows else gate.tested_role(cache)
    rows = gate.images_of(cache, role, dataset)
    return [row.image for row, _ in zip(rows, range(NUM_CALIBRATION_IMAGES), strict=False)]


def _required_accuracy(
    run: Run, cache: Cache, dataset: str, logits_of: gate.LogitsOf, least: float
) -> dict[str, Any] | None:
    """What the exported model was measured to have right of the test images; None if nobody asked."""
    if not least:
        return None
    metrics = gate.measured_accuracy(run, cache, gate.images_of(cache, "test", dataset), logits_of)
    if metrics.accuracy < least:
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
        "decision_threshold": run.description.get("decision_threshold"),
        "metrics": run.metrics,
        "artefact": asdict(artefact),
        "parity": asdict(parity),
        "measured": accuracy,
        "tfl": __version__,
        "versions": engine.versions(),
    }
    path = description_path(folder, artefact.format)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(description, indent=2) + "\n")
    (folder / "README.md").write_text(card.text(json.loads(path.read_text())))
