"""A comparison's job: the images, the weights and the start of the trainings, as files for both sides."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from keras import ops

from tfl import engine
from tfl.artefacts.combined import found_dataset, found_weights, same_backbone
from tfl.artefacts.parity import images_of
from tfl.cache import Cache
from tfl.comparison.reference.job import Job, WeightsName
from tfl.errors import CacheError, CompareError
from tfl.heads.sgd import draw_kernels
from tfl.specs import FeatureSpec, Role
from tfl.specs.recipes import Reference

LEAST_EXTRACTED = 128  # images of each role, even if the slice is smaller: its seconds would be of few batches
NUM_PARITY_IMAGES = 32  # whose pixels, and features of the same pixels, are compared
RESNET50 = FeatureSpec()  # but for the fields that the reference follows


def obstacles(cache: Cache) -> list[str]:
    """Why the reference cannot make this cache's features; empty if it can."""
    spec = cache.spec.features
    followed = {name: getattr(spec, name) for name in ("weights", "image_size", "antialias", "compute_dtype")}
    can = replace(RESNET50, **followed, feature_dtype=spec.feature_dtype, revision=spec.revision)
    names = ("backbone", "resize_mode", "interpolation", "layers", "pooling")
    return [
        f"pixels, features, and the forms that need images: the cache's {name} is {_shown(getattr(spec, name))}, the "
        f"reference's {_shown(getattr(can, name))}; training on the cached features is compared"
        for name in names
        if getattr(spec, name) != getattr(can, name)
    ]


def _shown(value: object) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)


def prepare(cache: Cache, folder: Path, num_images: int, recipe: Reference, weights: WeightsName) -> Job:
    """Write a job's files.

    Args:
      num_images: of each role in the slice, fewer if the cache has fewer; 0 to train on cached features only.

    Raises:
      CacheError: no training or test rows.
      CompareError: images of differing sizes.
      ExportError: the dataset or the weights are not the cache's.
    """
    if missing := [role for role in ("train", "test") if role not in cache.num_rows]:
        raise CacheError(f"{cache.path} has no {missing[0]} rows; precompute again with --{missing[0]}-split")
    features = replace(cache.spec.features, weights=found_weights(cache))
    job = Job(
        folder, cache.path.resolve(), features, recipe, cache.num_classes, engine.count_threads(), weights, num_images
    )
    job.save()
    _save_start(job, "all", cache.num_rows["train"], cache.num_features)
    if num_images:
        roles: tuple[Role, ...] = ("train", "test")
        images = {role: _images(cache, role, max(num_images, LEAST_EXTRACTED)) for role in roles}
        _save_images(job, cache, images)
        _save_start(job, "slice", len(job.slice("train").labels), cache.num_features)
        _save_network(job, cache, images["train"][:NUM_PARITY_IMAGES])
    return job


def _images(cache: Cache, role: Role, count: int) -> np.ndarray:
    images = [example.image for example in islice(images_of(cache, role, found_dataset(cache)), count)]
    if len(shapes := {image.shape for image in images}) > 1:
        raise CompareError(
            f"the first {role} images have {len(shapes)} sizes, and a batch of the reference needs one; compare on a "
            "dataset of one size, such as cifar10"
        )
    return np.stack(images)


def _save_images(job: Job, cache: Cache, images: dict[Role, np.ndarray]) -> None:
    """A dataset for `tfl precompute`."""
    arrays: dict[str, np.ndarray] = {"class_names": np.asarray(cache.class_names)}
    for role, of_role in images.items():
        arrays[f"{role}_images"] = of_role
        arrays[f"{role}_labels"] = cache.read_labels(role)[: len(of_role)]
        arrays[f"{role}_ids"] = np.asarray(cache.read_ids(role)[: len(of_role)].tolist())  # without h5py's metadata
    np.savez(job.images_file, **arrays)  # type: ignore[arg-type]


def _save_start(job: Job, rows: str, num_rows: int, num_features: int) -> None:
    kernel, bias, orders = draw_kernels(job.recipe, num_rows, num_features, job.num_classes)
    np.savez(job.folder / f"{rows}.npz", kernel=kernel, bias=bias, orders=orders)


def _save_network(job: Job, cache: Cache, images: np.ndarray) -> None:
    """The Keras network's tensors, and what it is given of a few images."""
    backbone = same_backbone(cache, job.features.weights)
    tensors = {weight.path: ops.convert_to_numpy(weight) for weight in backbone.unpooled.weights}
    np.savez(job.folder / "weights.npz", **tensors)
    with engine.exact_float32():
        inputs = ops.convert_to_numpy(backbone.preprocessed()(backbone.resize(images)))  # (n, s, s, 3)
    np.savez(job.folder / "parity.npz", images=images, inputs=inputs)
