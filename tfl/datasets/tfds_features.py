"""The features of a TFDS dataset that are its image, its label and its id."""

from typing import Any

import numpy as np

from tfl.datasets import bit_depth
from tfl.errors import DatasetError

TFDS_ID = "tfds_id"  # the key of the ids that TFDS adds to the rows
_EXPECTED = "an Image of uint8 or uint16 with 1, 3 or 4 channels, or a Tensor of uint8 with the shape (h, w, 1 or 3)"
_ADVICE = "Write what you need of it to an .npz file of uint8 images and integer labels, and give that"


def find_image_and_label(info: Any, name: str) -> tuple[str, str]:
    """Return the supervised keys if they are an image and a label, else the only image and the only label.

    Args:
      info: TFDS's `DatasetInfo`.
      name: of the dataset, for messages.

    Raises:
      DatasetError: there is not exactly one of each, or the range of the images' values is not
        certain.
    """
    features = info.features
    images, labels = _list_candidates(features, list(info.supervised_keys or []))
    if len(images) != 1 or len(labels) != 1:
        described = "; ".join(_describe(key, features[key]) for key in sorted(features))
        raise DatasetError(
            f"{name} is not an image classification dataset: its images are {images}, its class labels "
            f"{labels}; expected one of each: {_EXPECTED}, and a ClassLabel. It has {described}. {_ADVICE}"
        )
    feature = features[images[0]]
    if not _has_known_range(feature):
        raise DatasetError(
            f"cannot use the images of {name}, {_describe(images[0], feature)}: the range of such values, or the "
            f"meaning of the channels, is not known; expected {_EXPECTED}. {_ADVICE}"
        )
    return str(images[0]), str(labels[0])


def find_id(info: Any) -> str:
    """Return the key of the dataset's own ids if they are text, else of TFDS's.

    Numbers often count the rows of each split, or are always 0.
    """
    import tensorflow_datasets as tfds

    is_text = "id" in info.features and isinstance(info.features["id"], tfds.features.Text)
    return "id" if is_text else TFDS_ID


def convert_to_rgb(images: np.ndarray) -> np.ndarray:
    """Return images `(n, h, w, c)` of 8 or 16 bits as uint8 RGB: grey repeated three times, transparency dropped."""
    if images.dtype == np.uint16:
        images = bit_depth.Grey(bit_depth.WHITE_16).to_uint8(images)
    if images.shape[-1] == 4:  # the last channel is alpha
        images = np.ascontiguousarray(images[..., :3])
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images  # (n, h, w, 3)


def _list_candidates(features: Any, supervised_keys: list[str]) -> tuple[list[str], list[str]]:
    """Return the keys that may be the image and those that may be the label."""
    import tensorflow_datasets as tfds

    images = _keys_of_type(features, tfds.features.Image)
    if not images:
        tensors = _keys_of_type(features, tfds.features.Tensor)
        images = [key for key in tensors if _may_be_image(features[key])]
    labels = _keys_of_type(features, tfds.features.ClassLabel)
    if len(supervised_keys) == 2:
        image, label = supervised_keys
        if image in images and label in labels:
            return [image], [label]
    return images, labels


def _keys_of_type(features: Any, kind: type) -> list[str]:
    return sorted(key for key in features if type(features[key]) is kind)


def _describe(key: str, feature: Any) -> str:
    """Return a feature as text: `image: Image float32 (32, 32, 1)`."""
    kind, dtype = type(feature).__name__, feature.np_dtype
    if isinstance(dtype, dict):
        return f"{key}: {kind} of {', '.join(map(str, dtype))}"
    return f"{key}: {kind} {np.dtype(dtype).name} {feature.shape}"


def _may_be_image(feature: Any) -> bool:
    """Return whether an array has the shape of an image, whatever its values."""
    return len(feature.shape) == 3 and feature.shape[-1] in (1, 3)


def _has_known_range(feature: Any) -> bool:
    """Return whether values and channels have one meaning.

    Image files of 8 and 16 bits do. Of bare arrays only those of 8 bits do: 16 bits may hold 12.
    """
    import tensorflow_datasets as tfds

    is_file = type(feature) is tfds.features.Image
    dtypes, channels = ((np.uint8, np.uint16), (1, 3, 4)) if is_file else ((np.uint8,), (1, 3))
    return len(feature.shape) == 3 and feature.shape[-1] in channels and feature.np_dtype in dtypes
