"""The sources there are, and which of them a word such as `cifar10` or `folder:photos` means."""

from tfl.datasets.source import Dataset, Source
from tfl.errors import DatasetError, SpecError
from tfl.files.paths import expand_user
from tfl.specs import DIGEST_PREFIX, MAX_IMAGE_PIXELS, DatasetSpec

KEYS = ("image_key", "label_key", "split_key", "id_key", "group_key")  # fields of a DatasetSpec
DIVIDING = ("val_fraction", "test_fraction", "split_seed")
SOURCES: dict[str, Source] = {}
"""The sources by name; `register` adds one."""


def register(source: Source) -> None:
    """Add a source of datasets.

    Raises:
      ValueError: there is one of that name.
    """
    if source.name in SOURCES:
        raise ValueError(f"there is a dataset source {source.name!r} already")
    SOURCES[source.name] = source


def unregister(source: Source) -> None:
    """Remove a source that `register` added."""
    del SOURCES[source.name]


def open_dataset(spec: DatasetSpec, max_image_pixels: int = MAX_IMAGE_PIXELS) -> Dataset:
    """Open the dataset that a spec names.

    Args:
      max_image_pixels: most pixels (height x width) that an image file of a folder may claim in its
        header. The arrays of an .npz file are decoded already, and TFDS decodes its own.

    Raises:
      DatasetError: nothing of that name is known, the name could mean two datasets, or the folder
        or file is not laid out as expected.
      AssetError: the dataset has to be downloaded, and cannot be.
    """
    source, word = find_source(spec.dataset)
    _require_understood(source, spec)
    dataset = source.open_dataset(word, spec, max_image_pixels)
    require_divisible(dataset, spec)
    return dataset


def _require_understood(source: Source, spec: DatasetSpec) -> None:
    """Refuse the name of a column or feature that the source has no use for."""
    unknown = [name for name in KEYS if getattr(spec, name) and name not in source.keys]
    if unknown:
        understood = ", ".join(map(_to_flag, sorted(source.keys))) or "none of the kind"
        flags = ", ".join(map(_to_flag, unknown))
        raise SpecError(f"{flags} means nothing for {spec.dataset!r}, {source.noun}; it takes {understood}")


def require_divisible(dataset: Dataset, spec: DatasetSpec) -> None:
    """Refuse shares and a seed for a dataset that has splits of its own.

    Raises:
      SpecError: they are given; what to give instead.
    """
    default = DatasetSpec()
    names = [name for name in DIVIDING if getattr(spec, name) != getattr(default, name)]
    if names and dataset.division is None:
        raise SpecError(
            f"{', '.join(map(_to_flag, names))} divides a dataset without splits, and {spec.dataset!r} has its own: "
            f"{', '.join(dataset.num_rows)}; choose among them, or slices such as train[:90%]: --train-split, "
            "--val-split, --test-split"
        )


def _to_flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def find_source(word: str) -> tuple[Source, str]:
    """Return the source that a word means, and the word without its prefix.

    Raises:
      DatasetError: a word without prefix names datasets of two sources.
    """
    if prefixed := _split_prefix(word):
        return prefixed
    owners = [source for source in SOURCES.values() if not source.is_fallback and source.owns(word)]
    fallback = _fallback()
    if owners and fallback.owns(word):  # asked only now: the answer may take an import
        owners.append(fallback)
    if len(owners) > 1:
        nouns = " or ".join(source.noun for source in owners)
        words = " or ".join(source.prefix + word for source in owners)
        raise DatasetError(f"{word!r} could be {nouns}; say which one is meant: {words}")
    return (owners or [fallback])[0], word


def make_findable(word: str) -> str:
    """Return a user's word for a dataset as it can be found from any working directory: paths become absolute."""
    source, location = find_source(word)
    if not source.is_path or source.is_name(location):
        return word
    path = source.make_absolute(location)
    return path if source.owns(path) else source.prefix + path


def find_recorded(word: str, dataset: DatasetSpec) -> tuple[str, bool]:
    """Return the word that opens a cache's dataset again, and whether that opens files of this machine.

    Args:
      word: from the cache's provenance, written by `make_findable`.
      dataset: the cache's resolved spec.
    """
    source, location = _split_prefix(word) or (None, word)
    if source is not None and (not source.is_path or source.is_name(location)):
        return word, False
    path = expand_user(location)
    has_digest = dataset.version.startswith(DIGEST_PREFIX)
    if has_digest or (path.is_absolute() and path.exists()):
        return word, True
    # A name, or an .npz copy of a named dataset that is not on this machine. The prefix keeps a
    # folder of that name in the working directory from being taken for it.
    return _fallback().prefix + dataset.dataset, False


def _split_prefix(word: str) -> tuple[Source, str] | None:
    name, colon, location = word.partition(":")
    if not colon or name not in SOURCES:
        return None
    if not location:
        raise SpecError(f"the dataset {word!r} has nothing after its prefix; expected {SOURCES[name].noun}")
    return SOURCES[name], location


def _fallback() -> Source:
    return next(source for source in SOURCES.values() if source.is_fallback)
