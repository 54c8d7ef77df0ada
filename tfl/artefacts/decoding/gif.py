"""The first frame of a GIF, inside a TensorFlow graph, as Pillow shows it.

TensorFlow decodes every frame of an animation, makes them as large as the largest, and takes a transparent pixel for
black. So the file is cut down to its first frame, without the extension that says what is transparent.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from tfl.artefacts.decoding.encoded import number, slice_of

# Bytes that begin a block (an extension, a frame), and the label of the extension that names a transparent colour.
EXTENSION, FRAME, CONTROL = 0x21, 0x2C, 0xF9
HEADER_BYTES, DESCRIPTOR_BYTES = 13, 10
MOST_BLOCKS = 1024  # before the first frame
NO_COLOUR = -1
AT_TOP_LEFT = b",\0\0\0\0"  # how a frame's descriptor begins; TensorFlow would cut off what stands elsewhere


class FirstFrame(NamedTuple):
    """Where a GIF's first frame is.

    Attributes:
      start, stop: of its bytes, the descriptor's among them; `stop` is 0 where no whole frame was found.
      transparent: the index of the transparent colour, or NO_COLOUR.
    """

    start: Any
    stop: Any
    transparent: Any


def canvas_of(encoded: Any) -> Any:
    """Width and height, int64 `(2,)`: the screen, or as much more as the first frame takes."""
    return _canvas(encoded, _first_frame(encoded))


def _canvas(encoded: Any, frame: FirstFrame) -> Any:
    screen = tf.stack([number(encoded, 6, 2), number(encoded, 8, 2)])
    left, top, width, height = _extent(encoded, frame)
    return tf.where(frame.stop > 0, tf.maximum(screen, tf.stack([left + width, top + height])), 0)


def decode(encoded: Any) -> Any:
    """Uint8 `(h, w, 3)` of the first frame on its canvas.

    Raises:
      tf.errors.InvalidArgumentError: when it runs, if there is no whole frame.
    """
    frame = _first_frame(encoded)
    with tf.control_dependencies([tf.debugging.Assert(frame.stop > 0, ["a GIF with a whole frame was expected"])]):
        header = tf.strings.substr(encoded, 0, HEADER_BYTES + _table_bytes(encoded, 10))
    rest = frame.start + len(AT_TOP_LEFT)
    cut = tf.strings.join([header, AT_TOP_LEFT, slice_of(encoded, rest, frame.stop - rest), b";"])
    pixels = tf.io.decode_gif(cut)[0]
    left, top, width, height = _extent(encoded, frame)
    across, down = tf.unstack(_canvas(encoded, frame))
    is_all = (across == width) & (down == height)
    around = [[top, down - top - height], [left, across - left - width]]

    def placed() -> Any:
        colour = _background(encoded, frame)
        return tf.stack([tf.pad(pixels[..., i], around, constant_values=colour[i]) for i in range(3)], axis=-1)

    return tf.cond(is_all, lambda: pixels, placed)


def _extent(encoded: Any, frame: FirstFrame) -> list[Any]:
    """Left, top, width and height of a frame."""
    return [number(encoded, frame.start + offset, 2) for offset in (1, 3, 5, 7)]


def _table_bytes(encoded: Any, place: Any) -> Any:
    """How many bytes of colours follow, as the flags in this place say."""
    flags = tf.cast(number(encoded, place, 1), tf.int32)
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7)), 0)


def _background(encoded: Any, frame: FirstFrame) -> Any:
    """The colour around a small frame, uint8 `(3,)`: the transparent one of its palette, or the first."""
    own_place = frame.start + DESCRIPTOR_BYTES - 1
    has_own = _table_bytes(encoded, own_place) > 0
    start = tf.where(has_own, frame.start + DESCRIPTOR_BYTES, HEADER_BYTES)
    colour = slice_of(encoded, start + 3 * tf.maximum(frame.transparent, 0), 3)
    return tf.io.decode_raw(tf.strings.substr(tf.strings.join([colour, b"\0\0\0"]), 0, 3), tf.uint8)


def _first_frame(encoded: Any) -> FirstFrame:
    """Go from block to block up to the first frame."""
    size = tf.strings.length(encoded)
    padded = tf.strings.join([encoded, b"\0" * DESCRIPTOR_BYTES])
    values = tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.int32)
    ends = _ends_of_parts(values[:size], size)
    lost = size + 1

    def value(place: Any) -> Any:
        return values[tf.minimum(place, size)]

    def end(place: Any) -> Any:
        """Behind the parts that begin in a place."""
        return tf.where(ends[tf.minimum(place, size)] < size, ends[tf.minimum(place, size)] + 1, lost)

    def is_before(step: Any, place: Any, transparent: Any) -> Any:
        return (step < MOST_BLOCKS) & (value(place) == EXTENSION)

    def move(step: Any, place: Any, transparent: Any) -> tuple[Any, ...]:
        has_colour = (value(place + 1) == CONTROL) & (value(place + 3) % 2 == 1)
        return step + 1, end(place + 2), tf.where(has_colour, value(place + 6), transparent)

    first = HEADER_BYTES + _table_bytes(encoded, 10)
    _, start, transparent = tf.while_loop(is_before, move, (tf.constant(0), first, tf.constant(NO_COLOUR)))
    is_frame = (start < size) & (value(start) == FRAME)
    own_place = start + DESCRIPTOR_BYTES - 1
    own = tf.cond(is_frame, lambda: _table_bytes(padded, own_place), lambda: 0)
    stop = end(start + DESCRIPTOR_BYTES + own + 1)
    is_whole = is_frame & (stop <= size)
    return FirstFrame(start, tf.where(is_whole, stop, 0), transparent)


def _ends_of_parts(values: Any, size: Any) -> Any:
    """Where the parts that would begin in each place end, int32 `(size + 1,)`: at an empty part, or at `size`.

    A part is a length and as many bytes. Each round looks twice as many parts ahead, in all places at once.
    """
    places = tf.range(size + 1)
    lengths = tf.concat([values, [0]], axis=0)
    ahead = tf.where(lengths > 0, tf.minimum(places + 1 + lengths, size), places)

    def goes_on(ahead: Any, has_moved: Any) -> Any:
        return has_moved

    def double(ahead: Any, has_moved: Any) -> tuple[Any, Any]:
        further = tf.gather(ahead, ahead)
        return further, tf.reduce_any(further != ahead)

    return tf.while_loop(goes_on, double, (ahead, tf.constant(value=True)))[0]
