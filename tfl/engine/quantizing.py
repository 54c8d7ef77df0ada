"""Quantising a backbone's network to int8, by NNCF."""

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
from collections.abc import Iterator, Sequence
from typing import Any
from xml.etree import ElementTree  # of a graph that OpenVINO has written just now

import numpy as np

from tfl.backbones import Backbone
from tfl.backbones.quantized import GRAPH, WEIGHTS
from tfl.engine.openvino import hide_telemetry, keep_first_output
from tfl.engine.tensorflow import trace_with_constants
from tfl.errors import BackboneError
from tfl.files.scratch import scratch_folder, temporary_folder
from tfl.machine import packages

PACKAGES = ("openvino", "nncf")
NUM_IMAGES = 64  # to measure the ranges of activations on; more give no better head (docs/results/calibration.json)
BATCH_SIZE = 8  # images that NNCF measures at once: it keeps all of their activations


def quantize(backbone: Backbone, pixels: Sequence[np.ndarray]) -> tuple[bytes, bytes]:
    """Quantise a backbone's network: weights and activations of its convolutions and products to int8.

    Biases are not corrected: the head is trained on the features as they are, and correcting takes
    half of the time. Weights have 8 bits, which leave features nearer to float32's than 7
    (`docs/results/calibration.json` for both). Sums of their products can overflow on processors
    without any of `INT8_INSTRUCTIONS`, where nothing is computed in int8 unless the user insists.

    Args:
      pixels: what the calibration images are resized to, float32 `(size, size, 3)` each.

    Returns:
      OpenVINO's IR: the graph, for batches of any size, and its weights.

    Raises:
      ExtraError: NNCF is not installed.
      BackboneError: NNCF or OpenVINO cannot take this network.
    """
    openvino, nncf = import_packages()
    size = backbone.spec.image_size
    batches = split_batches(pixels)
    with name_failures(backbone):
        quantized = nncf.quantize(
            convert_network(backbone, openvino),
            nncf.Dataset(batches),
            subset_size=len(batches),
            preset=nncf.QuantizationPreset.MIXED,
            advanced_parameters=choose_parameters(nncf),
        )
        quantized.reshape([-1, size, size, 3])
        _number_nodes(quantized)
    return _to_bytes(quantized, openvino)


def convert_network(backbone: Backbone, openvino: Any) -> Any:
    """Return the float32 network as OpenVINO's model, for batches of `BATCH_SIZE`."""
    size = backbone.spec.image_size
    function = trace_with_constants(backbone.network, (None, size, size, 3))
    model = keep_first_output(openvino.convert_model(function), openvino)
    model.reshape([BATCH_SIZE, size, size, 3])
    return model


def choose_parameters(nncf: Any) -> Any:
    """Return how `quantize` differs from NNCF's own way."""
    return nncf.AdvancedQuantizationParameters(
        disable_bias_correction=True,
        overflow_fix=nncf.OverflowFix.DISABLE,
    )


@contextlib.contextmanager
def name_failures(backbone: Backbone) -> Iterator[None]:
    """Raise a BackboneError for whatever NNCF raises inside; keep its progress bar from stdout."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except Exception as error:  # NNCF and OpenVINO raise many kinds
        lines = str(error).splitlines() or [type(error).__name__]
        raise BackboneError(
            f"{backbone.spec.backbone} cannot be quantised: {lines[0]}; take --compute-dtype bfloat16 or float32"
        ) from error


def find_obstacle() -> str:
    """Return the reason why no network can be quantised here; empty if one can."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    return (
        f"{' and '.join(missing)} must be installed to quantise the network; pip install '.[int8]'" if missing else ""
    )


def list_versions() -> dict[str, str]:
    """Return the versions of the libraries that quantise."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def import_packages() -> tuple[Any, Any]:
    """Import OpenVINO and NNCF.

    Raises:
      ExtraError: one of them is not installed.
    """
    with hide_telemetry():
        openvino = packages.require_package("openvino", "int8")
        nncf = packages.require_package("nncf", "int8")
    # It logs to stdout. `nncf.set_log_level` would change handlers that others put there too.
    logging.getLogger("nncf").setLevel(logging.CRITICAL + 1)
    return openvino, nncf


def split_batches(pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
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
