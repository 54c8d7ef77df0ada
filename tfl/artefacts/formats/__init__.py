"""The formats of an exported model. One file a format: its record says all that varies by format.

To add one, write a file with `save`, `open_model` and `make_format`, and name it here.
"""

from pathlib import Path

from tfl.artefacts.formats import keras, litert, onnx, openvino, saved_model, torch
from tfl.artefacts.formats.format import Answer, Format, Quantization
from tfl.errors import SpecError
from tfl.specs import MAX_IMAGE_PIXELS, Artefact

__all__ = [
    "FORMATS",
    "Answer",
    "Format",
    "Quantization",
    "detect_format",
    "list_quantizations",
    "open_model",
    "register",
    "require_format",
    "unregister",
]

FORMATS: dict[str, Format] = {}
"""Every format by its name; `register` adds one. The first is the default."""


def register(kind: Format) -> None:
    """Add an export format.

    Raises:
      ValueError: there is one of that name.
    """
    if kind.name in FORMATS:
        raise ValueError(f"there is an export format {kind.name!r} already")
    FORMATS[kind.name] = kind


def unregister(kind: Format) -> None:
    """Remove a format that `register` added."""
    del FORMATS[kind.name]


for _module in (saved_model, keras, onnx, litert, openvino, torch):
    register(_module.make_format())


def list_quantizations() -> list[str]:
    """Return the names of all ways to store weights, in order, each once."""
    names = [each.name for kind in FORMATS.values() for each in kind.quantizations]
    return list(dict.fromkeys(names))


def require_format(artefact: Artefact) -> Format:
    """Return the format of an artefact, if it can do what is asked of it.

    Raises:
      SpecError: there is no such format, it cannot store weights that way, or a bound on encoded
        images is given to a format that takes none.
    """
    kind = FORMATS.get(artefact.format)
    if kind is None:
        raise SpecError(f"format is one of {', '.join(FORMATS)}; got {artefact.format!r}")
    if kind.find_quantization(artefact.quantize) is None:
        able = [name for name, each in FORMATS.items() if each.find_quantization(artefact.quantize)]
        formats = " and ".join(able) or "nothing"
        raise SpecError(f"quantize {artefact.quantize} is for {formats}, got format {kind.name}")
    if artefact.max_image_pixels != MAX_IMAGE_PIXELS and not kind.takes_encoded_images:
        able = [name for name, each in FORMATS.items() if each.takes_encoded_images]
        raise SpecError(
            f"max_image_pixels is for the format {' and '.join(able)}, got format {kind.name}, which takes decoded "
            "images; leave it out (`tfl predict` has a --max-image-pixels of its own)"
        )
    return kind


def detect_format(folder: Path) -> str | None:
    """Return the format of a model's folder by the files in it; None if there is none.

    For a folder that has no `tfl.json` yet, which is what says the format.
    """
    return next((name for name, kind in FORMATS.items() if (folder / kind.file).is_file()), None)


def open_model(folder: Path, name: str | None = None) -> Answer:
    """Open an exported model with the runtime of its format, and return the function that answers.

    Opening a SavedModel may read and write files, for it is a program. No other format runs code of
    a file that is opened here: `.keras` and `.pt2` files are looked through first.

    Args:
      name: the format; None for that of the files in it.

    Raises:
      ImportError: the format's runtime is not installed.
      Exception: whatever a runtime raises if a file is not what its name says.
    """
    name = name or detect_format(folder)
    if name is None or not (folder / FORMATS[name].file).is_file():
        raise ValueError(f"there is none of {', '.join(kind.file for kind in FORMATS.values())} in it")
    return FORMATS[name].open_model(folder / FORMATS[name].file)
