"""Fixtures: a tiny backbone, small datasets on disk, and the rule that required tests may not skip."""

import importlib.util
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings as hypothesis_settings
from PIL import Image

from tfl.engine import kept_models
from tfl.files import assets, trust, user_folders
from tfl.specs import DatasetSpec, FeatureSpec, Settings

sys.path.insert(0, str(Path(__file__).parent))
import tiny

# No deadline: the first call imports what it tests. In CI the same examples every time.
hypothesis_settings.register_profile("tfl", deadline=None, derandomize="CI" in os.environ)
hypothesis_settings.load_profile("tfl")
REQUIRED = set(filter(None, os.environ.get("TFL_REQUIRE", "").split(",")))


# The first lines of a program that finds no TensorFlow. (None in sys.modules would not do: Keras looks for the key.)
WITHOUT_TENSORFLOW = """
import sys
from importlib.machinery import PathFinder

class NoTensorFlow(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.split(".")[0] in ("tensorflow", "tensorflow_datasets")
        return None if absent else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = NoTensorFlow
"""


def _has_real_assets() -> bool:
    import tensorflow_datasets as tfds

    cifar10 = Path(os.environ.get("TFDS_DATA_DIR") or tfds.core.constants.DATA_DIR).expanduser() / "cifar10"
    keras_home = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser()
    official = keras_home / "models" / Path(assets.RESNET50_URL).name
    return cifar10.exists() and (official.exists() or any((user_folders.home_folder() / "weights").glob("resnet50*")))


def _has_torch() -> bool:
    return all(importlib.util.find_spec(name) for name in ("torch", "torchvision"))


# Of each marker: whether what its tests need is here, and what to do if not.
NEEDS = {
    "real": (_has_real_assets, "needs CIFAR-10 and the ImageNet weights: run `tfl fetch cifar10 resnet50`"),
    "torch": (_has_torch, "needs PyTorch and torchvision: pip install '.[torch]'"),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, (is_here, reason) in NEEDS.items():
        if item.get_closest_marker(marker) and not is_here():
            pytest.fail(reason) if marker in REQUIRED else pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _known_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tfl notes and keeps is not in the user's own folders, except that of commands in processes of their own."""
    folder = tmp_path_factory.mktemp("known")
    trust._notes_folder = lambda: folder
    kept_models.FOLDER = str(tmp_path_factory.mktemp("openvino"))


@pytest.fixture
def tiny_backbone() -> Iterator[None]:
    """Make `backbone="tiny"` the name of a backbone."""
    with tiny.registered():
        yield


@pytest.fixture
def features() -> FeatureSpec:
    return FeatureSpec(backbone="tiny", weights="random", image_size=12)


def write_npz(path: Path, seed: int = 0, **counts: int) -> Path:
    """Images of three colours with noise: a head can learn them."""
    rng = np.random.default_rng(seed)
    arrays = {"class_names": np.array(["red", "green", "blue"])}
    for split, count in counts.items():
        labels = rng.integers(0, 3, count)
        images = rng.integers(0, 120, (count, 10, 9, 3), dtype=np.uint8)
        images[np.arange(count), :, :, labels] += 100
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    np.savez(path, **arrays)
    return path


@pytest.fixture
def dataset(tmp_path: Path) -> DatasetSpec:
    return DatasetSpec(dataset=str(write_npz(tmp_path / "colours.npz", train=70, test=40)))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(engine="keras", cache_dir=tmp_path / "cache", batch_size=8, shard_rows=16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder dataset of differing image sizes: two classes, train and test."""
    rng = np.random.default_rng(1)
    root = tmp_path / "pets"
    for split, count in (("train", 6), ("test", 3)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 255, (12 + i, 20, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root
