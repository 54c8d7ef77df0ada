"""Quantising a backbone's network to int8, by NNCF."""

import contextlib
import importlib.metadata
import io
import logging
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree  # of a graph that OpenVINO has written just now

import numpy as np

from tfl.backbones import Backbone
from tfl.backbones.quantized import GRAPH, WEIGHTS
from tfl.engine.openvino import hide_telemetry
from tfl.engine.tensorflow import trace_with_constants
from tfl.errors import BackboneError
from tfl.files.scratch import scratch_folder, temporary_folder
from tfl.machine import packages

PACKAGES = ("openvino", "nncf")
BATCH_SIZE = 8  # images that NNCF measures at once: it keeps all of their activations


def quantize(backbone: Backbone, pixels: Sequence[np.ndarray]) -> tuple[bytes, bytes]:
    """Quantise a backbone's network: weights and activations of its convolutions and products to int8.

    Biases are not corrected: the head is trained on the features as they are, and correcting takes
    half of the time (`docs/results/calibration.json`). Weights keep to 7 bits, so that the sums of
    processors without VNNI do not overflow: every processor computes the same network.

    Args:
      pixels: what the calibration images are resized to, float32 `(size, size, 3)` each.

    Returns:
      OpenVINO's IR: the graph, for batches of any size, and its weights.

    Raises:
      ExtraError: NNCF is not installed.
      BackboneError: NNCF or OpenVINO cannot take this network.
    """
    openvino, nncf = _import_packages()
    size = backbone.spec.image_size
    model = openvino.convert_model(trace_with_constants(backbone.network, (None, size, size, 3)))
    model.reshape([BATCH_SIZE, size, size, 3])
    batches = _split(pixels)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # NNCF draws a progress bar there
            quantized = nncf.quantize(
                model,
                nncf.Dataset(batches),
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(batches),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    disable_bias_correction=True,
                    overflow_fix=nncf.OverflowFix.ENABLE,
                ),
            )
        quantized.reshape([-1, size, size, 3])
        _number_nodes(quantized)
    except Exception as error:  # NNCF and OpenVINO raise many kinds
        raise BackboneError(
            f"{backbone.spec.backbone} cannot be quantised: {str(error).splitlines()[0]}; take --compute-dtype "
            "bfloat16 or float32"
        ) from error
    return _to_bytes(quantized, openvino)


def list_versions() -> dict[str, str]:
    """Return the versions of the libraries that quantise."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _import_packages() -> tuple[Any, Any]:
    with hide_telemetry():
        openvino = packages.require_package("openvino", "int8")
        nncf = packages.require_package("nncf", "int8")
    nncf.set_log_level(logging.ERROR)
    return openvino, nncf


def _split(pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return full batches; the last one is filled up with images from the beginning."""
    missing = -len(pixels) % BATCH_SIZE
    filled = [*pixels, *(pixels[index % len(pixels)] for index in range(missing))]
    return [np.stack(filled[start : start + BATCH_SIZE]) for start in range(0, len(filled), BATCH_SIZE)]


def _number_nodes(model: Any) -> None:
    """Name nodes and tensors by their order: OpenVINO numbers some by a counter of the process."""
    for index, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{index}")
        for output in node.outputs():
            output.get_tensor().set_names(set())


def _remove_notes(graph: bytes) -> bytes:
    """Remove the notes beside each node of a graph, in which names as they were are kept."""
    root = ElementTree.fromstring(graph)
    for layer in root.iter("layer"):
        for notes in layer.findall("rt_info"):
            layer.remove(notes)
    return ElementTree.tostring(root)


def _to_bytes(model: Any, openvino: Any) -> tuple[bytes, bytes]:
    with scratch_folder(temporary_folder()) as folder:
        graph, weights = folder / GRAPH, folder / WEIGHTS
        openvino.serialize(model, graph, weights)
        return _remove_notes(graph.read_bytes()), weights.read_bytes()
