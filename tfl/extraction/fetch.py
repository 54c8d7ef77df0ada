"""Bringing datasets and weights onto this machine before the commands that need them."""

from pathlib import Path

from tfl import backbones, datasets
from tfl.errors import SpecError
from tfl.files.paths import expand_user
from tfl.specs import DatasetSpec, FeatureSpec


def fetch(name: str, npz: Path | str | None = None) -> str:
    """Make a dataset, or a backbone's pretrained weights, available offline.

    Nothing is done if they are already here.

    Args:
      name: a dataset or a backbone; a name that is both is the backbone's.
      npz: for a dataset: also write it to this file, for machines without TensorFlow.

    Returns:
      One line that says what is here now.

    Raises:
      AssetError: it could not be had; what was tried and what to do by hand.
      DatasetError: there is no such dataset.
    """
    if backbones.is_backbone(name):
        if npz is not None:
            raise SpecError(f"--npz is for a dataset; {name} is a backbone")
        return _fetch_backbone(name)
    return _fetch_dataset(name, None if npz is None else expand_user(npz))


def _fetch_backbone(name: str) -> str:
    source, _ = backbones.require_backbone(name)
    weights = source.weight_words[0]
    spec = backbones.build_backbone(FeatureSpec(backbone=name, weights=weights)).spec
    return f"{spec.backbone}: weights {weights}, {spec.weights}"


def _fetch_dataset(name: str, npz: Path | None) -> str:
    if npz is not None:
        datasets.require_new_npz(npz)
    dataset = datasets.open_dataset(DatasetSpec(dataset=name))
    if npz is not None:
        datasets.write_npz(dataset, npz)
    counts = ", ".join(f"{count} {split}" for split, count in dataset.num_rows.items())
    written = f", written to {npz}" if npz else ""
    return f"{dataset.name}: version {dataset.version}, {counts}{written}"
