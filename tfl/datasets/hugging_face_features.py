"""The features of a Hugging Face dataset that are its image and its label."""

from typing import Any

from tfl.datasets.class_labels import Label
from tfl.errors import DatasetError
from tfl.machine.packages import require_package
from tfl.text import join_first, to_printable

EXTRA = "hf"
_LABEL_DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_TEXT_DTYPES = ("string", "large_string", "string_view")
_BYTES_DTYPES = ("binary", "large_binary", "binary_view")


def find_image(features: Any, key: str, name: str) -> str:
    """Return the key of the images: `key`, or the only feature of the type Image.

    Args:
      features: `datasets.Features`.
      name: of the dataset, for messages.

    Raises:
      DatasetError: there is none, there are several, or `key` holds no image files.
    """
    if key:
        _require_key(features, key, name, "--image-key")
        if not (_is_image(features[key]) or _holds_bytes(features[key])):
            raise DatasetError(
                f"{_describe(key, features[key])} of {name} holds no image files; {_describe_all(features)}"
            )
        return key
    found = [each for each in features if _is_image(features[each])]
    if len(found) != 1:
        raise DatasetError(
            f"{name} has {_count(found, 'feature', 'of the type Image')}; expected one, or --image-key to say which "
            "(a column of paths or bytes becomes one by `cast_column(KEY, datasets.Image())`); "
            f"{_describe_all(features)}"
        )
    return str(found[0])


def find_label(features: Any, key: str, name: str) -> str:
    """Return the key of the labels: `key`, or the only feature of the type ClassLabel.

    Raises:
      DatasetError: there is none, there are several, or `key` holds no single label per image.
    """
    if key:
        _require_key(features, key, name, "--label-key")
        if not (_is_class_label(features[key]) or _is_value(features[key], (*_LABEL_DTYPES, *_TEXT_DTYPES))):
            raise _refuse_label(features, key, name)
        return key
    found = [each for each in features if _is_class_label(features[each])]
    if len(found) == 1:
        return str(found[0])
    several = [each for each in features if _is_multi_label(features[each])]
    if several and not found:
        raise _refuse_label(features, several[0], name)
    others = [each for each in features if _is_value(features[each], (*_LABEL_DTYPES, *_TEXT_DTYPES))]
    hint = f" (numbers or text may be labels too: {join_first(_print(others))})" if others and not found else ""
    raise DatasetError(
        f"{name} has {_count(found, 'feature', 'of the type ClassLabel')}; expected one, or --label-key to say which"
        f"{hint}; {_describe_all(features)}"
    )


def require_id(features: Any, key: str, name: str) -> None:
    """Refuse a key of ids that names no text and no whole numbers.

    Raises:
      DatasetError: what it names, and the features that there are.
    """
    _require_key(features, key, name, "--id-key")
    if not _is_value(features[key], (*_LABEL_DTYPES, *_TEXT_DTYPES)):
        described = _describe(key, features[key])
        raise DatasetError(f"{described} of {name} holds no ids; expected text or numbers; {_describe_all(features)}")


def find_class_names(feature: Any) -> tuple[str, ...] | None:
    """Return the class names of a ClassLabel; None for numbers and text, whose values are the classes."""
    return tuple(feature.names) if _is_class_label(feature) else None


def to_label(value: Any, is_class_label: bool) -> Label | None:
    """Return a stored value as a label: -1 of a ClassLabel stands for none, and truth values are text."""
    if is_class_label and value == -1:
        return None
    return str(value) if isinstance(value, bool) else value


def _hf() -> Any:
    return require_package("datasets", EXTRA)


def _is_image(feature: Any) -> bool:
    return isinstance(feature, _hf().Image)


def _is_class_label(feature: Any) -> bool:
    return isinstance(feature, _hf().ClassLabel)


def _is_value(feature: Any, dtypes: tuple[str, ...]) -> bool:
    return isinstance(feature, _hf().Value) and feature.dtype in dtypes


def _holds_bytes(feature: Any) -> bool:
    """Return whether a feature is what Image is stored as, without saying so: bytes, or bytes and path."""
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"} and _is_value(feature["bytes"], _BYTES_DTYPES)
    return _is_value(feature, _BYTES_DTYPES)


def _inner(feature: Any) -> Any:
    """Return the feature of a list's items; None if it is no list."""
    if isinstance(feature, list):
        return feature[0]
    return getattr(feature, "feature", None)


def _is_multi_label(feature: Any) -> bool:
    return _is_class_label(_inner(feature))


def _refuse_label(features: Any, key: str, name: str) -> DatasetError:
    described = _describe(key, features[key])
    if _inner(features[key]) is not None:
        return DatasetError(
            f"{described} of {name} holds several labels per image (multi-label), which is not supported; expected one "
            f"per image, chosen by --label-key; {_describe_all(features)}"
        )
    return DatasetError(
        f"{described} of {name} is no label; expected a ClassLabel, whole numbers or text; {_describe_all(features)}"
    )


def _require_key(features: Any, key: str, name: str, flag: str) -> None:
    if key not in features:
        raise DatasetError(f"{flag} {to_printable(key)} names no feature of {name}; {_describe_all(features)}")


def _count(keys: list[str], noun: str, kind: str) -> str:
    """Return `no feature of the type Image`, `2 features of the type Image, left and right`."""
    if not keys:
        return f"no {noun} {kind}"
    return f"{len(keys)} {noun}s {kind}, {join_first(_print(keys))}"


def _print(keys: list[str]) -> list[str]:
    return [to_printable(str(key)) for key in keys]


def _describe_all(features: Any) -> str:
    described = join_first([_describe(key, features[key]) for key in features], "features")
    return f"it has {described or 'no features'}"


def _describe(key: str, feature: Any) -> str:
    """Return a feature as text: `label: ClassLabel of 10 classes`."""
    return f"{to_printable(str(key))}: {_describe_type(feature)}"


def _describe_type(feature: Any) -> str:
    if _is_class_label(feature):
        return f"ClassLabel of {len(feature.names)} classes"
    if (inner := _inner(feature)) is not None:
        return f"List of {_describe_type(inner)}"
    if isinstance(feature, dict):
        return f"fields {join_first(_print(list(feature)))}"
    dtype = feature.dtype if isinstance(feature, _hf().Value) else ""
    return f"{type(feature).__name__} {dtype}".strip()
