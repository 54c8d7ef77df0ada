"""Finding the layers whose quantisation costs accuracy, by NNCF's accuracy-aware mode."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfl.backbones import Backbone
from tfl.engine.quantizing import (
    choose_parameters,
    convert_network,
    import_packages,
    name_failures,
    split_batches,
)

MAX_STEPS = 5  # layers that are tried in float32, one after the other; each costs a measurement
RANKING_BATCHES = 4  # batches on which all layers are ranked before
MATCH = 1e-4  # largest difference between weights of norm 1 that are the same
WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")  # OpenVINO's operations that have weights


def find_layers_at_fault(
    backbone: Backbone,
    calibration: Sequence[np.ndarray],
    measured: Sequence[np.ndarray],
    measure: Callable[[np.ndarray], float],
    max_loss: float,
) -> list[str]:
    """Return the layers that NNCF had to leave in float32 to lose no more than `max_loss`.

    It tries up to `MAX_STEPS` of them, beginning with those that move the features most; a layer that
    is named has helped, and the loss may still be larger.

    Args:
      calibration: pixels as for `quantize`.
      measured: pixels of other images, float32 `(size, size, 3)` each.
      measure: features `(n, d)` of the images `measured` to their accuracy, 0 to 1.

    Raises:
      BackboneError: NNCF cannot take this network.
    """
    openvino, nncf = import_packages()
    batches = split_batches(calibration)
    options = {
        "subset_size": len(batches),
        "preset": nncf.QuantizationPreset.MIXED,
    }
    parameters = choose_parameters(nncf)
    with name_failures(backbone):
        model = convert_network(backbone, openvino)
        layer_names = _name_layers(model, backbone)
        quantized = nncf.quantize(model.clone(), nncf.Dataset(batches), advanced_parameters=parameters, **options)
        restored = nncf.quantize_with_accuracy_control(
            model.clone(),
            nncf.Dataset(batches),
            nncf.Dataset(split_batches(measured)),
            _build_validation(len(measured), measure),
            max_drop=max_loss,
            advanced_quantization_parameters=parameters,
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
                max_num_iterations=MAX_STEPS, ranking_subset_size=RANKING_BATCHES, num_ranking_workers=1
            ),
            **options,
        )
    reverted = _list_float_nodes(restored) - _list_float_nodes(quantized)
    return [layer for node, layer in layer_names.items() if node in reverted]


def _build_validation(
    num_images: int, measure: Callable[[np.ndarray], float]
) -> Callable[[Any, Iterable[np.ndarray]], tuple[float, list[list[np.ndarray]]]]:
    """Return NNCF's validation function: the accuracy, and the features of each batch to rank layers by."""

    def validate(compiled: Any, batches: Iterable[np.ndarray]) -> tuple[float, list[list[np.ndarray]]]:
        features = [compiled(batch)[0].copy() for batch in batches]  # each (BATCH_SIZE, d)
        rows = np.concatenate(features)[:num_images]
        accuracy = measure(rows) if len(rows) == num_images else 0.0  # NNCF asks for one batch at first
        return accuracy, [[each] for each in features]

    return validate


def _name_layers(model: Any, backbone: Backbone) -> dict[str, str]:
    """Return the Keras layer of each node that has weights, by the node's name, in the model's order.

    OpenVINO gives the nodes other names: a layer is known by its weights. A node whose weights are no
    layer's keeps its own name.
    """
    rows_of = {}
    for layer in backbone.unpooled._flatten_layers(include_self=False):
        is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        for weights in layer.weights:
            if len(weights.shape) > 1:
                rows_of[layer.name] = _sort_rows(_to_rows(ops.convert_to_numpy(weights), is_depthwise))
    named = {}
    for node in _list_weighted(model):
        source = _find_source(node.input_value(1).get_node())
        name = node.get_friendly_name()
        named[name] = _find_layer(source, node.get_type_name(), rows_of) if _is_constant(source) else ""
        named[name] = named[name] or name
    return named


def _to_rows(kernel: np.ndarray, is_depthwise: bool) -> np.ndarray:
    """Return a Keras kernel by output channel, `(channels, k)`."""
    num_channels = kernel.shape[-1] * (kernel.shape[-2] if is_depthwise else 1)
    return np.asarray(kernel.reshape(-1, num_channels).T)


def _find_layer(constant: Any, kind: str, rows_of: dict[str, np.ndarray]) -> str:
    """Return the layer whose kernel a constant is; empty if there is none."""
    weights = np.asarray(constant.data)
    num_channels = int(np.prod(weights.shape[: 2 if kind == "GroupConvolution" else 1]))
    candidates = [weights.reshape(num_channels, -1)]
    if kind == "MatMul":
        candidates.append(candidates[0].T)
    for candidate in map(_sort_rows, candidates):
        for layer, rows in rows_of.items():
            if rows.shape == candidate.shape and np.mean(np.abs(rows - candidate).max(axis=1) < MATCH) > 0.5:
                return layer
    return ""


def _sort_rows(rows: np.ndarray) -> np.ndarray:
    """Return what layouts and BatchNormalization's factors leave of each channel's weights, `(channels, k)`."""
    sizes = np.sort(np.abs(rows), axis=1)
    return np.asarray(sizes / np.maximum(np.linalg.norm(sizes, axis=1, keepdims=True), 1e-12))


def _list_weighted(model: Any) -> list[Any]:
    return [node for node in model.get_ordered_ops() if node.get_type_name() in WEIGHTED]


def _list_float_nodes(model: Any) -> set[str]:
    """Return the names of the nodes whose weights are not quantised."""
    found = set()
    for node in _list_weighted(model):
        if not _is_quantized(node.input_value(1).get_node()):
            found.add(node.get_friendly_name())
    return found


def _is_quantized(weights: Any) -> bool:
    """Whether a node's weights go through FakeQuantize, or are stored as integers."""
    source = _find_source(weights)
    if source.get_type_name() == "FakeQuantize":
        return True
    return _is_constant(source) and not source.get_element_type().is_real()


def _find_source(node: Any) -> Any:
    """Return the constant or the FakeQuantize that weights come from, past scaling and transposing."""
    while node.get_input_size() and node.get_type_name() != "FakeQuantize":
        largest = max(node.input_values(), key=lambda value: int(np.prod(value.get_shape())))  # not the scale
        node = largest.get_node()
    return node


def _is_constant(node: Any) -> bool:
    return bool(node.get_type_name() == "Constant")
