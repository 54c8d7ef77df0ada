"""`tfl features` and `tfl import`."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from tyro.conf import Positional, arg

from tfl.cli.output import print_path
from tfl.cli.startup import start_keras
from tfl.files import paths
from tfl.specs import DatasetSpec, ImportSettings, Role, View


@dataclass(frozen=True)
class Features:
    """Write the features of a cache into a Parquet or .npz file, for other programs; its path is the last line."""

    cache: Positional[Path]
    """The file that `tfl precompute` or `tfl import` made."""
    out: Path
    """The file to make: `features.parquet` or `features.npz`."""
    of_run: Annotated[Path | None, arg(name="run")] = None
    """Also write logits and probabilities of this run, which was trained on the cache."""
    roles: tuple[Role, ...] = ()
    """Roles to write; all if none is named."""
    views: tuple[View, ...] = ("original",)
    """Views to write, a column each."""
    overwrite: bool = False
    """Replace the file if it is there."""
    is_resumable: ClassVar[bool] = False

    def run(self) -> None:
        """Write the file and print its path."""
        if self.of_run is not None:
            start_keras()
        from tfl.exchange.export_features import export_features

        print_path(export_features(self.cache, self.out, self.of_run, self.roles, self.views, self.overwrite))


@dataclass(frozen=True)
class DivisionFlags(DatasetSpec):
    """How the rows become train, val and test, and which columns hold what."""

    dataset: Annotated[str, tyro.conf.Suppress] = "features"
    image_key: Annotated[str, tyro.conf.Suppress] = ""
    train_split: str = "train"
    """Rows to train on: a role of the file, or a slice of it such as 'train[:50%]'."""
    val_split: str = ""
    """Rows to choose settings on; if empty, those of the role val, where the file has it."""
    test_split: str = "test"
    """Rows that are used once, at the end."""
    val_fraction: float = 0.0
    """Share of the rows to choose settings on, where the file names no roles."""
    test_fraction: float = 0.2
    """Share of the rows that is used once, at the end, where the file names no roles."""
    label_key: str = ""
    """Column of the labels, integers or texts; `label`, `labels` or `class_name` if it is not named."""
    split_key: str = ""
    """Column that says train, val or test; `role` or `split` if it is not named."""
    id_key: str = ""
    """Column of the ids; `id` or `ids` if it is not named, else the rows' numbers are the ids."""
    group_key: str = ""
    """Column whose equal values stay in one part, such as the patient or the camera."""

    def make_plain(self) -> DatasetSpec:
        """Return the same as a DatasetSpec."""
        return DatasetSpec(**{field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True)
class Import:
    """Make a cache of features that were made elsewhere; its path is the last line."""

    file: Positional[Path]
    """A Parquet or .npz file with the columns `features` and `label` or `class_name`, and perhaps `id` and `role`."""
    division: DivisionFlags = DivisionFlags()
    settings: ImportSettings = ImportSettings()
    is_resumable: ClassVar[bool] = True

    def run(self) -> None:
        """Make the cache file and print its path."""
        paths.require_no_file(self.settings.cache_dir)
        from tfl.exchange.import_features import import_features

        print_path(import_features(self.file, self.division.make_plain(), self.settings))
