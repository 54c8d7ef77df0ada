"""Numbers and places in encoded images, inside a TensorFlow graph."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def number(encoded: Any, start: Any, num_bytes: int, is_big: bool = False) -> Any:
    """The unsigned number, int64, of so many bytes of a string; little-endian unless it `is_big`.

    Raises:
      tf.errors.InvalidArgumentError: when it runs, if the string ends before.
    """
    values = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, start, num_bytes), tf.uint8), tf.int64)
    powers = range(num_bytes)
    weights = [256**power for power in (reversed(powers) if is_big else powers)]
    return tf.reduce_sum(values * tf.constant(weights, tf.int64))


def slice_of(encoded: Any, start: Any, length: Any) -> Any:
    """As much of a stretch of a string as there is, which may be nothing."""
    total = tf.strings.length(encoded)
    first = tf.clip_by_value(tf.cast(start, tf.int32), 0, total)
    return tf.strings.substr(encoded, first, tf.clip_by_value(tf.cast(length, tf.int32), 0, total - first))


def begins(encoded: Any, magic: bytes) -> Any:
    """Whether a string begins with these bytes."""
    return tf.strings.substr(encoded, 0, len(magic)) == magic


def by_beginning(encoded: Any, ways: dict[bytes, Callable[[], Any]], default: Callable[[], Any]) -> Any:
    """What the way gives whose bytes a string begins with; one branch in the graph, where `tf.case` nests them."""
    is_way = [begins(encoded, magic) for magic in ways]
    index = tf.argmax([*is_way, True], output_type=tf.int32)
    return tf.switch_case(index, [*ways.values(), default])


def contains(encoded: Any, part: bytes) -> Any:
    """Whether these bytes stand anywhere in a string."""
    return tf.size(tf.strings.split([encoded], part).values) > 1
