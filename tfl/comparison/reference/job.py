"""What a process of the comparison is given: one folder of plain files, which both sides read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tfl.specs import FeatureSpec
from tfl.specs.recipes import Reference

FIT_REPEATS = 3  # trainings on the cache's rows that are timed
WeightsName = Literal["keras", "torchvision"]


class Start(NamedTuple):
    """What chance decides in a training: kernel `(d, c)`, bias `(c,)`, and the rows' order in each epoch `(e, n)`."""

    kernel: np.ndarray
    bias: np.ndarray
    orders: np.ndarray


class Labelled(NamedTuple):
    """Uint8 images `(n, h, w, 3)`, all of one size, and their labels `(n,)` int64."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Job:
    """One comparison.

    Attributes:
      folder: its files. `images.npz`, a dataset for `tfl precompute`; `weights.npz`, the Keras network's tensors by
        path; `slice.npz` and `all.npz`, how the training on the slice and on all rows of the cache starts.
      cache: the cache file, whose rows the heads are trained on.
      features: of the cache, the weights in words.
      recipe: batches, step size, momentum and seed of every form.
      threads: that each side computes with.
      weights: whose the reference uses.
      num_images: of each role in the slice, if there are so many; 0 where heads are trained on the cache's rows alone.
    """

    folder: Path
    cache: Path
    features: FeatureSpec
    recipe: Reference
    num_classes: int
    threads: int
    weights: WeightsName
    num_images: int

    def save(self) -> None:
        """Leave it in its folder."""
        paths = {"folder": str(self.folder), "cache": str(self.cache)}
        (self.folder / "job.json").write_text(json.dumps({**asdict(self), **paths}), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Job":
        """The job of a folder."""
        values = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        parts = {
            "folder": Path(values["folder"]),
            "cache": Path(values["cache"]),
            "features": FeatureSpec.from_json(json.dumps(values["features"])),
            "recipe": Reference(**values["recipe"]),
        }
        return cls(**{**values, **parts})

    @property
    def images_file(self) -> Path:
        """Images, labels and ids, of both roles."""
        return self.folder / "images.npz"

    def images(self, role: str) -> Labelled:
        """The images of `train` or `test` whose features are extracted."""
        with np.load(self.images_file) as arrays:
            return Labelled(arrays[f"{role}_images"], arrays[f"{role}_labels"])

    def slice(self, role: str) -> Labelled:
        """The first of them, which every form trains on, or is measured on."""
        return Labelled(*(array[: self.num_images] for array in self.images(role)))

    def start(self, rows: str) -> Start:
        """How the training starts, on the rows of the `slice` or on `all`."""
        with np.load(self.folder / f"{rows}.npz") as arrays:
            return Start(arrays["kernel"], arrays["bias"], arrays["orders"])
