"""Data-set objects of TensorFlow, PyTorch and Keras, read once from the first image to the last.

They are recognised by what they can do: no framework is imported. To add a kind, add a record to
`KINDS`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tfl.datasets.arrays import has_channels_first, to_array
from tfl.datasets.npz_values import list_values
from tfl.errors import DatasetError
from tfl.text import to_one_line

CHANNELS = (1, 3, 4)
INFINITE = -1  # cardinality of a tf.data.Dataset that repeats for ever

logger = logging.getLogger(__name__)


class LabelledBlock(NamedTuple):
    """Some images `(k, h, w)` or `(k, h, w, c)`, and the label of each: numbers, text, or one-hot rows."""

    images: np.ndarray
    labels: list[Any]
    had_channels_first: bool = False


@dataclass(frozen=True)
class DataObject:
    """One kind of data-set object."""

    noun: str
    recognizes: Callable[[Any], bool]
    read: Callable[[Any], Iterator[LabelledBlock]]
    """Yield all images once, in the object's order; raise a DatasetError if they never end."""


def find_kind(images: Any) -> DataObject | None:
    """Return the kind of a data-set object; None for arrays, lists and paths."""
    if hasattr(images, "__array__") or isinstance(images, list | tuple | str | bytes | dict):
        return None
    return next((kind for kind in KINDS if kind.recognizes(images)), None)


def find_class_names(data: Any) -> list[str] | None:
    """Return the class names that a data-set object carries, as those of Keras and torchvision do, or None.

    A DataLoader and a part of a data set hold the data set that has them as `dataset`. The names of
    labels that a `target_transform` changes are not known.
    """
    while data is not None and getattr(data, "target_transform", None) is None:
        for attribute in ("class_names", "classes"):
            names = getattr(data, attribute, None)
            if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
                logger.info("class names are those of the data set: %s", list_values(names))
                return list(names)
        data = getattr(data, "dataset", None)
    return None


def _read_tensorflow(data: Any) -> Iterator[LabelledBlock]:
    if int(data.cardinality()) == INFINITE:
        raise DatasetError("the tf.data.Dataset never ends: take `repeat()` away from it")
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise _wrong_element(to_one_line(str(spec)), "`data.map(lambda row: (row['image'], row['label']))`")
    for element in data.as_numpy_iterator():
        yield _to_block(element)


def _read_keras(data: Any) -> Iterator[LabelledBlock]:
    if data.num_batches is None:
        raise DatasetError("the PyDataset never ends: its `num_batches` is None; expected a number")
    for batch in range(data.num_batches):
        yield _to_block(data[batch], is_batch=True)


def _read_loader(data: Any) -> Iterator[LabelledBlock]:
    _warn_of_loader(data)
    for element in data:
        yield _to_block(element, is_batch=None if data.batch_size is None and data.batch_sampler is None else True)


def _warn_of_loader(data: Any) -> None:
    if type(getattr(data, "sampler", None)).__name__ == "RandomSampler":
        logger.warning("the DataLoader shuffles: ids are positions, so each run makes another cache; set shuffle=False")
    if getattr(data, "drop_last", False):
        logger.warning("the DataLoader leaves out its last images if they fill no batch; set drop_last=False")


def _read_rows(data: Any) -> Iterator[LabelledBlock]:
    for row in range(len(data)):
        yield _to_block(data[row], is_batch=False)


def _read_iterable(data: Any) -> Iterator[LabelledBlock]:
    for element in data:
        yield _to_block(element)


def _to_block(element: Any, is_batch: bool | None = None) -> LabelledBlock:
    """Return one element of a data-set object, a pair of image and label or of several of them.

    Args:
      is_batch: whether the element holds several images; None if the shapes have to tell.

    Raises:
      DatasetError: it is no pair, or has another number of labels than of images.
    """
    if not isinstance(element, tuple | list) or len(element) != 2:
        raise _wrong_element(_describe(element), "a data set that gives `row['image'], row['label']`, for instance")
    images, labels = to_array(element[0], is_batch), _to_label(element[1])
    has_moved = has_channels_first(element[0], is_batch)
    if is_batch is None:
        is_batch = _is_batch(images.shape, np.shape(labels))
    if not is_batch:
        return LabelledBlock(images[None], [labels], has_moved)
    if len(images) != len(labels):
        raise DatasetError(f"a batch has {len(images)} images and {len(labels)} labels; expected one label of each")
    return LabelledBlock(images, list(labels), has_moved)


def _to_label(label: Any) -> Any:
    """Return labels as numpy's array, number or list; text as it is."""
    if isinstance(label, str | bytes | int):
        return label
    if isinstance(label, list | tuple) and all(isinstance(each, str | bytes) for each in label):
        return list(label)
    if hasattr(label, "detach"):  # PyTorch, whatever the device
        label = label.detach().cpu()
    array = np.asarray(label)
    return array.item() if array.ndim == 0 else array


def _is_batch(image_shape: tuple[int, ...], label_shape: tuple[int, ...]) -> bool:
    """Return whether these are several images; an image has two axes or three, and a label none, or one if one-hot."""
    if len(image_shape) != 3:
        return len(image_shape) > 3
    return len(label_shape) > 0 and not (len(label_shape) == 1 and image_shape[-1] in CHANNELS)


def _wrong_element(received: str, example: str) -> DatasetError:
    return DatasetError(f"an element of the data set is {received}; expected a pair (image, label): {example}")


def _describe(element: Any) -> str:
    if isinstance(element, dict):
        return f"a dict with the keys {', '.join(map(str, element))}"
    if isinstance(element, Sequence) and not isinstance(element, str | bytes):
        return f"a {type(element).__name__} of {len(element)}"
    return f"of type {type(element).__name__}"


def _has_base(module: str, name: str) -> Callable[[Any], bool]:
    """Return a function that says whether an object's class, or one that it is derived from, is a package's `name`."""

    def recognizes(data: Any) -> bool:
        bases = type(data).__mro__
        return any(base.__name__ == name and base.__module__.split(".")[0] == module for base in bases)

    return recognizes


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda data: all(hasattr(data, name) for name in names)


KINDS = (  # the first that recognises an object reads it
    DataObject("a tf.data.Dataset", _has("element_spec", "as_numpy_iterator"), _read_tensorflow),
    DataObject("a keras.utils.PyDataset", _has_base("keras", "PyDataset"), _read_keras),
    DataObject("a PyTorch DataLoader", _has_base("torch", "DataLoader"), _read_loader),
    DataObject("a PyTorch IterableDataset", _has_base("torch", "IterableDataset"), _read_iterable),
    DataObject("a data set that is read by row, as PyTorch's are", _has("__getitem__", "__len__"), _read_rows),
    DataObject("an iterator over pairs of image and label", _has("__iter__"), _read_iterable),
)
