"""A candidate for export: a run, what its cache was made from, the joined model, and how it is shipped."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from tfl import datasets
from tfl.artefacts import limits
from tfl.artefacts.accuracy import measure_accuracy, measure_head_accuracy
from tfl.artefacts.combined import Combined, combine, fold, use_portable_resizing, wrap_head
from tfl.artefacts.formats import Format, Quantization, require_format
from tfl.artefacts.fresh_process import ComputeLogits
from tfl.artefacts.origin import Origin
from tfl.artefacts.questions import Questions, ask_about_features, ask_about_images
from tfl.backbones import Backbone
from tfl.cache import Cache
from tfl.errors import ExportError, TflError
from tfl.heads.examples import average_views
from tfl.machine.progress import Progress
from tfl.metrics import Metrics
from tfl.runs.folder import Run, open_run
from tfl.specs import Artefact, Role

NUM_CALIBRATION_IMAGES = 128  # that the ranges of int8 activations are measured on
MAX_CONVERTER_MESSAGE = 1000  # characters of what a converter said

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Candidate:
    """A model that is exported once it has been proven.

    Attributes:
      origin: the dataset and the backbone of the run's cache.
      backbone: the one that the format carries: the cache's own, or the same in float32; None for a
        head alone.
      combined: the model as it was trained, or with the float32 network where the format cannot
        compute as the features were made: what the exported one is compared with.
      artefact: how it is shipped.
    """

    run: Run
    origin: Origin
    backbone: Backbone | None
    combined: Combined
    artefact: Artefact
    noun: ClassVar[str] = "images"

    @property
    def format(self) -> Format:
        """The format to export to."""
        return require_format(self.artefact)

    @property
    def has_own_arithmetic(self) -> bool:
        """Whether the exported model computes features as the cached ones were computed."""
        return self.combined.compute_dtype == self.origin.cache.spec.features.compute_dtype

    @property
    def quantization(self) -> Quantization:
        """The way in which the format stores weights."""
        found = self.format.find_quantization(self.artefact.quantize)
        assert found is not None  # `require_format` refuses others
        return found

    @property
    def tested_role(self) -> Role:
        """The role whose rows the model is tested on: test, or the first that there is."""
        roles = self.origin.cache.num_rows
        return "test" if "test" in roles else next(iter(roles))

    def prepare(self) -> Combined:
        """Return a model of the same answers that loads and runs well in the format."""
        shipped = replace(self.combined, max_image_pixels=self.artefact.max_image_pixels)
        if self.artefact.fold_batch_norm:
            shipped = fold(shipped)
        if self.format.needs_portable_resizing:
            assert self.backbone is not None
            shipped = use_portable_resizing(shipped, self.backbone.spec, self.run.views)
        return shipped

    def save(self, folder: Path) -> None:
        """Write the format's own files into a folder.

        Raises:
          ExportError: its converter failed; the beginning of what it said.
          ExtraError: a package that it needs is not installed.
        """
        shipped = self.prepare()
        try:
            self.format.save(shipped, folder / self.format.file, self.artefact.quantize, self._read_calibration)
        except (TflError, MemoryError, OSError):
            raise
        except Exception as error:  # each converter raises its own
            reason = str(error)[:MAX_CONVERTER_MESSAGE]
            raise ExportError(f"{self.format.name} could not carry this model: {reason}") from error

    def collect_questions(self) -> Questions:
        """Return what the exported model is asked, and the logits that are expected."""
        return ask_about_images(self)

    def measure_accuracy(self, compute_logits: ComputeLogits, on_progress: OnProgress) -> Metrics:
        """Return an exported model's metrics on all test rows; `on_progress` is called after each image."""
        rows = _report_each(self.origin.read_rows("test"), self.origin.cache.num_rows["test"], on_progress)
        return measure_accuracy(self.run, self.origin, rows, compute_logits)

    def _read_calibration(self) -> list[np.ndarray]:
        """Return some training images, or images of another role if there are none."""
        role: Role = "train" if "train" in self.origin.cache.num_rows else self.tested_role
        return [row.image for row in self.origin.sample_rows(role, NUM_CALIBRATION_IMAGES)]


@dataclass(frozen=True)
class HeadCandidate(Candidate):
    """A head on imported features, which is exported alone: the model takes features."""

    noun: ClassVar[str] = "rows"

    def prepare(self) -> Combined:
        """Return the head as it is."""
        return self.combined

    def collect_questions(self) -> Questions:
        """Return cached features, and the head's logits."""
        return ask_about_features(self)

    def measure_accuracy(self, compute_logits: ComputeLogits, on_progress: OnProgress) -> Metrics:
        """Return an exported head's metrics on the cached test rows."""
        return measure_head_accuracy(self.run, self.origin, compute_logits)

    def _read_calibration(self) -> list[np.ndarray]:
        """Return features of some training rows, or of rows of another role if there are none."""
        cache = self.origin.cache
        role: Role = "train" if "train" in cache.num_rows else self.tested_role
        count = cache.num_rows[role]
        positions = np.unique(np.linspace(0, count - 1, min(count, NUM_CALIBRATION_IMAGES)).astype(int))
        by_view = [cache.read_rows(role, positions, view=view) for view in self.run.views]
        return list(average_views(by_view))


def _report_each(rows: Iterable[datasets.Example], total: int, on_progress: OnProgress) -> Iterator[datasets.Example]:
    """Yield the rows, and report each after it has been used."""
    progress = Progress(total)
    for row in rows:
        yield row
        progress.finished += 1
        progress.computed += 1
        on_progress(progress)


def _refuse_places(cache: Cache, dataset: str, weights: str) -> None:
    """Refuse to be told where images and weights are: imported features have none."""
    given = [name for name, place in (("--dataset", dataset), ("--weights", weights)) if place]
    if given:
        raise ExportError(
            f"{cache.path} has features that were imported, without images and backbone: {' and '.join(given)} means "
            "nothing here; leave it out"
        )


def open_candidate(run_folder: Path, dataset: str, weights: str, artefact: Artefact) -> Candidate:
    """Open all that an export needs; refuse what the format cannot do before anything is built.

    Raises:
      SpecError: see `require_format`.
      ExportError: see `require_possible` and `Origin`; or accuracy is asked for and there are no
        test rows.
      RunError, CacheError: see `open_run` and `open_cache`.
    """
    kind = require_format(artefact)
    run = open_run(run_folder)
    cache = run.open_cache()
    if artefact.assert_accuracy_at_least and "test" not in cache.num_rows:
        raise ExportError(f"{cache.path} has no test rows to measure accuracy on; leave --assert-accuracy-at-least out")
    head = run.load_head(cache)
    limits.require_possible(kind, cache.spec.features, head)
    origin = Origin(cache, dataset, weights)
    if cache.spec.features.is_imported:
        _refuse_places(cache, dataset, weights)
        return HeadCandidate(run, origin, None, wrap_head(run, head), replace(artefact, fold_batch_norm=False))
    _ = origin.dataset  # a wrong one is refused before any work is done
    is_carried = cache.spec.features.compute_dtype in kind.compute_dtypes
    backbone = origin.backbone if is_carried else origin.build_in_float32()
    return Candidate(run, origin, backbone, combine(run, head, backbone), artefact)
