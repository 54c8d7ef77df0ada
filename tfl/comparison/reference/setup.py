"""The setup of a comparison: one folder of plain files, which every program reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tfl.files.codec import decode_record, format_record
from tfl.files.strict_json import read_json
from tfl.heads import Reference
from tfl.specs import FeatureSpec

SETUP = "setup.json"
FIT_REPEATS = 3  # trainings on the cache's rows that are timed
WeightsName = Literal["keras", "torchvision"]


class Start(NamedTuple):
    """The random choices of a training: kernel `(d, c)`, bias `(c,)`, and the rows' order in each epoch `(e, n)`."""

    kernel: np.ndarray
    bias: np.ndarray
    orders: np.ndarray


class LabelledImages(NamedTuple):
    """Images `(n, h, w, 3)` uint8, all of one size, and their labels `(n,)` int64."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Setup:
    """The files and settings that the programs of one comparison are given.

    Attributes:
      folder_path: of its files. `images.npz`, a dataset for `tfl precompute`; `weights.npz`, the
        Keras network's tensors by path; `slice.npz` and `all.npz`, how the training on the slice
        and on all rows of the cache starts.
      cache_path: of the cache file, whose rows the heads are trained on.
      features: of the cache, the weights in words.
      recipe: batches, step size, momentum and seed of every program.
      threads: that each program computes with.
      weights: which weights the reference uses.
      num_images: of each role in the slice, if there are so many; 0 to train on the cache's rows
        alone.
    """

    folder_path: str
    cache_path: str
    features: FeatureSpec
    recipe: Reference
    num_classes: int
    threads: int
    weights: WeightsName
    num_images: int

    def save(self) -> None:
        """Write it into its folder."""
        (self.folder / SETUP).write_text(format_record(self), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Setup":
        """Return the setup in a folder."""
        return decode_record(read_json(folder / SETUP), cls)

    @property
    def folder(self) -> Path:
        """The folder of its files."""
        return Path(self.folder_path)

    @property
    def cache(self) -> Path:
        """The cache file."""
        return Path(self.cache_path)

    @property
    def images_file(self) -> Path:
        """Images, labels and ids of both roles."""
        return self.folder / "images.npz"

    def read_images(self, role: str) -> LabelledImages:
        """Return the images of `train` or `test` whose features are extracted."""
        with np.load(self.images_file) as arrays:
            return LabelledImages(arrays[f"{role}_images"], arrays[f"{role}_labels"])

    def read_slice(self, role: str) -> LabelledImages:
        """Return the first of these images, which every program is trained on, or tested on."""
        images, labels = self.read_images(role)
        return LabelledImages(images[: self.num_images], labels[: self.num_images])

    def read_start(self, rows: str) -> Start:
        """Return how the training starts, on the rows of the `slice` or on `all`."""
        with np.load(self.folder / f"{rows}.npz") as arrays:
            return Start(arrays["kernel"], arrays["bias"], arrays["orders"])
