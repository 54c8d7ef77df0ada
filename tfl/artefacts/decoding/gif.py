"""The first frame of a GIF, decoded inside a TensorFlow graph as Pillow decodes it.

TensorFlow decodes every frame of an animation, pads all to the largest, and turns transparent
pixels black. So the file is cut down to its first frame, without the extension that names the
transparent colour.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from tfl.artefacts.decoding.encoded import cut_slice, read_number

# First bytes of a block (an extension or a frame), and the label of the extension that names a
# transparent colour.
EXTENSION, FRAME, CONTROL = 0x21, 0x2C, 0xF9
HEADER_BYTES, DESCRIPTOR_BYTES = 13, 10
MOST_BLOCKS = 1024  # before the first frame
NO_COLOUR = -1
AT_TOP_LEFT = b",\0\0\0\0"  # start of a frame's descriptor; TensorFlow cuts off what lies elsewhere


class FirstFrame(NamedTuple):
    """Position of a GIF's first frame.

    Attributes:
      start, stop: of its bytes, from the descriptor on; `stop` is 0 if there is no whole frame.
      transparent: the index of the transparent colour, or NO_COLOUR.
    """

    start: Any
    stop: Any
    transparent: Any


def read_canvas(encoded: Any) -> Any:
    """Return width and height, int64 `(2,)`: those of the screen, or of the first frame if it reaches further."""
    return _compute_canvas(encoded, _find_first_frame(encoded))


def _compute_canvas(encoded: Any, frame: FirstFrame) -> Any:
    screen = tf.stack([read_number(encoded, 6, 2), read_number(encoded, 8, 2)])
    left, top, width, height = _read_extent(encoded, frame)
    return tf.where(frame.stop > 0, tf.maximum(screen, tf.stack([left + width, top + height])), 0)


def decode(encoded: Any) -> Any:
    """Return the first frame on its canvas, uint8 `(h, w, 3)`.

    Raises:
      tf.errors.InvalidArgumentError: when the graph runs and there is no whole frame.
    """
    frame = _find_first_frame(encoded)
    with tf.control_dependencies([tf.debugging.Assert(frame.stop > 0, ["a GIF with a whole frame was expected"])]):
        header = tf.strings.substr(encoded, 0, HEADER_BYTES + _count_palette_bytes(encoded, 10))
    rest = frame.start + len(AT_TOP_LEFT)
    cut = tf.strings.join([header, AT_TOP_LEFT, cut_slice(encoded, rest, frame.stop - rest), b";"])
    pixels = tf.io.decode_gif(cut)[0]
    left, top, width, height = _read_extent(encoded, frame)
    across, down = tf.unstack(_compute_canvas(encoded, frame))
    is_all = (across == width) & (down == height)
    around = [[top, down - top - height], [left, across - left - width]]

    def placed() -> Any:
        colour = _read_background(encoded, frame)
        return tf.stack([tf.pad(pixels[..., i], around, constant_values=colour[i]) for i in range(3)], axis=-1)

    return tf.cond(is_all, lambda: pixels, placed)


def _read_extent(encoded: Any, frame: FirstFrame) -> list[Any]:
    """Return left, top, width and height of a frame."""
    return [read_number(encoded, frame.start + offset, 2) for offset in (1, 3, 5, 7)]


def _count_palette_bytes(encoded: Any, place: Any) -> Any:
    """Return the number of bytes of the palette that the flags at `place` announce."""
    flags = tf.cast(read_number(encoded, place, 1), tf.int32)
    return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7)), 0)


def _read_background(encoded: Any, frame: FirstFrame) -> Any:
    """Return the colour around a small frame, uint8 `(3,)`: the transparent one of its palette, or the first."""
    own_place = frame.start + DESCRIPTOR_BYTES - 1
    has_own = _count_palette_bytes(encoded, own_place) > 0
    start = tf.where(has_own, frame.start + DESCRIPTOR_BYTES, HEADER_BYTES)
    colour = cut_slice(encoded, start + 3 * tf.maximum(frame.transparent, 0), 3)
    return tf.io.decode_raw(tf.strings.substr(tf.strings.join([colour, b"\0\0\0"]), 0, 3), tf.uint8)


def _find_first_frame(encoded: Any) -> FirstFrame:
    """Follow the blocks up to the first frame."""
    size = tf.strings.length(encoded)
    padded = tf.strings.join([encoded, b"\0" * DESCRIPTOR_BYTES])
    values = tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.int32)
    ends = _find_part_ends(values[:size], size)
    lost = size + 1

    def value(place: Any) -> Any:
        return values[tf.minimum(place, size)]

    def end(place: Any) -> Any:
        """Return the position after the parts that begin at `place`."""
        return tf.where(ends[tf.minimum(place, size)] < size, ends[tf.minimum(place, size)] + 1, lost)

    def is_before(step: Any, place: Any, transparent: Any) -> Any:
        return (step < MOST_BLOCKS) & (value(place) == EXTENSION)

    def move(step: Any, place: Any, transparent: Any) -> tuple[Any, ...]:
        has_colour = (value(place + 1) == CONTROL) & (value(place + 3) % 2 == 1)
        return step + 1, end(place + 2), tf.where(has_colour, value(place + 6), transparent)

    first = HEADER_BYTES + _count_palette_bytes(encoded, 10)
    _, start, transparent = tf.while_loop(is_before, move, (tf.constant(0), first, tf.constant(NO_COLOUR)))
    is_frame = (start < size) & (value(start) == FRAME)
    own_place = start + DESCRIPTOR_BYTES - 1
    own = tf.cond(is_frame, lambda: _count_palette_bytes(padded, own_place), lambda: 0)
    stop = end(start + DESCRIPTOR_BYTES + own + 1)
    is_whole = is_frame & (stop <= size)
    return FirstFrame(start, tf.where(is_whole, stop, 0), transparent)


def _find_part_ends(values: Any, size: Any) -> Any:
    """Return, for every position, where parts that begin there would end, int32 `(size + 1,)`.

    A part is a length and as many bytes; parts end at an empty one, or at `size`. Each round looks
    twice as many parts ahead, from all positions at once.
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
