"""OpenVINO's operations in ONNX: those that occur in the quantised networks of keras.applications."""

from typing import Any

from tfl.artefacts.formats.onnx_int8 import pooling, rounding, shapes, sums
from tfl.artefacts.formats.onnx_int8.translation import Translation, Translator, key_of, refuse, to_same


def translate(node: Any, into: Translation) -> None:
    """Translate one node, whose inputs have been.

    Raises:
      ExportError: there is no such operation in `TRANSLATORS`, or it does what its translator
        cannot.
    """
    kind = node.get_type_name()
    if kind not in TRANSLATORS:
        raise refuse(f"{node.get_friendly_name()} is of the operation {kind}, not of {', '.join(sorted(TRANSLATORS))}")
    name = TRANSLATORS[kind](node, into)
    if name is not None:
        into.names[key_of(node.output(0))] = name


TRANSLATORS: dict[str, Translator] = {
    "Add": sums.translate_add,
    "AvgPool": pooling.translate_average_pool,
    "Clamp": pooling.translate_clamp,
    "Concat": shapes.translate_concat,
    "Constant": sums.translate_constant,
    "Convert": sums.translate_convert,
    "Convolution": sums.translate_convolution,
    "Erf": to_same("Erf"),
    "FakeQuantize": rounding.translate_fake_quantize,
    "GroupConvolution": sums.translate_group_convolution,
    "HSigmoid": to_same("HardSigmoid", alpha=1 / 6, beta=0.5),
    "HSwish": to_same("HardSwish"),
    "MatMul": sums.translate_matmul,
    "MaxPool": rounding.keep_levels(pooling.translate_max_pool),
    "Multiply": sums.translate_multiply,
    "Pad": rounding.keep_levels(shapes.translate_pad),
    "Power": to_same("Pow"),
    "ReduceMax": pooling.to_reduction("ReduceMax"),
    "ReduceMean": pooling.to_reduction("ReduceMean"),
    "Relu": to_same("Relu"),
    "Reshape": rounding.keep_levels(shapes.translate_reshape),
    "Sigmoid": to_same("Sigmoid"),
    "SquaredDifference": pooling.translate_squared_difference,
    "StridedSlice": shapes.translate_strided_slice,
    "Subtract": to_same("Sub"),
    "Swish": pooling.translate_swish,
    "Transpose": rounding.keep_levels(shapes.translate_transpose),
    "Unsqueeze": shapes.to_same_with_integers("Unsqueeze"),
}
"""By the name of OpenVINO's operation."""
