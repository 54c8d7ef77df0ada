"""Convolutions and matrix products under JAX in bfloat16, int8 and float8: what XLA gives on this machine."""

import functools
from collections.abc import Callable
from typing import Any

from measure import attempt, measure_in_turns, seconds_of

CALLS = 20  # begun before the last is waited for


def probe(is_small: bool, repeats: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the tera-operations/s of each operation and arithmetic by turn, and why others failed.

    A multiplication and an addition are two operations.

    Args:
      is_small: sizes for a processor.
    """
    failed: dict[str, str] = {}
    makers = {f"{kind}, {dtype}": (make, dtype) for kind, make in KINDS.items() for dtype in ARITHMETICS}
    measures: dict[str, Callable[[], float]] = {}
    for name, (make, dtype) in makers.items():
        measure = attempt(name, functools.partial(_prepared, make, dtype, is_small), failed)
        if measure is not None:
            measures[name] = measure
    return measure_in_turns(measures, repeats, failed), failed


# What is multiplied, and what sums are kept in.
ARITHMETICS = {
    "bfloat16": ("bfloat16", "bfloat16"),
    "int8": ("int8", "int32"),
    "float8_e4m3fn": ("float8_e4m3fn", "bfloat16"),
}


def _prepared(make: Callable[[str, bool], tuple[Any, tuple[Any, ...], float]], dtype: str, is_small: bool) -> Any:
    """Compile an operation, run it once, and return what measures it."""
    function, operands, operations = make(dtype, is_small)
    function(*operands).block_until_ready()

    def measure() -> float:
        seconds = seconds_of(lambda: _call_often(function, operands))
        return CALLS * operations / seconds / 1e12

    return measure


def _call_often(function: Any, operands: tuple[Any, ...]) -> None:
    for _ in range(CALLS):
        last = function(*operands)
    last.block_until_ready()


def _convolution(dtype: str, is_small: bool) -> tuple[Any, tuple[Any, ...], float]:
    """Make a 3x3 convolution of ResNet50's third stage: 28 x 28 pixels, 128 channels."""
    import jax

    operand, result = ARITHMETICS[dtype]
    num_images, side, channels = (1, 14, 64) if is_small else (256, 28, 128)
    images = _numbers((num_images, side, side, channels), operand)
    kernel = _numbers((3, 3, channels, channels), operand)
    convolve = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=result,
    )
    operations = 2.0 * num_images * side**2 * 9 * channels**2
    return jax.jit(convolve), (images, kernel), operations


def _matrix_product(dtype: str, is_small: bool) -> tuple[Any, tuple[Any, ...], float]:
    """Make a product of square matrices; the second is transposed, as tensor cores take float8."""
    import jax

    operand, result = ARITHMETICS[dtype]
    size = 256 if is_small else 8192
    first, second = _numbers((size, size), operand), _numbers((size, size), operand)
    dimensions = (((1,), (1,)), ((), ()))
    multiply = functools.partial(jax.lax.dot_general, dimension_numbers=dimensions, preferred_element_type=result)
    return jax.jit(multiply), (first, second), 2.0 * size**3


def _numbers(shape: tuple[int, ...], dtype: str) -> Any:
    """Make a tensor of small whole numbers, which every arithmetic holds exactly."""
    import jax

    whole = jax.random.randint(jax.random.key(0), shape, -2, 3)
    return whole.astype(dtype)


KINDS = {"3x3 convolution": _convolution, "matrix product": _matrix_product}
