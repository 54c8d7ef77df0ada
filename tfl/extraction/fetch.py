"""Bringing datasets and weights onto this machine ahead of the commands that need them."""

from pathlib import Path

from tfl import datasets
from tfl.backbones import backbone
from tfl.errors import SpecError
from tfl.files.paths import expand_user
from tfl.specs import DatasetSpec, FeatureSpec


def fetch(name: str, npz: Path | None = None) -> str:
    """Make a dataset, or the ImageNet weights of an architecture, available offline; nothing is done if it is.

    Args:
      name: a TFDS name, or the name of a keras.applications architecture.
      npz: for a dataset: also write it to this file, for machines without TensorFlow.

    Returns:
      One line that says what is there now.

    Raises:
      AssetError: it could not be had; what was tried and what to do by hand.
      DatasetError: there is no such dataset.
    """
    npz = None if npz is None else expand_user(npz)
    if name.lower() in backbone.list_architectures():
        if npz is not None:
            raise SpecError(f"--npz is for a dataset; {name} is a backbone")
        built = backbone.build_backbone(FeatureSpec(backbone=name))
        return f"{built.spec.backbone}: ImageNet weights, {built.spec.weights}"
    if npz is not None:
        datasets.require_new_npz(npz)
    dataset = datasets.open_dataset(DatasetSpec(dataset=name))
    if npz is not None:
        datasets.write_npz(dataset, npz)
    counts = ", ".join(f"{count} {split}" for split, count in dataset.num_rows.items())
    return f"{dataset.name}: version {dataset.version}, {counts}" + (f", written to {npz}" if npz else "")
