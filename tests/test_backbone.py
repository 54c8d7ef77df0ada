from dataclasses import replace

import keras
import numpy as np
import pytest
import tiny

from tfl import backbone
from tfl.errors import BackboneError
from tfl.spec import FeatureSpec

IMAGES = np.random.default_rng(0).integers(0, 255, (3, 20, 17, 3), dtype=np.uint8)


@pytest.mark.usefixtures("tiny_backbone")
def test_model_is_network_after_resize(features):
    built = backbone.build(features)
    resized = built.resize(IMAGES)  # (3, 12, 12, 3)
    assert resized.shape == (3, 12, 12, 3)
    expected = built.model(IMAGES)  # (3, 5)
    np.testing.assert_allclose(built.network(resized), expected, rtol=1e-6)
    assert built.num_features == 5


@pytest.mark.usefixtures("tiny_backbone")
def test_features_are_the_pooled_network_on_preprocessed_pixels(features):
    built = backbone.build(features)
    network = tiny.Tiny(include_top=False, weights=None, input_shape=(12, 12, 3))
    backbone._randomize(network)
    pixels = np.asarray(built.resize(IMAGES))
    expected = network(tiny.preprocess_input(pixels)).numpy().mean(axis=(1, 2))
    np.testing.assert_allclose(built.model(IMAGES), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("tiny_backbone")
def test_resizing_does_not_round(features):
    """Bilinear halves of 0 and 255 are 127.5; integer resizing would make 127 or 128 of them."""
    checkerboard = np.indices((24, 24)).sum(axis=0) % 2 * 255
    images = np.repeat(checkerboard[None, :, :, None].astype(np.uint8), 3, axis=3)
    assert np.unique(backbone.build(features).resize(images)) == 127.5


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
def test_resize_modes(features, mode):
    wide = np.zeros((1, 10, 30, 3), np.uint8)
    wide[:, :, 10:20] = 200
    resized = np.asarray(backbone.build(replace(features, resize_mode=mode)).resize(wide))[0, :, :, 0]
    middle_row, middle_column = resized[6], resized[:, 6]
    assert {"stretch": middle_row[0] == 0, "crop": (middle_row == 200).all(), "pad": middle_column[0] == 0}[mode]
    assert resized.shape == (12, 12)


@pytest.mark.usefixtures("tiny_backbone")
def test_layers_and_poolings_are_concatenated(features):
    spec = replace(features, layers=("relu1", "last"), pooling=("avg", "max"))
    built = backbone.build(spec)
    assert built.num_features == 2 * (6 + 5)
    last_average = backbone.build(features).model(IMAGES)
    np.testing.assert_allclose(np.asarray(built.model(IMAGES))[:, 12:17], last_average, rtol=1e-5)


@pytest.mark.usefixtures("tiny_backbone")
def test_everything_is_frozen_and_resolved(features):
    built = backbone.build(features)
    assert built.model.trainable_variables == []
    assert built.spec.is_resolved
    assert built.spec.weights == backbone.build(features).spec.weights


@pytest.mark.usefixtures("tiny_backbone")
def test_low_precision_computes_low_and_pools_in_float32(features):
    before = keras.config.dtype_policy()
    exact = backbone.build(features)
    rough = backbone.build(replace(features, compute_dtype="bfloat16"))
    assert keras.config.dtype_policy() is before
    assert exact.spec.weights == rough.spec.weights
    difference = np.abs(np.asarray(exact.model(IMAGES)) - np.asarray(rough.model(IMAGES))).max()
    assert 0 < difference < 0.05
    assert np.asarray(rough.model(IMAGES)).dtype == np.float32


@pytest.mark.usefixtures("tiny_backbone")
def test_weights_file_counts_by_its_values(features, tmp_path):
    network = tiny.Tiny(include_top=False, weights=None, input_shape=(12, 12, 3))
    backbone._randomize(network)
    network.save_weights(tmp_path / "a.weights.h5")
    network.save_weights(tmp_path / "b.weights.h5")
    specs = [backbone.build(replace(features, weights=str(tmp_path / f"{name}.weights.h5"))).spec for name in "ab"]
    assert specs[0] == specs[1] == backbone.build(features).spec
    network.layers[-1].bias.assign([1, 0, 0, 0, 0])
    network.save_weights(tmp_path / "b.weights.h5")
    assert backbone.build(replace(features, weights=str(tmp_path / "b.weights.h5"))).spec != specs[0]


@pytest.mark.usefixtures("tiny_backbone")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet5000"}, "no backbone 'resnet5000' in keras.applications; expected one of .*resnet50,"),
        ({"image_size": 7}, "tiny cannot be built for image_size 7: Input size must be at least 8x8"),
        ({"weights": "/no/such.weights.h5"}, "imagenet, random or a file; there is no file /no/such.weights.h5"),
        ({"layers": ("conv9",)}, "tiny has no layer 'conv9'; its last ones are"),
    ],
)
def test_bad_specs_are_refused(features, changes, message):
    with pytest.raises(BackboneError, match=message):
        backbone.build(replace(features, **changes))


@pytest.mark.usefixtures("tiny_backbone")
def test_weights_of_another_network_are_refused(features, tmp_path):
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    other.save_weights(tmp_path / "other.weights.h5")
    (tmp_path / "text.weights.h5").write_text("hello")
    for name in ("other", "text"):
        with pytest.raises(BackboneError, match=f"{name}.weights.h5 does not hold weights of tiny without its top"):
            backbone.build(replace(features, weights=str(tmp_path / f"{name}.weights.h5")))


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
    preprocess = backbone._preprocess_of(backbone.architectures()[name])
    pixel = keras.ops.convert_to_tensor(np.array([[[[0, 128, 255]]]], np.float32))
    np.testing.assert_allclose(np.asarray(preprocess(pixel)).ravel(), expected, rtol=1e-4, atol=1e-4)


def test_every_architecture_has_a_preprocessing():
    assert len(backbone.architectures()) >= 38
    for architecture in backbone.architectures().values():
        assert callable(backbone._preprocess_of(architecture))


def test_a_real_architecture_by_any_case():
    built = backbone.build(FeatureSpec(backbone="MobileNetV3Small", weights="random", image_size=32))
    assert built.spec.backbone == "mobilenetv3small"
    assert built.model(IMAGES).shape == (3, 576)


@pytest.mark.real
def test_imagenet_weights_are_the_pinned_tensors():
    built = backbone.build(FeatureSpec(image_size=32))
    assert built.spec.weights == backbone.RESNET50_IMAGENET_DIGEST
    assert sum(int(np.prod(weight.shape)) for weight in built.model.weights) == 23_587_712
