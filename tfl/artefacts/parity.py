"""The proof: a fresh process that has the format's runtime alone, held against the head on cached features."""

import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tfl import datasets, heads
from tfl.artefacts import runtimes
from tfl.artefacts.combined import Combined
from tfl.cache import Cache
from tfl.errors import ExportError
from tfl.machine import batching
from tfl.metrics import Metrics, measure_blocks
from tfl.runs.run import Run
from tfl.specs import MAX_IMAGE_PIXELS, Artefact, Role

BATCHES = (1, 7, 24, 32)  # images, of the cache's test rows
TFDS_ROWS = 8  # side by side: its stored order is shuffled, and each beginning anew takes 0.25 s (CIFAR-10, 2 cores)
# Further batches of one image, since those of the cache may be of one size, or none of the size of another: twice as
# wide, three times as high, a single pixel; and upright, upside down and mirrored together.
FURTHER: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda image: image.repeat(2, axis=1)[None],
    lambda image: image.repeat(3, axis=0)[None],
    lambda image: image[None, :1, :1],
    lambda image: np.stack([image, image[::-1], image[:, ::-1]]),
)

# Largest difference of a logit, as a share of the largest logit, that the parity gate lets pass. Low precision
# rounds differently in every graph: bfloat16 keeps 8 bits, float16 11, through some fifty layers.
TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
STORED_TOLERANCES = {"float32": 0.0, "float16": 5e-3}  # of features rounded to what the cache stores
QUANTIZED_TOLERANCES = {"none": 0.0, "float16": 1e-2, "int8": 5e-1}  # of rounded weights; int8: and activations
LEAST_SAME_CLASS = {"none": 0.0, "float16": 0.0, "int8": 0.9}  # where that tolerance alone would let other classes pass

LogitsOf = Callable[[np.ndarray], np.ndarray]
"""uint8 images `(n, h, w, 3)` to logits `(n, c)`; of a SavedModel also encoded images `(n,)`."""


@dataclass(frozen=True)
class Parity:
    """How far the served logits are from those of the head on the cached features.

    Attributes:
      num_images: of the cache, and some changed ones, which are held against the model in the exporting process.
      error: largest difference, as a share of the largest logit.
      same_class: share of images whose predicted class is the same.
    """

    num_images: int
    error: float
    tolerance: float
    same_class: float


@contextlib.contextmanager
def open_in_fresh_process(folder: Path, name: str = "") -> Iterator[LogitsOf]:
    """An exported model in a process of its own, that has its runtime and nothing of tfl.

    Args:
      name: its format; empty for that of the files in the folder.

    Raises:
      ExportError: when it is called: the process died; the end of what it wrote.
    """
    command = [sys.executable, "-P", str(Path(runtimes.__file__)), str(folder), *filter(None, [name])]
    # On the CPU: this process may hold the whole GPU, and there float32 would mean TensorFloat-32.
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    with tempfile.TemporaryFile() as written:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": written}
        with subprocess.Popen(command, env=environment, **pipes) as process:  # type: ignore[call-overload]

            def logits_of(images: np.ndarray) -> np.ndarray:
                with contextlib.suppress(BrokenPipeError):
                    runtimes.write_array(process.stdin, images)
                if (logits := runtimes.read_array(process.stdout)) is None:
                    with contextlib.suppress(BrokenPipeError):  # which leaving the context would raise instead
                        process.stdin.close()
                    code = process.wait()
                    written.seek(0)
                    text = written.read().decode(errors="replace")[-2000:]
                    words = f"a fresh process could not run the exported model (exit code {code}):"
                    raise ExportError(words, *text.splitlines())
                return logits

            yield logits_of


def images_of(cache: Cache, role: Role, dataset: str) -> Iterator[datasets.Example]:
    """`rows_of` of a dataset that is opened for this alone."""
    return rows_of(cache, role, opened(cache, dataset))


def opened(cache: Cache, dataset: str) -> datasets.Dataset:
    """The dataset that a cache's features were made from, under the same bound on pixels.

    Raises:
      ExportError: this is another.
    """
    spec = replace(cache.spec.dataset, dataset=dataset, version="")
    source = datasets.open_dataset(spec, _max_image_pixels_of(cache))
    if source.version != cache.spec.dataset.version:
        raise ExportError(
            f"the dataset {dataset!r} is not the one that the features were made from",
            f"  version: {cache.spec.dataset.version} in the cache, {source.version} now",
        )
    return source


def _max_image_pixels_of(cache: Cache) -> int:
    """The bound that images were read under; the default where a cache's provenance names no positive number."""
    recorded = cache.provenance.get("max_image_pixels")
    return recorded if type(recorded) is int and recorded > 0 else MAX_IMAGE_PIXELS


def rows_of(cache: Cache, role: Role, source: datasets.Dataset) -> Iterator[datasets.Example]:
    """The raw images of a cache's rows, in their order, each checked by its id.

    Raises:
      ExportError: the dataset's rows are others.
    """
    split = cache.spec.dataset.roles[role]
    usable = _usable(cache, datasets.read_rows(source, split, 0, datasets.count_rows(source, split)))
    for id_ in cache.read_ids(role).tolist():
        row = next(usable, None)
        if row is None or row.id.encode() != id_:
            received = "none" if row is None else repr(row.id)
            raise ExportError(
                f"the rows of {source.name!r} are not those of the cache: {id_!r} was expected, got {received}"
            )
        yield row


def spread(cache: Cache, role: Role, source: datasets.Dataset, count: int) -> Iterator[datasets.Example]:
    """So many of a role's images, or all, from its first to its last: neighbours may be of one class.

    Bad images among them are passed over.
    """
    split = cache.spec.dataset.roles[role]
    total = datasets.count_rows(source, split)
    length = TFDS_ROWS if isinstance(source, datasets.TfdsDataset) else 1
    starts = np.linspace(0, total - length, count // length).astype(int)
    places = (starts[:, None] + np.arange(length)).ravel() if total > count else np.arange(total)
    for stretch in np.split(places, np.flatnonzero(np.diff(places) != 1) + 1):
        yield from _usable(cache, datasets.read_rows(source, split, int(stretch[0]), int(stretch[-1]) + 1))


def _usable(cache: Cache, rows: Iterable[datasets.Example | datasets.BadImage]) -> Iterator[datasets.Example]:
    """Yield the rows that the cache has: good images that `precompute` did not leave out, under whatever bound."""
    left_out = {image["id"] for image in cache.provenance.get("skipped", [])}
    for row in rows:
        if not isinstance(row, datasets.BadImage) and row.id not in left_out:
            yield row


def tested_role(cache: Cache) -> Role:
    """Whose rows are asked for: test, or what there is."""
    return "test" if "test" in cache.num_rows else next(iter(cache.num_rows))


def measure_parity(
    run: Run, cache: Cache, combined: Combined, source: datasets.Dataset, logits_of: LogitsOf, artefact: Artefact
) -> Parity:
    """Ask for some of the cache's test rows, in batches of several sizes, and for some changed ones.

    Args:
      combined: as it was trained; what changed images are held against.
      artefact: what it is that is asked. A SavedModel is asked for one encoded image too.

    Raises:
      ExportError: an answer differs by more than the tolerance; or the dataset's rows are not those of the cache.
    """
    role = tested_role(cache)
    rows = list(spread(cache, role, source, sum(BATCHES)))
    images = [row.image for row in rows]
    places = _places(cache, role, source, rows)
    features = heads.average_views([cache.read_rows(role, places, view=view) for view in run.views])  # (n, d)
    expected = [heads.compute_logits(combined.head, features)]  # (n, c)
    asked = _in_batches(images)
    for image, changed in zip(itertools.cycle(images), FURTHER, strict=False):
        asked.append(changed(image))
        expected.append(combined.logits_of(asked[-1]))
    if artefact.format == "saved-model":
        from tfl.artefacts.decoding import decode

        image = _within(images[-1], artefact.max_image_pixels)
        asked.append(decode.as_png(image))
        expected.append(combined.logits_of(image[None]))
    wanted = np.concatenate(expected)
    _require_finite(wanted, "the head", "train again")
    answers = np.concatenate([logits_of(batch) for batch in asked])
    _require_finite(answers, "the exported model", "its format cannot carry this model")
    parity = _parity(answers, wanted, _tolerance_of(cache, artefact.quantize))
    _require_parity(parity, role, artefact)
    return parity


def _require_finite(logits: np.ndarray, whose: str, advice: str) -> None:
    """Refuse answers that are no numbers: they are near nothing."""
    if num_bad := int((~np.isfinite(logits)).any(axis=1).sum()):
        raise ExportError(
            f"{whose} answers {num_bad} of {len(logits)} images with logits that are not finite (NaN or infinite); "
            f"{advice}. Nothing was left in place"
        )


def _within(image: np.ndarray, max_pixels: int) -> np.ndarray:
    """The image, or as much of its top left as `serve_bytes` decodes."""
    height, width, _ = image.shape
    if height * width <= max_pixels:
        return image
    columns = min(width, max_pixels)
    return image[: max_pixels // columns, :columns]


def _places(cache: Cache, role: Role, source: datasets.Dataset, rows: list[datasets.Example]) -> np.ndarray:
    """Which of a cache's rows those of its dataset are, by their ids, `(n,)`."""
    asked = [row.id.encode() for row in rows]
    ids = cache.read_ids(role)
    places = np.flatnonzero(np.isin(ids, asked))
    if ids[places].tolist() != asked:
        raise ExportError(
            f"the rows of {source.name!r} are not those of the cache, in its order: got {asked[0]!r} to {asked[-1]!r}"
        )
    return places


def _require_parity(parity: Parity, role: Role, artefact: Artefact) -> None:
    least = LEAST_SAME_CLASS[artefact.quantize]
    if parity.error <= parity.tolerance and parity.same_class >= least:
        return
    asked = f", at least {least:.0%} were expected" if least else ""
    hint = ". If --no-fold-batch-norm passes, folding is at fault" if artefact.fold_batch_norm else ""
    raise ExportError(
        f"the exported model does not answer as the cache did on {parity.num_images} {role} images: its logits "
        f"differ by {parity.error:.2e} of the largest, at most {parity.tolerance:.0e} was expected; "
        f"{parity.same_class:.1%} of the classes agree{asked}{hint}. "
        "Nothing was left in place"
    )


def _tolerance_of(cache: Cache, quantize: str) -> float:
    """The largest difference of a logit that may be, as a share of the largest logit."""
    spec = cache.spec.features
    return max(TOLERANCES[spec.compute_dtype], STORED_TOLERANCES[spec.feature_dtype], QUANTIZED_TOLERANCES[quantize])


def _parity(answers: np.ndarray, expected: np.ndarray, tolerance: float) -> Parity:
    return Parity(
        num_images=len(expected),
        error=float(np.abs(answers - expected).max() / np.abs(expected).max()),
        tolerance=tolerance,
        same_class=float((answers.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    )


def _in_batches(images: list[np.ndarray]) -> list[np.ndarray]:
    """Batches of several sizes where the images are of one size, else one by one."""
    if len({image.shape for image in images}) > 1:
        return [image[None] for image in images]
    bounds = np.cumsum(BATCHES)[:-1]
    return [batch for batch in np.split(np.stack(images), bounds) if len(batch)]


def measure_accuracy(run: Run, cache: Cache, rows: Iterable[datasets.Example], logits_of: LogitsOf) -> Metrics:
    """Metrics of an exported model on those of some images that are of a run's classes."""
    class_of = {cache.class_names.index(name): i for i, name in enumerate(run.class_names)}
    asked = (row for row in rows if row.label in class_of)

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for chunk in batching.split_into_batches(asked, lambda row: row.image.nbytes, batching.BATCH_SIZE):
            for alike in batching.group_by_shape([row.image for row in chunk]):
                images = np.stack([chunk[i].image for i in alike])
                yield logits_of(images), np.asarray([class_of[chunk[i].label] for i in alike])

    return measure_blocks(blocks())
