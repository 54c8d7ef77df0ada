"""DatasetSpec: the images, and the use of each split."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from tfl.errors import SpecError
from tfl.specs.spec import DIGEST_PREFIX, Spec

Role = Literal["train", "val", "test"]
ROLES: tuple[Role, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class DatasetSpec(Spec):
    """The images, and the use of each split."""

    dataset: str = "cifar10"
    """A TFDS name, a folder `root/<split>/<class>/*.png`, or an .npz file.
    A prefix says which it is: `tfds:cifar10`, `folder:photos`, `npz:images.npz`."""
    train_split: str = "train"
    """Split to train on. Slices are written as in TFDS: 'train[:4000]', 'train[:8%]'.
    A percent slice of a folder takes about that share of every class.
    Its images stay in the slice when others are added to the folder."""
    val_split: str = ""
    """Split to choose settings on; an empty string leaves the role out."""
    test_split: str = "test"
    """Split that is used once, at the end; an empty string leaves the role out."""
    version: Annotated[str, tyro.conf.Suppress] = ""

    def __post_init__(self) -> None:
        self._check_types()
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
