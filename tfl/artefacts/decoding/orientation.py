"""The orientation that a camera wrote into an encoded image, read and applied inside a TensorFlow graph.

As Pillow's `ImageOps.exif_transpose` does it: by the tag of the Exif data's first directory, or where that has none by
`tiff:Orientation` in XMP. Exif data that is absent, damaged or cut short turns nothing. Whatever place a file
names, nothing beyond its end is read.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from tfl.artefacts.decoding.encoded import begins, by_beginning, contains, number, slice_of
from tfl.artefacts.decoding.headers import JPEG, PNG, RIFF

ORIENTATION = 0x0112  # the tag
UPRIGHT, ABSENT = 1, -1
# Of each type that a tag can have, TIFF 6.0's and LONG8: bytes of one value. Whole numbers alone are an orientation.
UNIT_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8)
WHOLE_NUMBERS = (3, 4, 6, 8, 9, 13, 16)
ENTRY_BYTES = 12
BIG, LITTLE = (b"MM\0*", b"MM*\0"), (b"II*\0", b"II\0*")  # how Exif data of each byte order begins
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"  # how segments of a JPEG begin
MOST_EXIF_BYTES = 1 << 17  # in several segments of a JPEG
MOST_SEGMENTS = 2048  # of a JPEG, or chunks of a WebP, that are looked at
# How many bytes after a marker of a JPEG the next one is sought; markers below 0xC0 are none.
WITH_LENGTH, LAST = 0, -1
WITHOUT_LENGTH = (0x00, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE))
JPEG_STEPS = [WITH_LENGTH if marker >= 0xC0 else LAST for marker in range(256)]
for without in WITHOUT_LENGTH:
    JPEG_STEPS[without] = 2
JPEG_STEPS[0xDA], JPEG_STEPS[0xFF] = LAST, 1  # the first scan; padding
XMP_TAG = b"tiff:Orientation"


class Metadata(NamedTuple):
    """Exif data, uint8 `(m,)`, without `Exif` before it, and XMP, a string; each empty where there is none."""

    exif: Any
    xmp: Any


def upright(pixels: Any, encoded: Any) -> Any:
    """Turn and mirror pixels, uint8 `(h, w, 3)`, as the image that they were decoded from says."""

    def swapped() -> Any:
        return tf.transpose(pixels, [1, 0, 2])

    ways = {
        2: lambda: pixels[:, ::-1],
        3: lambda: pixels[::-1, ::-1],
        4: lambda: pixels[::-1],
        5: swapped,
        6: lambda: swapped()[:, ::-1],
        7: lambda: swapped()[::-1, ::-1],
        8: lambda: swapped()[::-1],
    }
    branches = [(value, ways[value]) for value in ways]
    turned = tf.switch_case(_shifted(of(encoded)), [way for _, way in branches], default=lambda: pixels)
    return tf.ensure_shape(turned, (None, None, 3))


def _shifted(orientation: Any) -> Any:
    """The branch of an orientation, from 0; what is none of 2 to 8 goes to the default."""
    is_known = (orientation >= 2) & (orientation <= 8)
    return tf.cast(tf.where(is_known, orientation - 2, -1), tf.int32)


def of(encoded: Any) -> Any:
    """The orientation of a JPEG, PNG or WebP, int64; 1 is upright, and so is what is none of 1 to 8."""
    ways = {JPEG: lambda: _in_jpeg(encoded), PNG: lambda: _in_png(encoded), RIFF: lambda: _in_webp(encoded)}
    may_have = contains(encoded, EXIF) | contains(encoded, XMP_TAG) | ~begins(encoded, JPEG)
    # Most JPEGs have neither, and need no walk.
    found = Metadata(*tf.cond(may_have, lambda: by_beginning(encoded, ways, _no_metadata), _no_metadata))
    tag = _tag(found.exif)
    return tf.cond(tag == ABSENT, lambda: _in_xmp(found.xmp), lambda: tag)


def _no_metadata() -> Metadata:
    return Metadata(tf.zeros(0, tf.uint8), tf.constant(b""))


def _absent() -> Any:
    return tf.constant(ABSENT, tf.int64)


def _tag(exif: Any) -> Any:
    """The orientation tag of Exif data (a TIFF file without an image), or ABSENT."""
    head = tf.concat([exif, [0] * 4], axis=0)[:4]
    is_big, is_little = (tf.reduce_any([_equal(head, magic) for magic in magics]) for magics in (BIG, LITTLE))
    is_tiff = (is_big | is_little) & (tf.size(exif) >= 8)
    return tf.cond(is_tiff, lambda: _tag_of_tiff(tf.cast(exif, tf.int64), is_big), _absent)


def _equal(values: Any, magic: bytes) -> Any:
    """Whether bytes, uint8 `(..., m)`, are these; `(...)`."""
    return tf.reduce_all(values == tf.constant(list(magic), tf.uint8), axis=-1)


def _tag_of_tiff(values: Any, is_big: Any) -> Any:
    """Look at the entries of the first directory together: tag, type, count, and a value or where it is.

    The first entry of the tag counts. An entry without a value is passed over, and so is one whose values are more than
    the data; one whose values reach beyond the end is the last that is read.
    """
    size = tf.size(values, tf.int64)

    def numbers(places: Any, num_bytes: int) -> Any:
        """Of so many bytes from each of the places, in the byte order of the file."""
        order = tf.range(num_bytes, dtype=tf.int64)
        around = tf.clip_by_value(places[..., None] + order, 0, size - 1)
        powers = tf.where(is_big, num_bytes - 1 - order, order)
        return tf.reduce_sum(tf.gather(values, around) * 256**powers, axis=-1)

    directory = numbers(tf.constant(4, tf.int64), 4)
    num_whole = tf.maximum(size - directory - 2, 0) // ENTRY_BYTES
    num_entries = tf.where(directory + 2 <= size, tf.minimum(numbers(directory, 2), num_whole), 0)
    places = directory + 2 + ENTRY_BYTES * tf.range(num_entries)  # (n,)
    tags, kinds, counts = numbers(places, 2), numbers(places + 2, 2), numbers(places + 4, 4)
    units = tf.gather(tf.constant(UNIT_BYTES, tf.int64), tf.where(kinds < len(UNIT_BYTES), kinds, 0))
    lengths = counts * units
    is_elsewhere = lengths > 4
    starts = tf.where(is_elsewhere, numbers(places + 8, 4), places + 8)
    is_too_much = is_elsewhere & (tf.cumsum(tf.where(is_elsewhere, lengths, 0)) > size)
    is_cut = is_elsewhere & ~is_too_much & (starts + lengths > size)
    is_read = tf.cumsum(tf.cast(is_cut, tf.int64)) == 0
    found = tf.where((tags == ORIENTATION) & (lengths > 0) & ~is_too_much & is_read)[:, 0]

    def value() -> Any:
        first = found[0]
        start, length = starts[first], units[first]
        digits = values[start : start + length]
        powers = tf.range(length)
        number = tf.reduce_sum(digits * 256 ** tf.where(is_big, length - 1 - powers, powers))
        return tf.where(tf.reduce_any(kinds[first] == WHOLE_NUMBERS) & (number > 0), number, UPRIGHT)

    return tf.cond(tf.size(found) > 0, value, _absent)


def _in_xmp(xmp: Any) -> Any:
    """The digit of the first `tiff:Orientation="6` or `tiff:Orientation>6`; 1 stands behind all, for when none is."""
    tails = tf.concat([tf.strings.split([xmp], XMP_TAG).values[1:], [b">1"]], axis=0)  # (n,)
    tails = tf.strings.join([tails, b"   "])
    is_quoted = tf.strings.substr(tails, 0, 2) == b'="'
    is_element = tf.strings.substr(tails, 0, 1) == b">"
    places = tf.where(is_quoted, 2, 1)
    codes = tf.io.decode_raw(tf.strings.substr(tails, places, tf.ones_like(places)), tf.uint8)[:, 0]
    digits = tf.cast(codes, tf.int64) - ord("0")
    is_value = (is_quoted | is_element) & (digits >= 0) & (digits <= 9)
    return tf.boolean_mask(digits, is_value)[0]


def _in_jpeg(encoded: Any) -> Metadata:
    """Exif data may come in several segments, and is joined; of XMP the last segment counts."""
    size = tf.strings.length(encoded)
    values = tf.io.decode_raw(tf.strings.join([encoded, b"\0\0\0\0"]), tf.uint8)
    places = _applications(tf.cast(values, tf.int32), size)  # (s,)
    starts, ends = places + 4, places + 2 + _length(values, places)
    is_exif, is_xmp = (_holds(values, starts, ends, opening) for opening in (EXIF, XMP))
    is_within = ends <= size
    exif_starts = tf.boolean_mask(starts, is_exif & is_within)
    exif_ends = tf.boolean_mask(ends, is_exif & is_within)
    joined = tf.ragged.range(exif_starts + len(EXIF), exif_ends).values[:MOST_EXIF_BYTES]
    xmp_starts = tf.concat([[size], tf.boolean_mask(starts, is_xmp & is_within)], axis=0)
    xmp_ends = tf.concat([[size], tf.boolean_mask(ends, is_xmp & is_within)], axis=0)
    xmp = slice_of(encoded, xmp_starts[-1], xmp_ends[-1] - xmp_starts[-1])
    return Metadata(_unprefixed(tf.gather(values, joined)), xmp)


def _length(values: Any, places: Any) -> Any:
    """The lengths of the segments of a JPEG that begin in these places, without the two bytes of the marker."""
    high, low = (tf.cast(tf.gather(values, places + offset), tf.int32) for offset in (2, 3))
    return 256 * high + low


def _holds(values: Any, starts: Any, ends: Any, opening: bytes) -> Any:
    """Which of these stretches begin so."""
    places = tf.minimum(starts[:, None] + tf.range(len(opening)), tf.size(values) - 1)
    return _equal(tf.gather(values, places), opening) & (starts + len(opening) <= ends)


def _applications(values: Any, size: Any) -> Any:
    """The places of a JPEG's APP1 segments, `(s,)`; its markers are followed up to the first scan.

    Args:
      values: its bytes, and four more, int32.
    """
    steps = tf.constant(JPEG_STEPS, tf.int32)

    def goes_on(count: Any, place: Any, seen: Any) -> Any:
        return (count < MOST_SEGMENTS) & (place < size)

    def move(count: Any, place: Any, seen: Any) -> tuple[Any, ...]:
        lead, marker, high, low = tf.unstack(values[place : place + 4], 4)
        step = tf.where(lead == 0xFF, steps[marker], 1)
        after = place + tf.where(step == WITH_LENGTH, 2 + tf.maximum(256 * high + low, 2), step)
        return count + 1, tf.where(step == LAST, size, after), seen.write(count, place)

    seen = tf.TensorArray(tf.int32, 0, dynamic_size=True, element_shape=())
    places = tf.while_loop(goes_on, move, (tf.constant(0), tf.constant(2), seen))[2].stack()
    is_application = (tf.gather(values, places) == 0xFF) & (tf.gather(values, places + 1) == 0xE1)
    return tf.boolean_mask(places, is_application)


def _unprefixed(exif: Any) -> Any:
    """Without one `Exif` before it; some programs write another."""
    head = tf.concat([exif, tf.zeros(len(EXIF), tf.uint8)], axis=0)[: len(EXIF)]
    return exif[tf.where(_equal(head, EXIF) & (tf.size(exif) >= len(EXIF)), len(EXIF), 0) :]


def _in_png(encoded: Any) -> Metadata:
    """The chunk eXIf, found by its name; four bytes that are no chunk's name have no length before them that fits."""
    pieces = tf.strings.length(tf.strings.split([encoded], b"eXIf").values)  # (p,)
    places = tf.cumsum(pieces)[:-1] + 4 * tf.range(tf.size(pieces) - 1)  # of the name
    size = tf.strings.length(encoded)
    around = tf.clip_by_value(places[:, None] + tf.range(-4, 0), 0, size - 1)
    lengths = tf.cast(tf.gather(tf.io.decode_raw(encoded, tf.uint8), around), tf.int64)  # (p, 4)
    lengths = tf.reduce_sum(lengths * tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64), axis=1)
    is_chunk = tf.cast(places, tf.int64) + 8 + lengths <= tf.cast(size, tf.int64)
    first = tf.concat([tf.boolean_mask(places, is_chunk), [size]], axis=0)[0]
    length = tf.concat([tf.boolean_mask(lengths, is_chunk), [0]], axis=0)[0]
    return Metadata(_exif_of(slice_of(encoded, first + 4, length)), tf.constant(b""))


def _exif_of(chunk: Any) -> Any:
    """The bytes of a chunk of PNG or WebP, which begins with one `Exif`, two or none."""
    return _unprefixed(_unprefixed(tf.io.decode_raw(chunk, tf.uint8)))


def _in_webp(encoded: Any) -> Metadata:
    """The chunks EXIF and XMP of an extended WebP whose flags announce them."""
    is_extended = (tf.strings.substr(encoded, 12, 4) == b"VP8X") & (tf.strings.length(encoded) > 20)
    flags = tf.cond(is_extended, lambda: number(encoded, 20, 1), lambda: tf.constant(0, tf.int64))
    exif = tf.cond(flags // 8 % 2 == 1, lambda: _chunk(encoded, b"EXIF"), lambda: b"")
    xmp = tf.cond(flags // 4 % 2 == 1, lambda: _chunk(encoded, b"XMP "), lambda: b"")
    return Metadata(_exif_of(exif), xmp)


def _chunk(encoded: Any, name: bytes) -> Any:
    """What a WebP's first chunk of a name holds: four bytes of name, four of length, and so many, made even."""
    size = tf.strings.length(encoded)

    def goes_on(count: Any, place: Any, found: Any) -> Any:
        return (count < MOST_SEGMENTS) & (place + 8 <= size)

    def move(count: Any, place: Any, found: Any) -> tuple[Any, ...]:
        claimed = tf.minimum(number(encoded, place + 4, 4), tf.cast(size, tf.int64))
        length = tf.cast(claimed, tf.int32)
        is_here = tf.strings.substr(encoded, place, 4) == name
        here = tf.cond(is_here, lambda: slice_of(encoded, place + 8, length), lambda: found)
        return count + 1, tf.where(is_here, size, place + 8 + length + length % 2), here

    return tf.while_loop(goes_on, move, (tf.constant(0), tf.constant(12), tf.constant(b"")))[2]
