"""Preparation of a comparison: the images, the weights and the start of the trainings, as files for all programs."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from keras import ops

from tfl import engine
from tfl.artefacts.origin import Origin
from tfl.cache import Cache
from tfl.comparison.reference.setup import Setup, WeightsName
from tfl.errors import CacheError, CompareError
from tfl.heads import Reference
from tfl.heads.solvers.reference import draw_randomness
from tfl.specs import FeatureSpec, Role
from tfl.specs.features import FLOAT_DTYPES

MIN_EXTRACTED = 128  # images of each role, even if the slice is smaller: seconds of few batches say little
NUM_PARITY_IMAGES = 32  # whose pixels, and features of the same pixels, are compared
ROLES: tuple[Role, ...] = ("train", "test")
RESNET50 = FeatureSpec()
FOLLOWED = (
    "weights",
    "image_size",
    "antialias",
    "compute_dtype",
    "feature_dtype",
    "revision",
)  # by the reference
FIXED = ("backbone", "resize_mode", "interpolation", "layers", "pooling")  # in the reference


def list_obstacles(cache: Cache) -> list[str]:
    """Return why the reference cannot make this cache's features; empty if it can."""
    wanted = cache.spec.features
    followed = {name: getattr(wanted, name) for name in FOLLOWED}
    if wanted.compute_dtype not in FLOAT_DTYPES:
        del followed["compute_dtype"]
    possible = replace(RESNET50, **followed)
    return [
        f"pixels, features, and the programs that need images: the cache's {name} is {_show(getattr(wanted, name))}, "
        f"the reference's {_show(getattr(possible, name))}; training on the cached features is compared"
        for name in (*FIXED, "compute_dtype")
        if getattr(wanted, name) != getattr(possible, name)
    ]


def _show(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


def prepare(cache: Cache, folder: Path, num_images: int, recipe: Reference, weights: WeightsName) -> Setup:
    """Write the files of a comparison into a folder.

    Args:
      num_images: of each role in the slice, fewer if the cache has fewer; 0 to train on cached
        features only.

    Raises:
      CacheError: there are no training or no test rows.
      CompareError: the images differ in size.
      ExportError: the dataset or the weights are not the cache's.
    """
    _require_roles(cache)
    origin = Origin(cache)
    setup = Setup(
        folder_path=str(folder),
        cache_path=str(cache.path.resolve()),
        features=replace(cache.spec.features, weights=origin.weights) if num_images else cache.spec.features,
        recipe=recipe,
        num_classes=cache.num_classes,
        threads=engine.count_threads(),
        weights=weights,
        num_images=num_images,
    )
    setup.save()
    _save_start(setup, "all", cache.num_rows["train"], cache.num_features)
    if num_images:
        images = {role: _read_images(origin, role, max(num_images, MIN_EXTRACTED)) for role in ROLES}
        _save_images(setup, cache, images)
        _save_start(setup, "slice", len(setup.read_slice("train").labels), cache.num_features)
        _save_network(setup, origin, images["train"][:NUM_PARITY_IMAGES])
    return setup


def _require_roles(cache: Cache) -> None:
    for role in ROLES:
        if role not in cache.num_rows:
            raise CacheError(f"{cache.path} has no {role} rows; precompute again with --{role}-split")


def _read_images(origin: Origin, role: Role, count: int) -> np.ndarray:
    """Return the first images of a role, `(n, h, w, 3)`."""
    images = [example.image for example in islice(origin.read_rows(role), count)]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise CompareError(
            f"the first {role} images have {len(shapes)} sizes, and a batch of the reference needs one; compare on a "
            "dataset of one size, such as cifar10"
        )
    return np.stack(images)


def _save_images(setup: Setup, cache: Cache, images: dict[Role, np.ndarray]) -> None:
    """Save images, labels and ids as a dataset for `tfl precompute`."""
    arrays: dict[str, np.ndarray] = {"class_names": np.asarray(cache.class_names)}
    for role, of_role in images.items():
        ids = cache.read_ids(role)[: len(of_role)].tolist()  # a list: h5py's arrays carry metadata
        arrays[f"{role}_images"] = of_role
        arrays[f"{role}_labels"] = cache.read_labels(role)[: len(of_role)]
        arrays[f"{role}_ids"] = np.asarray(ids)
    np.savez(setup.images_file, **arrays)  # type: ignore[arg-type]


def _save_start(setup: Setup, rows: str, num_rows: int, num_features: int) -> None:
    kernel, bias, orders = draw_randomness(setup.recipe, num_rows, num_features, setup.num_classes)
    np.savez(setup.folder / f"{rows}.npz", kernel=kernel, bias=bias, orders=orders)


def _save_network(setup: Setup, origin: Origin, images: np.ndarray) -> None:
    """Save the Keras network's tensors, and what it is given of a few images."""
    backbone = origin.backbone
    tensors = {weight.path: ops.convert_to_numpy(weight) for weight in backbone.unpooled.weights}
    np.savez(setup.folder / "weights.npz", **tensors)
    with engine.exact_float32():
        resized = backbone.resize(images)
        inputs = ops.convert_to_numpy(backbone.build_preprocessing()(resized))  # (n, s, s, 3)
    np.savez(setup.folder / "parity.npz", images=images, inputs=inputs)
