"""Numbers and parts of encoded images, read inside a TensorFlow graph."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def read_number(encoded: Any, start: Any, num_bytes: int, is_big: bool = False) -> Any:
    """Return the unsigned number, int64, that some bytes of a string hold; little-endian unless `is_big`.

    Raises:
      tf.errors.InvalidArgumentError: when the graph runs and the string ends before.
    """
    values = tf.cast(tf.io.decode_raw(tf.strings.substr(encoded, start, num_bytes), tf.uint8), tf.int64)
    powers = list(range(num_bytes))
    weights = [256**power for power in powers]
    if is_big:
        weights.reverse()
    return tf.reduce_sum(values * tf.constant(weights, tf.int64))


def cut_slice(encoded: Any, start: Any, length: Any) -> Any:
    """Return part of a string, or as much of it as there is, which may be nothing."""
    total = tf.strings.length(encoded)
    first = tf.clip_by_value(tf.cast(start, tf.int32), 0, total)
    return tf.strings.substr(encoded, first, tf.clip_by_value(tf.cast(length, tf.int32), 0, total - first))


def starts_with(encoded: Any, magic: bytes) -> Any:
    """Return whether a string begins with these bytes."""
    return tf.strings.substr(encoded, 0, len(magic)) == magic


def switch_on_start(encoded: Any, ways: dict[bytes, Callable[[], Any]], default: Callable[[], Any]) -> Any:
    """Call the way whose bytes a string begins with; a flat switch in the graph; `tf.case` would nest branches."""
    is_way = [starts_with(encoded, magic) for magic in ways]
    index = tf.argmax([*is_way, True], output_type=tf.int32)
    return tf.switch_case(index, [*ways.values(), default])


def contains(encoded: Any, part: bytes) -> Any:
    """Return whether a string holds these bytes anywhere."""
    return tf.size(tf.strings.split([encoded], part).values) > 1


def is_equal(values: Any, magic: bytes) -> Any:
    """Return whether bytes, uint8 `(..., m)`, are these; `(...)`."""
    return tf.reduce_all(values == tf.constant(list(magic), tf.uint8), axis=-1)
