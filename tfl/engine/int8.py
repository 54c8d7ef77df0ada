"""Running a quantised network in OpenVINO, on a processor."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tfl.backbones import Backbone
from tfl.backbones.presentation import build_matrices, has_matrices
from tfl.engine.kept_models import Facts
from tfl.engine.openvino import compile_graph, hide_telemetry
from tfl.engine.record import Compiled
from tfl.errors import BackboneError
from tfl.machine import packages
from tfl.specs import View

CompiledViews = Callable[[np.ndarray, View], np.ndarray]
"""uint8 images `(n, h, w, 3)` and a view to features `(n, d)`."""


def compile_pixels(backbone: Backbone, batch_size: int = -1, facts: Facts | None = None) -> Compiled:
    """Compile the forward pass from pixels, float32 `(batch_size, size, size, 3)`, to features `(batch_size, d)`.

    Args:
      batch_size: -1 for batches of any size, which take longer.
      facts: that decide the network and the engine; the compiled one is kept under them, if any.
    """
    size = backbone.spec.image_size

    def make_graph() -> Any:
        network = read_quantized(backbone)
        network.reshape([batch_size, size, size, 3])
        return network

    run = compile_graph(make_graph, "float32", facts)
    columns = backbone.quantized_columns
    return run if columns is None else lambda pixels: run(pixels)[:, columns]


def can_compile_images(backbone: Backbone, image_shape: tuple[int, int] | None) -> bool:
    """Whether `compile_images` serves: all images have one size, no larger than the network's own.

    Resizing by matrices takes longer than Keras' for large images.
    """
    if backbone.quantized is None or image_shape is None or not has_matrices(backbone.spec):
        return False
    return max(image_shape) <= backbone.spec.image_size


def compile_images(
    backbone: Backbone, batch_size: int, image_shape: tuple[int, int], facts: Facts | None = None
) -> CompiledViews:
    """Compile resizing and the forward pass as one graph, for images of one size.

    A view is a pair of matrices, which the graph takes as inputs: it is compiled once for all
    views. Its pixels never leave the processor's caches for the main memory and come back.

    Args:
      facts: that decide the network and the engine; the compiled graph is kept under them, if any.
    """
    openvino = _import_openvino()

    def make_graph() -> Any:
        network = read_quantized(backbone)
        return _put_resizing_before(network, batch_size, image_shape, backbone.spec.image_size, openvino)

    facts = {**facts, "image_shape": image_shape} if facts else None
    run = compile_graph(make_graph, "float32", facts)
    columns = backbone.quantized_columns
    matrices: dict[View, tuple[np.ndarray, np.ndarray]] = {}

    def compute(images: np.ndarray, view: View) -> np.ndarray:
        if view not in matrices:
            matrices[view] = build_matrices(backbone.spec, view, *image_shape)
        features: np.ndarray = run([images, *matrices[view]])
        return features if columns is None else features[:, columns]

    return compute


def _put_resizing_before(network: Any, batch_size: int, image_shape: tuple[int, int], size: int, openvino: Any) -> Any:
    """Return a graph of three inputs: images, and the two matrices of a view."""
    from openvino import opset13 as ops

    height, width = image_shape
    images = ops.parameter([batch_size, height, width, 3], np.uint8, name="images")
    down = ops.parameter([size, height], np.float32, name="down")
    across = ops.parameter([width, size], np.float32, name="across")
    channels = ops.transpose(ops.convert(images, np.float32), np.array([0, 3, 1, 2]))  # (n, 3, h, w)
    rows = ops.matmul(down, channels, transpose_a=False, transpose_b=False)  # (n, 3, size, w)
    resized = ops.matmul(rows, across, transpose_a=False, transpose_b=False)  # (n, 3, size, size)
    pixels = ops.transpose(resized, np.array([0, 2, 3, 1]))  # (n, size, size, 3)
    network.reshape([batch_size, size, size, 3])
    for user in list(network.inputs[0].get_target_inputs()):
        user.replace_source_output(pixels.output(0))
    return openvino.Model(network.get_results(), [images, down, across], "images_to_features")


def _import_openvino() -> Any:
    with hide_telemetry():
        return packages.require_package("openvino", "openvino")


def read_quantized(backbone: Backbone) -> Any:
    """Return a backbone's quantised network as OpenVINO's model, pixels `(n, size, size, 3)` to all of its columns.

    Raises:
      BackboneError: OpenVINO cannot read it.
    """
    openvino = _import_openvino()
    assert backbone.quantized is not None
    graph, weights = backbone.quantized.read_graph()
    try:
        return openvino.Core().read_model(graph, weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise BackboneError(
            f"OpenVINO cannot read the quantised network {backbone.quantized.path}: {reason}"
        ) from error


def read_columns(backbone: Backbone) -> Any:
    """Return the quantised network as OpenVINO's model, pixels `(n, size, size, 3)` to exactly the spec's features."""
    openvino = _import_openvino()
    network = read_quantized(backbone)
    columns = backbone.quantized_columns
    if columns is None:
        return network
    from openvino import opset13 as ops

    (features,) = (result.input_value(0) for result in network.get_results())
    chosen = ops.gather(features, np.asarray(columns, np.int64), np.int64(1))  # (n, d)
    return openvino.Model([ops.result(chosen)], network.get_parameters(), "pixels_to_features")


def join_graphs(front: Any, network: Any, back: Any) -> Any:
    """Return one graph of three in a row.

    Args:
      front: `images` to pixels.
      network: pixels to features.
      back: features and `images` to the answers.
    """
    openvino = _import_openvino()
    _connect(front.output(0), network.input(0))
    _connect(network.output(0), back.input("features"))
    images = front.get_parameters()[0]
    for user in list(back.input("images").get_target_inputs()):
        user.replace_source_output(images.output(0))
    return openvino.Model(back.get_results(), [images], "images_to_answers")


def _connect(source: Any, target: Any) -> None:
    """Feed what a graph puts out into what another takes."""
    value = source.get_node().input_value(0)
    for user in list(target.get_target_inputs()):
        user.replace_source_output(value)
