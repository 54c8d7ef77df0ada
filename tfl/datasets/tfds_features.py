"""The features of a TFDS dataset that are its image, its label and its id."""

from typing import Any

import numpy as np

from tfl.datasets import bit_depth
from tfl.errors import DatasetError
from tfl.text import suggest_name

TFDS_ID = "tfds_id"  # the key of the ids that TFDS adds to the rows
_EXPECTED = "an Image of uint8 or uint16 with 1, 3 or 4 channels, or a Tensor of uint8 with the shape (h, w, 1 or 3)"
_ADVICE = "Write what you need of it to an .npz file of uint8 images and integer labels, and give that"


def find_image(info: Any, name: str, key: str = "") -> str:
    """Return the key of the images: `key`, else the supervised one, else the only one that may hold images.

    Args:
      info: TFDS's `DatasetInfo`.
      name: of the dataset, for messages.

    Raises:
      DatasetError: there is no such key, there is not exactly one, or the range of the images'
        values is not certain.
    """
    features = info.features
    candidates = [key] if key else _prefer(info, 0, _list_images(features))
    _require_key(info, name, key)
    if len(candidates) != 1:
        raise DatasetError(
            f"{name} is not an image classification dataset: its images are {candidates}; expected one: "
            f"{_EXPECTED}. {_describe_all(features)}. {_advise_key('--image-key', candidates)}"
        )
    feature = features[candidates[0]]
    if not _has_known_range(feature):
        raise DatasetError(
            f"cannot use the images of {name}, {_describe(candidates[0], feature)}: the range of such values, or the "
            f"meaning of the channels, is not known; expected {_EXPECTED}. {_describe_all(features)}. {_ADVICE}"
        )
    return str(candidates[0])


def find_label(info: Any, name: str, key: str = "") -> str:
    """Return the key of the labels: `key`, else the supervised one, else the only ClassLabel.

    Raises:
      DatasetError: there is no such key, there is not exactly one, or it holds no label of each image.
    """
    import tensorflow_datasets as tfds

    features = info.features
    _require_key(info, name, key)
    classes = _prefer(info, 1, _keys_of_type(features, tfds.features.ClassLabel))
    candidates = [key] if key else classes
    if len(candidates) != 1 or not _is_label(features[candidates[0]]):
        others = [each for each in sorted(features) if _is_label(features[each])]
        raise DatasetError(
            f"{name} is not an image classification dataset: its class labels {candidates}; expected one ClassLabel, "
            f"or whole numbers or text that --label-key names{_describe_several(features)}. {_describe_all(features)}. "
            f"{_advise_key('--label-key', others)}"
        )
    return str(candidates[0])


def read_class_names(feature: Any) -> tuple[str, ...] | None:
    """Return the names of a ClassLabel's classes; None of other labels, whose values have to be read."""
    import tensorflow_datasets as tfds

    return tuple(feature.names) if isinstance(feature, tfds.features.ClassLabel) else None


def _require_key(info: Any, name: str, key: str) -> None:
    if key and key not in info.features:
        raise DatasetError(f"{name} has no {key!r}{suggest_name(key, info.features)}; {_describe_all(info.features)}")


def _prefer(info: Any, place: int, candidates: list[str]) -> list[str]:
    """Return the candidate that the dataset itself names as its input (0) or its label (1), else all of them."""
    supervised = list(info.supervised_keys or [])
    if len(supervised) == 2 and supervised[place] in candidates:
        return [supervised[place]]
    return candidates


def _is_label(feature: Any) -> bool:
    """Return whether a feature is one class, whole number or text of each image."""
    import tensorflow_datasets as tfds

    if not isinstance(feature, tfds.features.Tensor) or feature.shape != ():
        return False
    return np.dtype(feature.np_dtype).kind in "biuO"  # O: text


def _holds_several(feature: Any) -> bool:
    """Return whether a feature is a sequence of class labels, or of objects that have them."""
    import tensorflow_datasets as tfds

    items = getattr(feature, "feature", None)
    of_items = items.values() if isinstance(items, tfds.features.FeaturesDict) else [items]
    return any(isinstance(item, tfds.features.ClassLabel) for item in of_items)


def _describe_several(features: Any) -> str:
    """Return which features hold several labels of one image, as text, or that there are no labels."""
    several = [key for key in sorted(features) if _holds_several(features[key])]
    if several:
        return f"; {', '.join(several)} holds several of one image (multi-label), which is not supported"
    return "" if any(_is_label(features[key]) for key in features) else "; the images are unlabelled"


def _describe_all(features: Any) -> str:
    return "It has " + "; ".join(_describe(key, features[key]) for key in sorted(features))


def _advise_key(flag: str, keys: list[str]) -> str:
    """Return how to choose a key, or what else to do if there is none."""
    return f"Choose with {flag} {' or '.join(keys)}" if keys else _ADVICE


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


def _list_images(features: Any) -> list[str]:
    """Return the keys that may be the image."""
    import tensorflow_datasets as tfds

    images = _keys_of_type(features, tfds.features.Image)
    if images:
        return images
    return [key for key in _keys_of_type(features, tfds.features.Tensor) if _may_be_image(features[key])]


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
    has_shape = isinstance(feature.shape, tuple) and len(feature.shape) == 3
    return has_shape and feature.shape[-1] in channels and feature.np_dtype in dtypes
