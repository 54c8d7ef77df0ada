"""Rounding to levels, in ONNX: QuantizeLinear and DequantizeLinear."""

from typing import Any

import numpy as np

from tfl.artefacts.formats.onnx_int8.translation import Levels, Translation, Translator, refuse, squeeze

NUM_LEVELS = 256  # of a rounded activation
OFF_GRID = 1e-2  # levels: how far 0 may be from the nearest of them


def translate_fake_quantize(node: Any, into: Translation) -> str:
    """Round to the nearest of 256 levels."""
    source, *ends = node.input_values()
    low, high, *out = (into.read(end).astype(np.float64) for end in ends)
    if node.get_attributes()["levels"] != NUM_LEVELS or not np.array_equal([low, high], out):
        raise refuse(f"{node.get_friendly_name()} rounds to other levels than {NUM_LEVELS} of those that it takes")
    scale = (high - low) / (NUM_LEVELS - 1)
    zero = np.rint(-low / scale)
    name = into.use(source)
    has_zero = np.abs(zero + low / scale) < OFF_GRID  # else no level is 0
    if low.size == 1 and has_zero and 0 <= zero < NUM_LEVELS:
        return _round(name, Levels(squeeze(scale), squeeze(zero)), into)
    return _round_scaled(name, low, scale, into)


def _round(name: str, levels: Levels, into: Translation) -> str:
    ends = into.store(levels.scale, np.float32), into.store(levels.zero, np.uint8)
    rounded = into.add("DequantizeLinear", into.add("QuantizeLinear", name, *ends), *ends)
    into.levels[rounded] = levels
    return rounded


def _round_scaled(name: str, low: np.ndarray, scale: np.ndarray, into: Translation) -> str:
    """Round to levels that differ by channel, or none of which is 0: whole numbers between two products.

    ONNX Runtime (1.32) takes a QuantizeLinear of several scales for one that its convolutions in
    integers can compute with, and then refuses to. As it is here it computes them in float32.
    """
    shifted = into.add("Sub", name, into.store(low, np.float32))
    scaled = into.add("Mul", shifted, into.store(1 / scale, np.float32))
    ends = into.store(1, np.float32), into.store(0, np.uint8)
    whole = into.add("DequantizeLinear", into.add("QuantizeLinear", scaled, *ends), *ends)
    return into.add("Add", into.add("Mul", whole, into.store(scale, np.float32)), into.store(low, np.float32))


def keep_levels(translator: Translator) -> Translator:
    """Round again what is on its levels already: ONNX Runtime looks for that right before a convolution."""

    def translate(node: Any, into: Translation) -> str | None:
        name = translator(node, into)
        levels = into.levels.get(into.use(node.input_value(0)))
        return name if name is None or levels is None else _round(name, levels, into)

    return translate
