"""Export of a fitted classifier: given images become a cache, the head a run, and both an artefact."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfl import datasets
from tfl.artefacts.export import export
from tfl.artefacts.manifest import Parity
from tfl.cache import Cache, open_cache
from tfl.extraction.precompute import precompute
from tfl.files.paths import expand_user
from tfl.files.scratch import scratch_folder
from tfl.heads.trials import Listeners
from tfl.runs.fitting import Task
from tfl.runs.metrics import MetricsByRole
from tfl.runs.training import make_record, write_run
from tfl.sklearn.errors import EstimatorError
from tfl.sklearn.extractor import FeatureExtractor
from tfl.sklearn.images import Images, open_images
from tfl.sklearn.parameters import make_feature_spec, to_plain
from tfl.sklearn.training import FittedRun
from tfl.specs import DIGEST_PREFIX, Artefact, DatasetSpec, Settings

SOURCE_NAME = "scikit-learn"
SPLIT = "val"  # the one role that may have any classes


class GivenImages(datasets.Dataset):
    """The images that an export is proven on; their labels are unknown, and mean nothing."""

    name = SOURCE_NAME

    def __init__(self, images: Images, class_names: tuple[str, ...]) -> None:
        self._images = images
        self.class_names = class_names
        self.num_rows = {SPLIT: len(images)}
        digest = hashlib.sha256(b"".join(image.digest for image in images))
        self.version = DIGEST_PREFIX + digest.hexdigest()

    def examples(self, split: str, start: int, stop: int) -> Iterator[datasets.Example | datasets.BadImage]:
        """Yield the images; a label is only a number that a cache can hold."""
        for row in range(start, stop):
            image = self._images.open_image(self._images.items[row])
            yield datasets.Example(image.decode(), row % len(self.class_names), str(row))


def export_run(
    run: FittedRun, extractor: FeatureExtractor, images: Any, out: Path, options: Mapping[str, Any]
) -> Parity:
    """Write a fitted head with its backbone into the new folder `out`, and return how well it agrees.

    Raises:
      ExportError: see `tfl.artefacts.export.export`.
    """
    artefact = Artefact(**options)
    dataset = GivenImages(open_images(images), run.class_names)
    with scratch_folder() as scratch, _hold_source(dataset):
        cache = _make_cache(extractor, scratch)
        folder = _write_run(run, cache, scratch)
        return export(folder, expand_user(out), artefact=artefact)


@contextmanager
def _hold_source(dataset: datasets.Dataset) -> Iterator[None]:
    """Let a dataset be opened by its name inside."""
    source = datasets.Source(SOURCE_NAME, "images in memory", lambda word, spec, max_pixels: dataset)
    datasets.register(source)
    try:
        yield
    finally:
        datasets.unregister(source)


def _make_cache(extractor: FeatureExtractor, folder: Path) -> Cache:
    """Compute the images' features again, into a cache.

    Raises:
      EstimatorError: the weights are not those of the extractor.
    """
    parameters = extractor.get_params(deep=False)
    engine, batch_size = parameters["engine"], to_plain(parameters["batch_size"])
    settings = Settings(cache_dir=folder, engine=engine, batch_size=batch_size)
    spec = DatasetSpec(f"{SOURCE_NAME}:images", train_split="", val_split=SPLIT, test_split="")
    cache = open_cache(precompute(make_feature_spec(parameters), spec, settings))
    if cache.spec.features.weights != extractor.weights_:
        raise EstimatorError(
            f"the weights {extractor.weights!r} are not those that the classifier was fitted with",
            f"  weights: {extractor.weights_} then, {cache.spec.features.weights} now",
        )
    return cache


def _write_run(run: FittedRun, cache: Cache, scratch: Path) -> Path:
    """Leave the run folder that `tfl train` would have left."""
    trained = run.as_trained()
    folder = scratch / "run"
    record = make_record(Task(cache, run.recipe, run.selection, Listeners()), trained, run.calibration, folder, 0.0)
    metrics: MetricsByRole = {} if run.validation is None else {"val": run.validation}
    return write_run(folder, record, trained, metrics)
