"""The three specs: what decides a feature's value, which images, and which file.

A spec is written by a user in words (`weights="imagenet"`, `train_split="train[:8%]"`) and *resolved* by the
program into values that mean the same everywhere (a digest of the tensors, `train[0:4000]`). Only a resolved
spec has a fingerprint.
"""

import hashlib
import json
import typing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tyro

from tfl.errors import SpecError
from tfl.files.paths import expand_user

FEATURE_REVISION = 1  # rises when a change of the code changes features' values: then caches must be rebuilt
DIGEST_PREFIX = "sha256:"
LAST_LAYER = "last"
MAX_IMAGE_SIZE = 8192  # pixels; one image of float32 takes 800 MB, before any layer
MAX_IMAGE_PIXELS = 120_000_000
"""Default bound on height x width of one image: photos of 108 megapixels pass. Decoded, it takes 0.36 GB, and 1.4 GB as
the float32 pixels that are resized."""

Role = Literal["train", "val", "test"]
ROLES: tuple[Role, ...] = ("train", "val", "test")
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"]
Format = Literal["saved-model", "keras", "onnx", "litert", "openvino", "torch"]
QUANTIZABLE: dict[str, tuple[Format, ...]] = {
    "none": typing.get_args(Format),
    "float16": ("saved-model", "onnx", "litert", "openvino"),
    "int8": ("litert",),
}
View = Literal["original", "hflip", "crop1", "crop2", "crop3", "crop4", "crop5"]
VIEWS: tuple[View, ...] = typing.get_args(View)
"""The fixed ways to present an image to the backbone; the same geometry for every image, and no chance in it.

`original` is the resized image, and `hflip` its mirror image, left and right exchanged. A crop is cut, in the size of
the original, from the image resized to 8/7 of that (256 for 224): `crop1` to `crop4` from the corners top left, top
right, bottom left and bottom right, `crop5` from the centre. (These and their mirror images are the ten crops of
Krizhevsky et al. 2012, section 4.1.)
"""


class _Spec:
    """What the three specs share: strict JSON in and out, validation, and a fingerprint."""

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII; equal specs give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The spec that `to_json` wrote.

        Raises:
          SpecError: the text is not JSON, or its keys are not exactly this spec's fields.
        """
        try:
            return cls._from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise SpecError(f"a {cls.__name__} was expected as JSON, got {text[:80]!r}: {error}") from error

    @classmethod
    def _from_dict(cls, values: Any) -> Self:
        names = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        if not isinstance(values, dict) or sorted(values) != sorted(names):
            received = sorted(values) if isinstance(values, dict) else values
            raise SpecError(f"a {cls.__name__} has the fields {sorted(names)}, got {received}")
        hints = typing.get_type_hints(cls)
        return cls(**{name: _from_json_value(hints[name], values[name]) for name in names})

    @property
    def fingerprint(self) -> str:
        """Sha256 (64 hex digits) of the canonical JSON of a resolved spec.

        Raises:
          SpecError: the spec still holds words instead of digests and versions.
        """
        if not self.is_resolved:
            raise SpecError(f"only a resolved spec has a fingerprint, got {self.to_json()}")
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def is_resolved(self) -> bool:
        raise NotImplementedError

    def _validate(self) -> None:
        for name, hint in typing.get_type_hints(type(self)).items():
            _check_type(type(self).__name__, name, getattr(self, name), hint)


@dataclass(frozen=True)
class FeatureSpec(_Spec):
    """Everything that decides the value of one image's features."""

    backbone: str = "resnet50"
    """Any keras.applications architecture, by its name in any case."""
    weights: str = "imagenet"
    """`imagenet`, `random` (a fixed seed), or a file of the network without its top: `.weights.h5`, `.h5`, `.keras`."""
    image_size: int = 224
    """Height and width, in pixels, that images are resized to on the device."""
    resize_mode: Literal["stretch", "crop", "pad"] = "stretch"
    """`crop` and `pad` keep the aspect ratio: centre crop, or zero padding."""
    interpolation: Interpolation = "bilinear"
    """How pixels are resampled."""
    antialias: bool = False
    """Low-pass before shrinking."""
    layers: tuple[str, ...] = (LAST_LAYER,)
    """Layers whose outputs are pooled and concatenated; `last` is the end of the network."""
    pooling: tuple[Literal["avg", "max"], ...] = ("avg",)
    """Reduction over height and width; several are concatenated."""
    compute_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the backbone; pooling is always float32."""
    feature_dtype: Literal["float32", "float16"] = "float32"
    """What the cache stores."""
    revision: Annotated[int, tyro.conf.Suppress] = FEATURE_REVISION

    def __post_init__(self) -> None:
        self._validate()
        if self.image_size < 1:
            raise SpecError(f"image_size is a positive number of pixels, got {self.image_size}")
        if self.image_size > MAX_IMAGE_SIZE:
            raise SpecError(f"image_size is at most {MAX_IMAGE_SIZE:,} pixels, got {self.image_size}")
        if not self.layers or not self.pooling:
            raise SpecError(f"at least one layer and one pooling are needed, got {self.layers}, {self.pooling}")

    @property
    def is_resolved(self) -> bool:
        """Whether `weights` is a digest of the tensors' values."""
        return self.weights.startswith(DIGEST_PREFIX)


@dataclass(frozen=True)
class DatasetSpec(_Spec):
    """Which images, and what each split is used for."""

    dataset: str = "cifar10"
    """A TFDS name, a folder `root/<split>/<class>/*.png`, or an .npz file."""
    train_split: str = "train"
    """Split to train on; TFDS slicing is understood: 'train[:4000]', 'train[:8%]'. A percent slice of a folder takes
    about that share of every class, and the same images whatever else is in the folder."""
    val_split: str = ""
    """Split to select on; an empty string leaves the role out."""
    test_split: str = "test"
    """Split that is read once, at the end."""
    version: Annotated[str, tyro.conf.Suppress] = ""

    def __post_init__(self) -> None:
        self._validate()
        if not self.dataset:
            raise SpecError("dataset is empty; expected a TFDS name, a folder or an .npz file")
        if not any(self.roles.values()):
            raise SpecError("no split was given: at least one of train_split, val_split and test_split is needed")

    @property
    def roles(self) -> dict[Role, str]:
        """The split of each role that has one, in the order train, val, test."""
        splits: dict[Role, str] = {"train": self.train_split, "val": self.val_split, "test": self.test_split}
        return {role: split for role, split in splits.items() if split}

    @property
    def images(self) -> str:
        """What says which image an id is of: a digest of the content, or name and version."""
        return self.version if self.version.startswith(DIGEST_PREFIX) else f"{self.dataset} {self.version}"

    @property
    def is_resolved(self) -> bool:
        """Whether the dataset's version or content is known."""
        return bool(self.version)


@dataclass(frozen=True)
class CacheSpec(_Spec):
    """What one cache file holds; its fingerprint names the file."""

    features: FeatureSpec
    dataset: DatasetSpec
    views: tuple[View, ...] = ("original",)

    def __post_init__(self) -> None:
        self._validate()
        require_views(self.views)

    @property
    def is_resolved(self) -> bool:
        """Whether both parts are resolved."""
        return self.features.is_resolved and self.dataset.is_resolved

    @property
    def file_name(self) -> str:
        """`<dataset>-<backbone>-<image_size>-<first 12 of fingerprint>.h5`."""
        dataset = "".join(c if c.isalnum() or c in "._" else "_" for c in self.dataset.dataset)
        return f"{dataset}-{self.features.backbone}-{self.features.image_size}-{self.fingerprint[:12]}.h5"


@dataclass(frozen=True)
class Settings:
    """How features are computed; in no spec, for it decides at most their last bits."""

    cache_dir: Path = Path("cache")
    """Folder of the cache files."""
    engine: Literal["auto", "keras", "openvino", "torch.compile"] = "auto"
    """What runs the network: the Keras backend, OpenVINO (which `auto` takes on a CPU where it is installed), or
    `torch.compile` under the backend torch."""
    batch_size: int = 0
    """Images in one forward pass; 0 takes what an unfinished cache was begun with, else an even part of a shard: up to
    32 on a CPU, 256 on each GPU."""
    shard_rows: int = 1024
    """Rows in one piece on their way to the file; a killed run loses two such pieces at most, on a GPU seven."""
    on_bad_image: Literal["error", "skip"] = "error"
    """An image that cannot be read ends the command, or is left out and listed in the cache's provenance."""
    allow_missing_classes: bool = False
    """Also take splits whose test or val rows have a class that the training rows lack, or that are of one class."""

    max_image_pixels: int = MAX_IMAGE_PIXELS
    """Most pixels (height x width) that an image file may claim in its header; a larger one is a bad image, and is not
    decoded."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache_dir", expand_user(self.cache_dir))
        require_max_image_pixels(self.max_image_pixels)
        if self.batch_size < 0 or self.shard_rows < 1:
            raise SpecError(
                f"batch_size is at least 0 and shard_rows at least 1, got {self.batch_size} and {self.shard_rows}"
            )


@dataclass(frozen=True)
class Artefact:
    """What an exported model is, and what it has to prove before it is left behind."""

    format: Format = "saved-model"
    """A TensorFlow SavedModel, a `.keras` file, ONNX, LiteRT, OpenVINO IR, or a PyTorch program (`.pt2`)."""
    quantize: Literal["none", "float16", "int8"] = "none"
    """`float16` stores weights in half the room; `int8` (litert alone) computes with them too, calibrated on images."""
    fold_batch_norm: bool = True
    """Fold BatchNormalization into the convolutions before it."""
    assert_accuracy_at_least: float = 0.0
    """Measure accuracy, in 0..1, of the exported model on all test images, and leave nothing if it is below."""
    max_image_pixels: int = MAX_IMAGE_PIXELS
    """Most pixels (height x width) of an encoded image that a SavedModel's `serve_bytes` decodes."""

    def __post_init__(self) -> None:
        if not 0 <= self.assert_accuracy_at_least <= 1:
            raise SpecError(f"assert_accuracy_at_least is in 0..1, got {self.assert_accuracy_at_least}")
        require_max_image_pixels(self.max_image_pixels)
        if self.format != "saved-model" and self.max_image_pixels != MAX_IMAGE_PIXELS:
            raise SpecError(
                f"max_image_pixels is for the format saved-model, got format {self.format}, which takes "
                "decoded images; leave it out (`tfl predict` has a --max-image-pixels of its own)"
            )
        if self.quantize not in QUANTIZABLE or self.format not in QUANTIZABLE[self.quantize]:
            formats = " and ".join(QUANTIZABLE.get(self.quantize, ()))
            raise SpecError(f"quantize {self.quantize} is for {formats or 'nothing'}, got format {self.format}")


def require_max_image_pixels(count: int) -> None:
    """Refuse a bound that no image is within.

    Raises:
      SpecError: it is below 1.
    """
    if count < 1:
        raise SpecError(f"max_image_pixels is at least 1, got {count}")


def require_views(views: tuple[View, ...]) -> None:
    """Refuse views that no cache can have.

    Raises:
      SpecError: one is unknown or stands twice, or the first is not `original`.
    """
    _check_type("CacheSpec", "views", views, tuple[View, ...])
    right = tuple(dict.fromkeys(("original", *views)))
    if views != right:
        raise SpecError(
            f"views begin with original, and none stands twice; got {_shown(views)}; try --views {_shown(right)}"
        )


def list_differences(on_disk: CacheSpec, requested: CacheSpec) -> list[str]:
    """One line for each field that differs, `image_size: 224 on disk, 160 requested`; empty when equal."""
    return [
        f"{name}: {_shown(old)} on disk, {_shown(new)} requested"
        for (name, old), (_, new) in zip(_leaves(on_disk), _leaves(requested), strict=True)
        if old != new
    ]


def _leaves(spec: CacheSpec) -> list[tuple[str, Any]]:
    parts = [*asdict(spec.features).items(), *asdict(spec.dataset).items()]
    return [*parts, ("views", spec.views)]


def _shown(value: Any) -> str:
    return (" ".join(value) if isinstance(value, tuple) else str(value)) or "none"


def _from_json_value(hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, _Spec):
        return hint._from_dict(value)
    return tuple(value) if isinstance(value, list) else value


def _check_type(spec: str, name: str, value: Any, hint: Any) -> None:
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            raise SpecError(f"{spec}.{name} is a tuple, got {value!r}")
        for item in value:
            _check_type(spec, name, item, typing.get_args(hint)[0])
    elif typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise SpecError(f"{spec}.{name} is one of {', '.join(typing.get_args(hint))}; got {value!r}")
    elif type(value) is not hint:  # `bool` is an `int` to isinstance, and is none here
        raise SpecError(f"{spec}.{name} is of type {hint.__name__}, got {value!r}")
