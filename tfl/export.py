"""The combined model, raw images to probabilities, as a SavedModel that is proven before it is left behind."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfl import __version__, backbone, datasets, engine, head, trust
from tfl.cache import Cache
from tfl.errors import ExportError
from tfl.run import Run, open_run
from tfl.spec import DIGEST_PREFIX, Role, View

DESCRIPTION = Path("assets.extra") / "tfl.json"  # `assets.extra` is the SavedModel format's place for others' files
PARITY_BATCHES = (1, 7, 24, 32)  # images, of the cache's test rows

# Largest difference of a logit, as a share of the largest logit, that the parity gate lets pass. Low precision
# rounds differently in every graph: bfloat16 keeps 8 bits, float16 11, through some fifty layers.
TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
STORED_TOLERANCES = {"float32": 0.0, "float16": 5e-3}  # of features rounded to what the cache stores


@dataclass(frozen=True)
class Parity:
    """How far the served logits are from those of the head on the cached features.

    Attributes:
      error: largest difference, as a share of the largest logit.
      same_class: share of images whose predicted class is the same.
    """

    num_images: int
    error: float
    tolerance: float
    same_class: float


def export(run_folder: Path, out: Path, dataset: str = "", weights: str = "") -> Parity:
    """Leave a SavedModel in `out`, after a fresh process has loaded it and answered as the cache did.

    `serving_default` takes `images`, uint8 `(n, h, w, 3)` of any n, h and w, and returns `probabilities (n, c)`,
    `logits (n, c)` and `class_index (n,)`. Class names, spec and metrics are in `assets.extra/tfl.json`.

    Args:
      dataset: where the cache's dataset is now, if not where `precompute` found it; checked all the same.
      weights: likewise the backbone's weights.

    Raises:
      ExportError: `out` exists, Keras does not run on TensorFlow, the weights or the dataset are not those of the
        cache, or the served logits differ from the cached ones; nothing is left behind.
      RunError, CacheError: see `open_run` and `open_cache`.
    """
    if out.exists():
        raise ExportError(f"{out} exists already; choose another folder or remove it")
    if keras.backend.backend() != "tensorflow":
        raise ExportError(f"a SavedModel needs KERAS_BACKEND=tensorflow, got {keras.backend.backend()}")
    run = open_run(run_folder)
    cache = run.open_cache()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        folder, trained = Path(scratch) / out.name, run.load_head()
        _save(same_backbone(cache, weights or found_weights(cache)).averaged(run.views), trained, folder)
        parity = _gate(folder, trained, (cache, run.views), dataset or found_dataset(cache))
        _describe(folder, run, parity)
        folder.rename(out)
    return parity


def found_dataset(cache: Cache) -> str:
    """The dataset as it was typed; or by its name, where it was carried as a file that is not here."""
    typed: str = cache.provenance["typed"]["dataset"]
    if Path(typed).exists():
        return _require_own(cache, "dataset", typed)
    has_name = not cache.spec.dataset.version.startswith(DIGEST_PREFIX)
    return cache.spec.dataset.dataset if has_name else typed


def found_weights(cache: Cache) -> str:
    """The weights as they were typed."""
    typed: str = cache.provenance["typed"]["weights"]
    return typed if typed in ("imagenet", "random") else _require_own(cache, "weights", typed)


def _require_own(cache: Cache, what: str, place: str) -> str:
    """A cache from elsewhere does not choose which of this machine's files are opened."""
    if not trust.is_own(cache.path):
        raise ExportError(
            f"{cache.path} was not made here (or has been copied) and says that its {what} is {place}; "
            f"if so, say it as well: --{what} {place}"
        )
    return place


def same_backbone(cache: Cache, weights: str) -> backbone.Backbone:
    """The backbone that a cache's features were made with.

    Raises:
      ExportError: these weights are not its.
    """
    built = backbone.build(replace(cache.spec.features, weights=weights))
    if built.spec.weights != cache.spec.features.weights:
        raise ExportError(
            f"the weights {weights!r} are not those that the features were made with\n"
            f"  weights: {cache.spec.features.weights} in the cache, {built.spec.weights} now"
        )
    return built


def _save(averaged: keras.Model, trained: keras.Model, folder: Path) -> None:
    """Join backbone, whose features are the mean over the run's views, and head."""
    import tensorflow as tf

    combined = keras.Model(averaged.input, trained(averaged.output))
    combined.trainable = False
    signature = tf.TensorSpec((None, None, None, 3), tf.uint8, name="images")

    @tf.function(input_signature=[signature], autograph=False)  # type: ignore[untyped-decorator]
    def serve(images: Any) -> dict[str, Any]:
        count = tf.shape(images)[0]
        # oneDNN's convolutions refuse an empty batch: it is given one black image, and that row is cut off.
        filled = tf.pad(images, [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]])
        logits = combined(filled, training=False)[:count]  # (n, c)
        return {
            "probabilities": tf.nn.softmax(logits),
            "logits": logits,
            "class_index": tf.argmax(logits, axis=-1),
        }

    module = tf.Module()  # holds the variables alone: loading it needs no Keras
    module.weights = [variable.value for variable in combined.variables]
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})


def _gate(folder: Path, trained: keras.Model, source: tuple[Cache, tuple[View, ...]], dataset: str) -> Parity:
    """Compare a fresh process that has TensorFlow alone with the head on the cached features of these views."""
    cache, views = source
    role: Role = "test" if "test" in cache.num_rows else next(iter(cache.num_rows))
    images = stored_images(cache, role, dataset, sum(PARITY_BATCHES))
    rows = np.arange(len(images))
    features = head.mean_of([cache.read_rows(role, rows, view=view) for view in views])  # (n, d)
    expected = head.logits_of(trained, features)  # (n, c)
    spec = cache.spec.features
    served = _serve_in_fresh_process(folder, _in_batches(images))  # (n, c)
    parity = Parity(
        num_images=len(images),
        error=float(np.abs(served - expected).max() / np.abs(expected).max()),
        tolerance=max(TOLERANCES[spec.compute_dtype], STORED_TOLERANCES[spec.feature_dtype]),
        same_class=float((served.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    )
    if not parity.error <= parity.tolerance:
        raise ExportError(
            f"the exported model does not answer as the cache did on {parity.num_images} {role} images: its logits "
            f"differ by {parity.error:.2e} of the largest, at most {parity.tolerance:.0e} was expected; "
            f"{parity.same_class:.1%} of the classes agree. Nothing was left in place"
        )
    return parity


def stored_images(cache: Cache, role: Role, dataset: str, count: int) -> list[np.ndarray]:
    """The raw images of the cache's first rows, `count` if it has so many, from the dataset, checked by id.

    Raises:
      ExportError: the dataset is not the cache's.
    """
    spec = replace(cache.spec.dataset, dataset=dataset, version="")
    source = datasets.open_dataset(spec)
    if source.version != cache.spec.dataset.version:
        raise ExportError(
            f"the dataset {dataset!r} is not the one that the features were made from\n"
            f"  version: {cache.spec.dataset.version} in the cache, {source.version} now"
        )
    ids = cache.read_ids(role)[:count].tolist()
    rows = datasets.rows(source, spec.roles[role], 0, datasets.count_rows(source, spec.roles[role]))
    usable = (row for row in rows if not isinstance(row, datasets.BadImage))  # those that the cache has
    examples = list(itertools.islice(usable, len(ids)))
    if [example.id.encode() for example in examples] != ids:
        raise ExportError(f"the first rows of {dataset!r} are not those of the cache: {ids[:3]} was expected")
    return [example.image for example in examples]


def _in_batches(images: list[np.ndarray]) -> list[np.ndarray]:
    """Batches of several sizes where the images are of one size, else one by one."""
    if len({image.shape for image in images}) > 1:
        return [image[None] for image in images]
    bounds = np.cumsum(PARITY_BATCHES)[:-1]
    return [batch for batch in np.split(np.stack(images), bounds) if len(batch)]


def _serve_in_fresh_process(folder: Path, batches: list[np.ndarray]) -> np.ndarray:
    program = Path(__file__).with_name("served.py")
    with tempfile.TemporaryDirectory() as scratch:
        images, logits = Path(scratch) / "images.npz", Path(scratch) / "logits.npy"
        np.savez(images, **{str(i): batch for i, batch in enumerate(batches)})  # type: ignore[arg-type]
        command = [sys.executable, "-P", str(program), str(folder), str(images), str(logits)]
        # On the CPU: this process may hold the whole GPU, and there float32 would mean TensorFloat-32.
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise ExportError(f"a fresh process could not run the exported model:\n{done.stderr[-2000:]}")
        return np.asarray(np.load(logits))


def _describe(folder: Path, run: Run, parity: Parity) -> None:
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
        "parity": asdict(parity),
        "tfl": __version__,
        "versions": engine.versions(),
    }
    path = folder / DESCRIPTION
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(description, indent=2) + "\n")


def predict(folder: Path, images: Sequence[Path]) -> list[dict[str, Any]]:
    """Classes of image files, from an exported model alone.

    Returns:
      For each image its `image` (path), `class_name`, `class_index` and `probabilities` by class name, in 0..1.

    Raises:
      ExportError: the folder is not an exported model.
      DatasetError: an image cannot be read or decoded; the message names it.
    """
    import tensorflow as tf

    try:
        class_names = json.loads((folder / DESCRIPTION).read_text())["class_names"]
        serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(f"{folder} is not a model that `tfl export` made: {error}") from error
    predictions = []
    for path in images:
        outputs = serve(images=tf.constant(datasets.read_image(path)[None]))
        index = int(outputs["class_index"][0])
        probabilities = dict(zip(class_names, outputs["probabilities"].numpy()[0].tolist(), strict=True))
        predictions.append(
            {
                "image": str(path),
                "class_name": class_names[index],
                "class_index": index,
                "probabilities": probabilities,
            }
        )
    return predictions
