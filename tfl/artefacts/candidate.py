"""A candidate for export: a run, what its cache was made from, the joined model, and how it is shipped."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tfl.artefacts import limits
from tfl.artefacts.combined import Combined, combine, fold, use_portable_resizing
from tfl.artefacts.formats import Format, Quantization, require_format
from tfl.artefacts.origin import Origin
from tfl.backbones import Backbone
from tfl.errors import ExportError, TflError
from tfl.runs.folder import Run, open_run
from tfl.specs import Artefact, Role

NUM_CALIBRATION_IMAGES = 128  # that the ranges of int8 activations are measured on
MAX_CONVERTER_MESSAGE = 1000  # characters of what a converter said


@dataclass(frozen=True)
class Candidate:
    """A model that is exported once it has been proven.

    Attributes:
      origin: the dataset and the backbone of the run's cache.
      backbone: the one that the format carries: the cache's own, or the same in float32.
      combined: the model as it was trained, or with the float32 network where the format cannot
        compute as the features were made: what the exported one is compared with.
      artefact: how it is shipped.
    """

    run: Run
    origin: Origin
    backbone: Backbone
    combined: Combined
    artefact: Artefact

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

    def _read_calibration(self) -> list[np.ndarray]:
        """Return some training images, or images of another role if there are none."""
        role: Role = "train" if "train" in self.origin.cache.num_rows else self.tested_role
        return [row.image for row in self.origin.sample_rows(role, NUM_CALIBRATION_IMAGES)]


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
    _ = origin.dataset  # a wrong one is refused before any work is done
    is_carried = cache.spec.features.compute_dtype in kind.compute_dtypes
    backbone = origin.backbone if is_carried else origin.build_in_float32()
    return Candidate(run, origin, backbone, combine(run, head, backbone), artefact)
