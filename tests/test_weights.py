"""Weights files as people have them, in each layout of Keras: read right, or refused with what the file has."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import h5py
import keras
import numpy as np
import pytest
import tiny
import tiny_rescaled
from keras.src.legacy.saving import legacy_h5_format

from tfl import backbones
from tfl.backbones import applications, weights
from tfl.errors import BackboneError
from tfl.specs import FeatureSpec

IMAGES = np.random.default_rng(0).integers(0, 255, (4, 12, 12, 3), dtype=np.uint8)
SHAPE = (12, 12, 3)


@pytest.fixture
def rescaled():
    with tiny.registered(tiny_rescaled.SOURCE):
        yield FeatureSpec(backbone="tinyrescaled", weights="random", image_size=12)


def filled(network):
    rng = np.random.default_rng(3)
    network.set_weights([rng.uniform(0.1, 1, weight.shape).astype(weight.dtype) for weight in network.weights])
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return network


def tiny_network():
    return filled(tiny.Tiny(include_top=False, weights=None, input_shape=SHAPE))


def variants(monkeypatch):
    """The network as Keras builds it for a file and for "imagenet", of the same tensors."""
    plain = filled(tiny_rescaled.TinyRescaled(include_top=False, weights=None, input_shape=SHAPE))
    with monkeypatch.context() as patch:
        patch.setattr(tiny_rescaled.file_utils, "get_file", lambda *args: "")
        patch.setattr(keras.Model, "load_weights", lambda *args: None)
        official = filled(tiny_rescaled.TinyRescaled(include_top=False, weights="imagenet", input_shape=SHAPE))
    return {"plain": plain, "imagenet": official}


def save_legacy(network, path):
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)


def save(network, path):
    """By the name of the file: `legacy.h5` has the weights alone, `model.h5` and `.keras` the whole model."""
    if path.name == "legacy.h5":
        save_legacy(network, path)
    elif path.name.endswith(".weights.h5"):
        network.save_weights(path)
    else:
        network.save(path)
    return path


def features_of(network):
    """What the user's own network gives for the images as the architecture's preprocessing makes them."""
    module = tiny_rescaled if network.layers[1].name.startswith("rescaling") else tiny
    pixels = module.preprocess_input(IMAGES.astype(np.float32))
    return np.asarray(network(pixels, training=False)).mean(axis=(1, 2))


def built_with(spec, path):
    return np.asarray(backbones.build_backbone(replace(spec, weights=str(path))).model(IMAGES))


FILES = ("w.weights.h5", "legacy.h5", "model.h5", "model.keras")


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("name", FILES)
def test_each_kind_of_file_gives_the_networks_own_features(features, tmp_path, name):
    network = tiny_network()
    path = save(network, tmp_path / name)
    np.testing.assert_allclose(built_with(features, path), features_of(network), rtol=1e-4)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["plain", "imagenet"])
def test_the_variant_that_the_file_shows_is_built(rescaled, tmp_path, monkeypatch, name, kind):
    networks = variants(monkeypatch)
    own = {each: features_of(network) for each, network in networks.items()}
    assert np.abs(own["plain"] - own["imagenet"]).max() > 0.1
    path = save(networks[kind], tmp_path / name)
    np.testing.assert_allclose(built_with(rescaled, path), own[kind], rtol=1e-4)


def test_a_head_behind_the_network_does_not_change_the_variant(rescaled, tmp_path, monkeypatch):
    network = variants(monkeypatch)["imagenet"]
    logits = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(network.output))
    path = save(keras.Model(network.input, logits), tmp_path / "flat.weights.h5")
    np.testing.assert_allclose(built_with(rescaled, path), features_of(network), rtol=1e-4)


def test_how_tensorflow_2_9_names_the_further_layer(rescaled, tmp_path, monkeypatch):
    network = variants(monkeypatch)["imagenet"]
    path = save(network, tmp_path / "legacy.h5")
    with h5py.File(path, "a") as file:
        names = list(file.attrs["layer_names"])
        last = [name for name in names if name.startswith("rescaling")][-1]
        file.move(last, "tf.math.truediv")
        del file.attrs["layer_names"]
        file.attrs["layer_names"] = ["tf.math.truediv" if name == last else name for name in names]
    np.testing.assert_allclose(built_with(rescaled, path), features_of(network), rtol=1e-4)


def test_keras_own_file_is_known_by_its_digest(rescaled, tmp_path, monkeypatch):
    """Those of EfficientNet are older than the further layer, and do not show it."""
    networks = variants(monkeypatch)
    path = save(networks["plain"], tmp_path / "legacy.h5")
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(tiny_rescaled, "WEIGHTS_HASHES", {"tiny": ("0" * 32, digest)})
    np.testing.assert_allclose(built_with(rescaled, path), features_of(networks["imagenet"]), rtol=1e-4)


def without_empty_groups(path):
    with h5py.File(path, "a") as file:
        for name in [name for name, group in file["layers"].items() if not len(group["vars"])]:
            del file[f"layers/{name}"]
    return path


def test_a_file_that_does_not_show_the_variant_is_refused(rescaled, features, tiny_backbone, tmp_path, monkeypatch):
    path = without_empty_groups(save(variants(monkeypatch)["plain"], tmp_path / "w.weights.h5"))
    with pytest.raises(BackboneError, match="does not show its layers without weights, and there are two networks"):
        built_with(rescaled, path)
    network = tiny_network()  # of which there is one variant
    path = without_empty_groups(save(network, tmp_path / "tiny.weights.h5"))
    np.testing.assert_allclose(built_with(features, path), features_of(network), rtol=1e-4)


@pytest.mark.usefixtures("tiny_backbone")
def test_rescaling_that_the_architecture_does_not_have_is_refused(features, tmp_path):
    network = tiny_network()
    images = keras.Input(SHAPE)
    x = keras.layers.Rescaling(2.0)(images)
    for layer in network.layers[1:]:
        x = layer(x)
    path = save(keras.Model(images, x), tmp_path / "w.weights.h5")
    with pytest.raises(BackboneError, match="shows 1 x rescaling, and tiny has no layers that rescale or normalise"):
        built_with(features, path)


def test_rescaling_of_another_scale_is_refused(rescaled, tmp_path):
    images = keras.Input(SHAPE)
    x = keras.layers.Rescaling(1 / 127.5)(images)
    x = keras.layers.Normalization()(x)
    x = keras.layers.Conv2D(6, 3, name="stem_conv")(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="stem_bn")(x))
    path = save(filled(keras.Model(images, x)), tmp_path / "model.keras")
    with pytest.raises(BackboneError, match="how its network preprocesses images cannot be told"):
        built_with(rescaled, path)


@pytest.mark.usefixtures("tiny_backbone")
def test_legacy_layers_and_tensors_in_another_order_go_by_their_names(features, tmp_path):
    network = tiny_network()
    path = save(network, tmp_path / "legacy.h5")
    with h5py.File(path, "a") as file:
        names = file.attrs["layer_names"][::-1]
        del file.attrs["layer_names"]
        file.attrs["layer_names"] = names
        tensors = file["bn1"].attrs["weight_names"][::-1]  # gamma, beta, mean and variance are of one shape
        del file["bn1"].attrs["weight_names"]
        file["bn1"].attrs["weight_names"] = tensors
    np.testing.assert_allclose(built_with(features, path), features_of(network), rtol=1e-4)


@pytest.mark.usefixtures("tiny_backbone")
def test_a_file_that_another_process_has_locked_is_read(features, tmp_path):
    """As on a disk without locks, where HDF5's own lock fails too."""
    network = tiny_network()
    for name in FILES:
        path = save(network, tmp_path / name)
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(OSError, match="lock"):
                h5py.File(path, "r") if path.suffix == ".h5" else h5py_locked()
            np.testing.assert_allclose(built_with(features, path), features_of(network), rtol=1e-4)
    assert h5py.File.__module__.startswith("h5py")


def h5py_locked():
    raise OSError("an archive is not opened by HDF5: no lock")


def nested(network):
    return keras.Sequential([keras.Input(SHAPE), network, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)])


def with_top(network):
    pooled = keras.layers.GlobalAveragePooling2D()(network.output)
    return keras.Model(network.input, keras.layers.Dense(3, name="predictions")(pooled))


def narrower(network):
    images = keras.Input(SHAPE)
    x = keras.layers.Conv2D(4, 3, strides=2, use_bias=False, name="conv1")(images)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="bn1")(x))
    return keras.Model(images, keras.layers.Conv2D(5, 3, name="conv2", activation="relu")(x))


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize(
    ("change", "name", "messages"),
    [
        (nested, "w.weights.h5", ["inside a model named 'tiny'", "model.get_layer('tiny').save_weights("]),
        (nested, "model.keras", ["inside a model named 'tiny'", "(tiny) with 7 tensors", "dense"]),
        (nested, "model.h5", ["inside a model named 'tiny'", "tiny with 7 tensors, dense"]),
        (nested, "legacy.h5", ["inside a model named 'tiny'"]),
        (with_top, "legacy.h5", ["it has a top, predictions", "conv1 3x3x3x6", "predictions 5x3", "include_top=False"]),
        (with_top, "model.h5", ["it has a top, predictions"]),
        (narrower, "w.weights.h5", ["its layer conv2d has tensors of 3x3x3x4, tensors of 3x3x3x6 expected (conv1)"]),
        (narrower, "legacy.h5", ["conv1/kernel has shape (3, 3, 3, 6), (3, 3, 3, 4) is in the file"]),
    ],
)
def test_weights_of_another_layout_say_what_the_file_has(features, tmp_path, change, name, messages):
    path = save(change(tiny_network()), tmp_path / name)
    with pytest.raises(BackboneError) as error:
        built_with(features, path)
    text = str(error.value)
    assert text.startswith(f"{path} does not hold weights of tiny without its top: ")
    for message in [*messages, "in the file: ", "expected: 5 layers, 7 tensors, 461 parameters"]:
        assert message in text
    assert "container" not in text
    assert "Layer count mismatch" not in text


@pytest.mark.usefixtures("tiny_backbone")
def test_a_top_that_keras_3_keeps_apart_is_left_out(features, tmp_path):
    network = tiny_network()
    path = save(with_top(network), tmp_path / "w.weights.h5")
    np.testing.assert_allclose(built_with(features, path), features_of(network), rtol=1e-4)


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", FILES)
def test_weights_that_are_not_finite_are_refused(features, tmp_path, name, value):
    network = tiny_network()
    kernel = np.array(network.get_layer("conv2").kernel)
    kernel[0, 0, 0, :2] = value
    network.get_layer("conv2").kernel.assign(kernel)
    path = save(network, tmp_path / name)
    with pytest.raises(BackboneError, match=r"hold 2 of 270 values of conv2/kernel that are not finite"):
        built_with(features, path)


@pytest.mark.usefixtures("tiny_backbone")
def test_official_and_random_weights_must_be_finite_too(features, monkeypatch):
    def spoil(network):
        network.weights[0].assign(network.weights[0] * np.nan)

    monkeypatch.setattr(applications, "randomize_weights", spoil)
    with pytest.raises(BackboneError, match="the weights random hold 162 of 162 values of conv1/kernel"):
        backbones.build_backbone(features)


def archive(path, **members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "."), content)
    return path


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a": b"b"}, "is no model that Keras 3 saved: .*no item named 'model.weights.h5'"),
        ({"model__weights__h5": b"hello", "config__json": b"{}"}, r"w.keras is not an HDF5 file \(5 bytes\)"),
        ({"model__weights__h5": b"hello", "config__json": b"[" * 100_000}, "is no model that Keras 3 saved"),
        ({"model__weights__h5": b"hello", "config__json": b"nothing"}, "is no model that Keras 3 saved"),
    ],
)
def test_archives_that_are_no_models_are_refused(tmp_path, members, message):
    path = archive(tmp_path / "w.keras", **members)
    with pytest.raises(BackboneError, match=message), weights.open_weights(path):
        pass


def test_a_compressed_member_is_refused(tmp_path):
    path = tmp_path / "w.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model.weights.h5", b"0" * 100)
        file.writestr("more", bytes(np.random.default_rng(0).integers(0, 255, 200, np.uint8)))
    with pytest.raises(BackboneError, match="its member model.weights.h5 is compressed"), weights.open_weights(path):
        pass


@pytest.mark.parametrize(
    "kind", ["no layers", "layers that are no group", "a number for names", "names without groups"]
)
def test_hdf5_files_that_keras_did_not_save_are_refused(tmp_path, kind):
    path = tmp_path / ("w.weights.h5" if "layers" in kind else "w.h5")
    with h5py.File(path, "w") as file:
        if kind == "no layers":
            file.create_group("layers")
        elif kind == "layers that are no group":
            file["layers"] = np.zeros(3)
        elif kind == "a number for names":
            file.attrs["layer_names"] = 3
        else:
            file.attrs["layer_names"] = ["x\x1b[31m"]
    with pytest.raises(BackboneError, match="is no weights file that Keras saved") as error, weights.open_weights(path):
        pass
    assert "\x1b" not in str(error.value)


def test_efficientnet_of_keras_own_in_both_variants(tmp_path):
    """The real architecture, in a process of its own: what it writes must not depend on what was built before."""
    program = """
import sys
import numpy as np
import keras
from keras.src.utils import file_utils
from tfl import backbones
from tfl.backbones.tensors import randomize_weights
from tfl.specs import FeatureSpec
images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
def network(weights):
    return keras.applications.EfficientNetB0(include_top=False, weights=weights, input_shape=(32, 32, 3))
plain = network(None)
randomize_weights(plain)
plain.save_weights(sys.argv[1] + "/plain.weights.h5")
file_utils.get_file = lambda *args, **kwargs: sys.argv[1] + "/plain.weights.h5"
official = network("imagenet")
official.save_weights(sys.argv[1] + "/imagenet.weights.h5")
own = {"plain": plain, "imagenet": official}
for name, one in own.items():
    spec = FeatureSpec(backbone="efficientnetb0", weights=f"{sys.argv[1]}/{name}.weights.h5", image_size=32)
    expected = np.asarray(one(images.astype(np.float32), training=False)).mean(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(backbones.build_backbone(spec).model(images)), expected, rtol=1e-3, atol=1e-6)
    print(name, "right")
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["plain", "right", "imagenet", "right"], done.stderr[-2000:]


@pytest.mark.usefixtures("tiny_backbone")
def test_the_file_is_left_as_it_was(features, tmp_path):
    path = save(tiny_network(), tmp_path / "model.keras")
    shutil.copy(path, tmp_path / "copy")
    path.chmod(0o400)
    built_with(features, path)
    assert path.read_bytes() == (tmp_path / "copy").read_bytes()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("efficientnet_b0", "efficientnetb0"),
        ("resnet-50", "resnet50"),
        ("ResNet 50", "resnet50"),
        ("MobileNet-V2", "mobilenetv2"),
        ("EfficientNetV2_B0", "efficientnetv2b0"),
        ("convnext-tiny", "convnexttiny"),
        ("resnet5O", "resnet50"),
    ],
)
def test_a_misspelt_architecture_is_told_the_nearest(typed, meant):
    with pytest.raises(BackboneError, match=f"there is no backbone {typed!r} .*; did you mean {meant}\\?$"):
        backbones.require_backbone(typed)


def test_an_architecture_that_is_near_none_is_told_all_of_them():
    with pytest.raises(BackboneError, match="expected one of .*xception$"):
        backbones.require_backbone("qqqq")


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize(("typed", "meant"), [("relu_1", "relu1"), ("Conv1", "conv1"), ("Last", "last")])
def test_a_misspelt_layer_is_told_the_nearest(features, typed, meant):
    with pytest.raises(BackboneError, match=f"tiny has no layer {typed!r}; .*; did you mean {meant}\\?$"):
        backbones.build_backbone(replace(features, layers=(typed,)))
