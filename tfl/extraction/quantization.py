"""The quantised network of an int8 cache: found beside the cache, given as a file, or made."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from keras import ops

from tfl import datasets, engine
from tfl.backbones import Backbone
from tfl.backbones.quantized import (
    FORMAT,
    QuantizationOrigin,
    QuantizedNetwork,
    name_file,
    open_quantized,
    pack_network,
)
from tfl.cache import write_whole
from tfl.engine.quantizing import NUM_IMAGES, list_versions, quantize
from tfl.errors import BackboneError, DatasetError
from tfl.files import hashing, trust
from tfl.files.paths import expand_user
from tfl.specs import DatasetSpec, FeatureSpec
from tfl.specs.features import QUANTIZED_ENDING

logger = logging.getLogger(__name__)

SEED = 0


def add_quantized(
    backbone: Backbone, features: FeatureSpec, dataset: datasets.Dataset, spec: DatasetSpec, cache_dir: Path
) -> Backbone:
    """Return a backbone whose features its quantised network computes; the network's file lies in `cache_dir`.

    It is the file that `features` names, or one that was made earlier from the same backbone and
    training split, or a new one.

    Args:
      features: as typed.
      spec: resolved.

    Raises:
      BackboneError: the file that was named is none, or another backbone's; or the network cannot
        be quantised.
      DatasetError: there are no training images to calibrate on.
    """
    if features.quantized_network:
        found = _place_beside(open_quantized(expand_user(features.quantized_network)), backbone, cache_dir)
    else:
        found = _find(backbone, spec, cache_dir) or _make(backbone, dataset, spec, cache_dir)
    return backbone.use_quantized(found)


def _place_beside(given: QuantizedNetwork, backbone: Backbone, cache_dir: Path) -> QuantizedNetwork:
    """Copy a file that lies elsewhere: whoever opens the cache finds it there."""
    backbone.use_quantized(given)  # refuses another backbone's
    path = cache_dir / name_file(backbone.spec, given.digest)
    if not path.exists():
        _write(path, given.path.read_bytes())
    placed = open_quantized(path)
    if placed.digest != given.digest:
        raise BackboneError(f"{path} is not the file {given.path}, whose digest is in its name; remove {path}")
    return placed


def _find(backbone: Backbone, spec: DatasetSpec, cache_dir: Path) -> QuantizedNetwork | None:
    """Return the network that an earlier command made of the same backbone and training split.

    One of the very layers and poolings goes before one of more: the finished cache of it is found again.
    """
    found = list(_list_usable(backbone, spec, cache_dir))
    if not found:
        return None
    columns = (backbone.spec.layers, backbone.spec.pooling)
    chosen = min(found, key=lambda each: (each.origin.layers, each.origin.pooling) != columns)
    logger.info("int8: %s computes the features", chosen.path)
    return chosen


def _list_usable(backbone: Backbone, spec: DatasetSpec, cache_dir: Path) -> Iterator[QuantizedNetwork]:
    stem = f"{backbone.spec.backbone_file_name}-{backbone.spec.image_size}-"
    for path in sorted(cache_dir.glob(f"{stem}*{QUANTIZED_ENDING}")):
        if not trust.is_own(path):
            logger.warning("%s was not made by this user's tfl; name it to use it: --quantized-network %s", path, path)
            continue
        try:
            found = open_quantized(path)
        except BackboneError as error:
            logger.warning("%s; it is left alone", error)
            continue
        if _is_same(found.origin, backbone.spec, spec):
            yield found


def _is_same(origin: QuantizationOrigin, features: FeatureSpec, spec: DatasetSpec) -> bool:
    is_same_network = not origin.list_differences(features) and origin.presents_as(features)
    calibration = (origin.images, origin.split, origin.seed)
    return is_same_network and calibration == (spec.images, spec.train_split, SEED)


def _make(backbone: Backbone, dataset: datasets.Dataset, spec: DatasetSpec, cache_dir: Path) -> QuantizedNetwork:
    if not spec.train_split:
        raise DatasetError(
            "int8 is calibrated on training images, and there is no --train-split; name the quantised network of an "
            "earlier cache: --quantized-network FILE"
        )
    examples = _choose_examples(dataset, spec.train_split)
    if not examples:
        raise DatasetError(f"int8 is calibrated on training images, and {spec.train_split!r} has none that can be read")
    num_classes = len({example.label for example in examples})
    logger.info("int8: calibrating on %d training images of %d classes", len(examples), num_classes)
    images = [example.image for example in examples]
    graph, weights = quantize(backbone, list(present(backbone, images)))
    origin = _describe(backbone.spec, spec, len(examples))
    content = pack_network(graph, weights, origin)
    path = cache_dir / name_file(backbone.spec, hashing.hash_bytes(content))
    _write(path, content)
    return open_quantized(path)


def list_calibration_images(dataset: datasets.Dataset, split: str) -> list[np.ndarray]:
    """Return the images that a network of a training split is calibrated on."""
    return [example.image for example in _choose_examples(dataset, split)]


def _choose_examples(dataset: datasets.Dataset, split: str) -> list[datasets.Example]:
    return datasets.sample_by_class(dataset, split, NUM_IMAGES, SEED)


def present(backbone: Backbone, images: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the network's pixels of each image under the view `original`, float32 `(size, size, 3)`."""
    resize = engine.compile_model(backbone.resize, (None, None, None, 3))
    for image in images:
        yield np.asarray(ops.convert_to_numpy(resize(image[None]))[0])


def _describe(features: FeatureSpec, spec: DatasetSpec, num_images: int) -> QuantizationOrigin:
    return QuantizationOrigin(
        format=FORMAT,
        backbone=features.backbone,
        weights=features.weights,
        image_size=features.image_size,
        resize_mode=features.resize_mode,
        interpolation=features.interpolation,
        antialias=features.antialias,
        layers=features.layers,
        pooling=features.pooling,
        revision=features.revision,
        images=spec.images,
        split=spec.train_split,
        num_images=num_images,
        seed=SEED,
        versions=list_versions(),
    )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    trust.mark_own(path)
