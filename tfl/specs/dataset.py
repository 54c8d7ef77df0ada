"""DatasetSpec: the images, and the use of each split."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import tyro

from tfl.errors import SpecError
from tfl.specs.spec import DIGEST_PREFIX, Spec

Role = Literal["train", "val", "test"]
ROLES: tuple[Role, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class DatasetSpec(Spec):
    """The images, and the use of each split."""

    dataset: str = "cifar10"
    """A TFDS name, a folder `root/<class>/*.jpg` or `root/<split>/<class>/*.jpg`, a table of
    paths and labels (.csv, .tsv, .jsonl, .parquet), an .npz file, or, with its prefix, a dataset
    of Hugging Face (`hf:owner/name`, `hf:./saved`) or tars (`wds:shards-{000..009}.tar`).
    A prefix says which it is: `tfds:cifar10`, `folder:photos`, `table:photos.csv`, `npz:images.npz`."""
    train_split: str = "train"
    """Split to train on. Slices are written as in TFDS: 'train[:4000]', 'train[:8%]'.
    A percent slice of a folder takes about that share of every class.
    Its images stay in the slice when others are added to the folder."""
    val_split: str = ""
    """Split to choose settings on; an empty string leaves the role out."""
    test_split: str = "test"
    """Split that is used once, at the end; an empty string leaves the role out."""
    val_fraction: float = 0.0
    """Share of the images to choose settings on, where the dataset has no splits: a folder `root/<class>/*.jpg`, a
    table without a column of splits, or arrays. Images stay in their parts when others are added."""
    test_fraction: float = 0.2
    """Share of the images that is used once, at the end, where the dataset has no splits."""
    split_seed: int = 0
    """Another number divides the images in another way."""
    image_key: str = ""
    """Column of a table, or feature of a TFDS or Hugging Face dataset, that holds the images or their paths; found
    by its name or type if it is not named. In the tars of a WebDataset: the images' suffix."""
    label_key: str = ""
    """Column or feature that holds the labels; in tars the suffix of a text, or a field of the .json."""
    split_key: str = ""
    """Column of a table that says train, val or test."""
    id_key: str = ""
    """Column of a table, or feature of a Hugging Face dataset, that holds the images' ids; else their paths or
    row numbers are their ids."""
    group_key: str = ""
    """Column of a table whose equal values stay in one part, such as the patient or the camera."""
    exclude: str = ""
    """CSV file with a column `id`, such as `tfl audit --out` writes: images to leave out."""
    version: Annotated[str, tyro.conf.Suppress] = ""
    omitted_by_default: ClassVar[frozenset[str]] = frozenset(
        {
            "val_fraction",
            "test_fraction",
            "split_seed",
            "image_key",
            "label_key",
            "split_key",
            "id_key",
            "group_key",
            "exclude",
        }
    )

    def __post_init__(self) -> None:
        self._check_types()
        if not (self.val_fraction >= 0 and self.test_fraction >= 0 and self.val_fraction + self.test_fraction < 1):
            raise SpecError(
                "val_fraction and test_fraction are shares of the images, 0 or more and less than 1 together; got "
                f"{self.val_fraction:g} and {self.test_fraction:g}"
            )
        if not self.dataset:
            raise SpecError("dataset is empty; expected a TFDS name, a folder or an .npz file")
        if not any(self.roles.values()):
            raise SpecError("no split was given: at least one of train_split, val_split and test_split is needed")

    @property
    def roles(self) -> dict[Role, str]:
        """The split of each role that has one, in the order train, val, test."""
        splits: dict[Role, str] = {"train": self.train_split, "val": self.val_split, "test": self.test_split}
        return {role: split for role, split in splits.items() if split}

    @property
    def images(self) -> str:
        """The identity of the images that ids refer to: a digest of the content, or name and version."""
        return self.version if self.version.startswith(DIGEST_PREFIX) else f"{self.dataset} {self.version}"

    @property
    def is_resolved(self) -> bool:
        """True if the dataset's version, or the digest of its content, is known."""
        return bool(self.version)
