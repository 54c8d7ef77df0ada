"""An int8 network in ONNX: ONNX Runtime's features against OpenVINO's."""

import keras
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import tiny
from keras import layers
from openvino import opset13 as ops

from tfl import backbones
from tfl.artefacts.combined import Combined
from tfl.artefacts.formats.onnx_int8 import convert_network, join
from tfl.backbones.applications import make_source
from tfl.backbones.presentation import build_views
from tfl.engine.quantizing import quantize
from tfl.errors import ExportError
from tfl.specs import FeatureSpec

RNG = np.random.default_rng(0)
SIZE = 16
PIXELS = RNG.uniform(0, 255, (5, SIZE, SIZE, 3)).astype(np.float32)


def preprocess_input(x):
    return x / 127.5 - 1.0


def Varied(include_top, weights, input_shape):  # noqa: N802 -- as keras.applications spells architectures
    """Layers of all kinds that keras.applications has in its convolutional networks."""
    images = keras.Input(input_shape)
    x = layers.Conv2D(8, 3, strides=2, padding="same")(images)
    x = layers.Activation("relu6")(x)
    shortcut = x = layers.MaxPooling2D(3, strides=1, padding="same")(layers.ZeroPadding2D(1)(x))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.Activation("hard_silu")(x)
    x = layers.Conv2D(8, 1, activation="relu")(x)
    x = layers.Add()([shortcut, x])
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same", activation="silu")(x)])
    x = layers.AveragePooling2D(2)(x)
    x = layers.Dense(6)(layers.LayerNormalization()(x))
    return keras.Model(images, layers.Activation("gelu")(x), name="varied")


VARIED = make_source("varied", "varied:", lambda: {"varied": Varied})


def quantize_backbone(spec):
    backbone = backbones.build_backbone(spec)
    for variable in backbone.network.variables:
        if variable.name == "bias":
            variable.assign(RNG.normal(scale=0.1, size=variable.shape))
    return openvino.Core().read_model(*quantize(backbone, PIXELS))


@pytest.fixture(scope="module")
def network():
    """The tiny backbone in int8: two layers, average and maximum."""
    with tiny.registered():
        spec = FeatureSpec(
            backbone="tiny", weights="random", image_size=SIZE, layers=("relu1", "last"), pooling=("avg", "max")
        )
        return quantize_backbone(spec)


@pytest.fixture(scope="module")
def varied():
    """A network of many kinds of layers in int8."""
    with tiny.registered(VARIED):
        return quantize_backbone(FeatureSpec(backbone="varied", weights="random", image_size=SIZE))


def run_openvino(model, *inputs):
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(list(inputs))[0]


def run_onnx(model, **inputs):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_the_features_are_openvinos(network):
    model = convert_network(network)
    features = run_openvino(network, PIXELS)
    np.testing.assert_allclose(run_onnx(model, pixels=PIXELS)["features"], features, atol=0.02 * np.abs(features).max())


def test_layers_of_all_kinds(varied):
    features = run_openvino(varied, PIXELS)
    model = convert_network(varied)
    np.testing.assert_allclose(run_onnx(model, pixels=PIXELS)["features"], features, atol=0.05 * np.abs(features).max())


def test_weights_and_biases_are_integers(varied):
    model = convert_network(varied)
    dtypes = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    sources = {node.output[0]: node.input[0] for node in model.graph.node}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert {dtypes[sources[node.input[1]]] for node in convolutions} == {onnx.TensorProto.INT8}
    biases = [node.input[2] for node in convolutions if len(node.input) > 2]
    assert onnx.TensorProto.INT32 in {dtypes.get(sources.get(name)) for name in biases}


def test_onnx_runtime_computes_in_integers(varied, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that the file is for this machine
    onnxruntime.InferenceSession(convert_network(varied).SerializeToString(), options)
    types = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert {"QLinearConv", "QLinearAdd"} <= types


def test_some_columns(network):
    columns = np.array([7, 0, 3])
    whole = run_onnx(convert_network(network), pixels=PIXELS)["features"]
    some = run_onnx(convert_network(network, columns), pixels=PIXELS)["features"]
    np.testing.assert_array_equal(some, whole[:, columns])


VIEWS = [("original",), ("original", "hflip")]


@pytest.mark.parametrize("views", VIEWS, ids=len)
@pytest.mark.parametrize("num_images", [0, 1, 3])
def test_images_to_answers(network, views, num_images):
    images = RNG.integers(0, 256, (num_images, 10, 9, 3), dtype=np.uint8)
    presentation = build_views(FeatureSpec(image_size=SIZE), views, is_portable=True)
    head = keras.Sequential([keras.Input((22,)), layers.Dense(4)])
    combined = Combined(presentation, keras.Sequential(), head, tuple("abcd"))
    answers = run_onnx(join(combined, convert_network(network)), images=images)
    assert {name: (values.shape, values.dtype.name) for name, values in answers.items()} == {
        "class_index": ((num_images,), "int64"),
        "logits": ((num_images, 4), "float32"),
        "probabilities": ((num_images, 4), "float32"),
    }
    if num_images:
        features = run_openvino(network, np.asarray(presentation(images)))  # (v * n, d)
        mean = features.reshape(len(views), num_images, -1).mean(axis=0)
        expected = np.asarray(head(mean))
        np.testing.assert_allclose(answers["logits"], expected, atol=0.02 * np.abs(expected).max())


def constant(values, dtype=np.float32):
    return ops.constant(np.asarray(values, dtype))


def make_model(build):
    """Make a model of pixels, whose values are flattened to features."""
    pixels = ops.parameter([-1, 4, 5, 3], np.float32)
    features = ops.reshape(build(pixels), constant([0, -1], np.int64), special_zero=True)
    return openvino.Model([features], [pixels], "model")


def take_slice(pixels, begin, end, step, **masks):
    masks = {"begin_mask": [0] * len(begin), "end_mask": [0] * len(begin)} | masks
    return ops.strided_slice(pixels, *(constant(each, np.int64) for each in (begin, end, step)), **masks)


def fake_quantize(values, low, high, levels=256):
    ends = constant(low), constant(high)
    return ops.fake_quantize(values, *ends, *ends, levels)


INT8 = RNG.integers(-127, 128, (2, 3, 1, 4, 5), dtype=np.int8)


def multiply_by_int8(pixels):
    weights = ops.multiply(ops.convert(constant(INT8[0, :2, 0, 0, :3], np.int8), np.float32), constant([[0.1], [0.2]]))
    return ops.matmul(fake_quantize(pixels, 0, 255), weights, transpose_a=False, transpose_b=True)


BUILDS = {
    "slice": lambda p: take_slice(p, [0, 1, 0], [0, 4, 0], [1, 2, 1], begin_mask=[1, 0, 1], end_mask=[1, 0, 1]),
    "slice-backwards": lambda p: take_slice(
        p, [0, -1, 0], [0, 0, 0], [1, -1, 1], begin_mask=[1, 1, 1], end_mask=[1, 1, 1]
    ),
    "slice-last-channel": lambda p: take_slice(
        p, [0, -1], [0, 0], [1, 1], shrink_axis_mask=[0, 1], ellipsis_mask=[1, 0]
    ),
    "levels-by-channel": lambda p: fake_quantize(p, [[[[-3, -20, -100]]]], [[[[250, 200, 30]]]]),
    "levels-without-a-zero": lambda p: fake_quantize(p, 20.3, 199.1),
    "levels": lambda p: fake_quantize(p, 0, 200),
    "pad": lambda p: ops.pad(p, constant([0, 1, 0, 2], np.int64), constant([0, 0, 3, 0], np.int64), "constant"),
    "unsqueeze": lambda p: ops.unsqueeze(p, constant([1], np.int64)),
    "maximum": lambda p: ops.reduce_max(p, constant([1, 2], np.int64), keep_dims=False),
    "matrix": multiply_by_int8,
    "average-of-padding": lambda p: ops.avg_pool(p, [1, 1], [1, 1], [1, 1], [2, 2], exclude_pad=False),
    "average-without-padding": lambda p: ops.avg_pool(p, [2, 2], [1, 1], [1, 1], [3, 3], True, "ceil"),
    "bias-without-integers": lambda p: ops.add(
        ops.convolution(p, constant(RNG.normal(size=(6, 4, 2, 1))), [1, 1], [0, 0], [0, 0], [1, 1]),
        constant(RNG.normal(size=(1, 6, 1, 1))),
    ),
}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_operations(build):
    pixels = RNG.uniform(0, 255, (2, 4, 5, 3)).astype(np.float32)
    model = make_model(build)
    features = run_openvino(model, pixels)
    answers = run_onnx(convert_network(model), pixels=pixels)
    np.testing.assert_allclose(answers["features"], features, rtol=1e-4, atol=1e-3)


REFUSED = {
    "of the operation Sin, not of Add, AvgPool": ops.sin,
    "adds an axis": lambda p: take_slice(p, [0, 0], [0, 0], [1, 1], new_axis_mask=[1, 0]),
    "rounds to other levels than 256": lambda p: fake_quantize(p, 0, 200, levels=16),
    "pads with other values than 0": lambda p: ops.pad(p, *[constant([0, 1, 1, 0], np.int64)] * 2, "edge"),
    "multiplies by a computed matrix": lambda p: ops.matmul(p, p, transpose_a=False, transpose_b=True),
}


@pytest.mark.parametrize(("reason", "build"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_be_carried_is_refused(reason, build):
    with pytest.raises(ExportError, match=reason) as error:
        convert_network(make_model(build))
    assert "take --format openvino, or a format that carries the float32 network" in str(error.value)
