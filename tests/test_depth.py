"""Depths of images, each by its value: a flat image of known colour is that colour, or is refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tfl.datasets.images import decode_image, require_image
from tfl.errors import DatasetError

WIDTH, HEIGHT = 4, 2
REFUSED = None
"""In the place of a colour."""


def samples(dtype, *values):
    """The bytes of an image all of whose pixels have these values."""
    return np.tile(np.array(values, dtype), (HEIGHT, WIDTH, 1)).tobytes()


def tiff(data, bits, photometric=1, order="<", deflated=False, **tags):
    """A TIFF of one strip (of one a channel, if planar), written by hand: Pillow writes few of these kinds."""
    planes = len(bits) if tags.get("planar") == 2 else 1
    strips = [data[i * len(data) // planes : (i + 1) * len(data) // planes] for i in range(planes)]
    if deflated:
        strips = [zlib.compress(strip) for strip in strips]
    shorts = {256: [WIDTH], 257: [HEIGHT], 258: bits, 259: [8 if deflated else 1], 277: [len(bits)], 278: [HEIGHT]}
    if photometric is not None:
        shorts[262] = [photometric]
    numbers = {"format": 339, "extra": 338, "colours": 320, "planar": 284, "orientation": 274}
    for name, value in tags.items():
        shorts[numbers[name]] = value if isinstance(value, list) else [value]
    fields = {tag: (3, struct.pack(f"{order}{len(values)}H", *values), len(values)) for tag, values in shorts.items()}
    fields[279] = (4, struct.pack(f"{order}{planes}I", *map(len, strips)), planes)
    fields[273] = (4, bytes(4 * planes), planes)
    start_of_extra = 8 + 2 + 12 * len(fields) + 4
    extra, places = b"", {}
    for tag, (_, value, _) in sorted(fields.items()):
        places[tag] = start_of_extra + len(extra)
        extra += (value + b"\0" * (len(value) % 2)) if len(value) > 4 else b""
    start = start_of_extra + len(extra)
    offsets = [start + sum(map(len, strips[:i])) for i in range(planes)]
    content = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    content += struct.pack(f"{order}H", len(fields))
    packed = struct.pack(f"{order}{planes}I", *offsets)
    fields[273] = (4, packed, planes)
    if planes > 1:
        at = places[273] - start_of_extra
        extra = extra[:at] + packed + extra[at + len(packed) :]
    for tag, (kind, value, count) in sorted(fields.items()):
        inline = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(f"{order}I", places[tag])
        content += struct.pack(f"{order}HHI", tag, kind, count) + inline
    return content + bytes(4) + extra + b"".join(strips)


def png(depth, colour_type, row, *chunks):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress((b"\0" + row) * HEIGHT)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def twelve(value):
    """Rows of 12-bit samples, two in three bytes."""
    pair = (value << 12 | value).to_bytes(3, "big")
    return pair * (WIDTH // 2) * HEIGHT


def colour_map(*colour, scale):
    """A colour map whose colour 7 is this one."""
    values = [0] * 768
    for channel, value in enumerate(colour):
        values[256 * channel + 7] = value * scale
    return values


def cmyk_jpeg(colour):
    """As Photoshop writes it: Adobe's marker, and the inks inverted."""
    buffer = io.BytesIO()
    Image.new("CMYK", (WIDTH, HEIGHT), (*(255 - value for value in colour), 0)).save(buffer, "jpeg", quality=100)
    return buffer.getvalue()


def ycck_jpeg(colour):
    """The same, stored as luminance and chrominance of the inverted inks' complement."""
    inks = Image.new("RGB", (1, 1), tuple(255 - value for value in colour))
    stored = inks.convert("YCbCr").getpixel((0, 0))
    buffer = io.BytesIO()
    image = Image.new("CMYK", (WIDTH, HEIGHT), (*(255 - value for value in stored), 0))  # which Pillow inverts
    image.save(buffer, "jpeg", quality=100)
    content = bytearray(buffer.getvalue())
    content[content.index(b"Adobe") + 11] = 2  # the transform of Adobe's marker
    return bytes(content)


def lab(lightness, a, b):
    """CIE 1976 L*a*b* under D50 as sRGB: Bradford's adaptation to D65 within the matrix (IEC 61966-2-1, Lindbloom)."""
    y = (lightness + 16) / 116
    relative = np.array([y + a / 500, y, y - b / 200])
    xyz = np.where(relative > 6 / 29, relative**3, (relative - 16 / 116) * 108 / 841) * (0.96422, 1, 0.82521)
    matrix = [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540]]
    matrix.append([0.0719453, -0.2289914, 1.4052427])
    linear = np.clip(np.array(matrix) @ xyz, 0, 1)
    return tuple(255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear))


COLOUR = (200, 30, 40)
WIDE = [value * 257 for value in COLOUR]
MAP_16, MAP_8 = colour_map(*COLOUR, scale=257), colour_map(*COLOUR, scale=1)
LITTLE, BIG = "<", ">"

CASES = {
    "TIFF, 8 bits": (tiff(samples("u1", 200), [8]), 200),
    "TIFF, 8 bits, white is zero": (tiff(samples("u1", 55), [8], 0), 200),
    "TIFF, 8 bits, signed": (tiff(samples("i1", 100), [8], format=2), REFUSED),
    "TIFF, 4 bits, white is zero": (tiff(b"\x55" * 4, [4], 0), 170),
    "TIFF, 2 bits": (tiff(b"\xaa" * 2, [2]), 170),
    "TIFF, 1 bit, white is zero": (tiff(b"\0" * 2, [1], 0), 255),
    "TIFF, 12 bits": (tiff(twelve(3212), [12]), 200),
    "TIFF, 12 bits, compressed": (tiff(twelve(3212), [12], deflated=True), 200),
    "TIFF that does not say what is black": (tiff(samples("u1", 200), [8], None), REFUSED),
    "TIFF, 16 bits, that does not say what is black": (tiff(samples("<u2", 51400), [16], None), REFUSED),
    "TIFF, grey and alpha": (tiff(samples("u1", 200, 9), [8, 8], extra=2), 200),
    "TIFF, grey and associated alpha": (tiff(samples("u1", 100, 128), [8, 8], extra=1), 199),
    "TIFF, associated alpha": (tiff(samples("u1", 100, 15, 20, 128), [8] * 4, 2, extra=1), (199, 29, 39)),
    "TIFF, palette": (tiff(samples("u1", 7), [8], 3, colours=MAP_16), COLOUR),
    "TIFF, palette and alpha": (tiff(samples("u1", 7, 9), [8, 8], 3, extra=2, colours=MAP_16), COLOUR),
    "TIFF, palette of 8 bits": (tiff(samples("u1", 7), [8], 3, colours=MAP_8), REFUSED),
    "TIFF, YCbCr": (tiff(samples("u1", 82, 104, 212), [8] * 3, 6), COLOUR),
    "TIFF, Lab": (tiff(samples("u1", 110, 60, 37), [8] * 3, 8), lab(110 / 2.55, 60, 37)),
    "TIFF, CMYK": (tiff(samples("u1", 55, 225, 215, 0), [8] * 4, 5), COLOUR),
    "TIFF, planar": (tiff(bytes(v for v in COLOUR for _ in range(8)), [8] * 3, 2, planar=2), COLOUR),
    "PNG, 16 bits": (png(16, 0, struct.pack(">H", 51400) * WIDTH), 200),
    "PNG, 16 bits, RGB": (png(16, 2, struct.pack(">3H", *WIDE) * WIDTH), COLOUR),
    "PNG, 16 bits, grey and alpha": (png(16, 4, struct.pack(">2H", 51400, 9) * WIDTH), 200),
    "PNG, 16 bits, RGBA": (png(16, 6, struct.pack(">4H", *WIDE, 9) * WIDTH), COLOUR),
    "PNG, 16 bits, one grey transparent": (
        png(16, 0, struct.pack(">H", 51400) * WIDTH, (b"tRNS", struct.pack(">H", 51400))),
        200,
    ),
    "PNG, 16 bits, dark as 12 bits in 16 are": (png(16, 0, struct.pack(">H", 2048) * WIDTH), 8),
    "PNG, 8 bits, grey and alpha": (png(8, 4, bytes([200, 9]) * WIDTH), 200),
    "PNG, 4 bits": (png(4, 0, b"\xcc" * 2), 204),
    "PNG, 2 bits": (png(2, 0, b"\xaa"), 170),
    "PNG, 1 bit": (png(1, 0, b"\xf0"), 255),
    "PNG, palette with alpha": (
        png(8, 3, b"\1" * WIDTH, (b"PLTE", bytes([0, 0, 0, *COLOUR])), (b"tRNS", b"\0\1")),
        COLOUR,
    ),
    "JPEG, CMYK": (cmyk_jpeg(COLOUR), COLOUR),
    "JPEG, YCCK": (ycck_jpeg(COLOUR), COLOUR),
    "PBM": (b"P4 4 2\n\0\0", 255),
    "PFM": (b"Pf 4 2 -1.0\n" + samples("<f4", 0.5), REFUSED),
    "PFM of colours": (b"PF 4 2 -1.0\n" + samples("<f4", 0.5, 0.5, 0.5), REFUSED),
}
for order, name in ((LITTLE, "little"), (BIG, "big")):
    CASES |= {
        f"TIFF, 16 bits, {name}": (tiff(samples(f"{order}u2", 51400), [16], order=order), 200),
        f"TIFF, 16 bits, compressed, {name}": (
            tiff(samples(f"{order}u2", 51400), [16], order=order, deflated=True),
            200,
        ),
        f"TIFF, 16 bits, signed, {name}": (tiff(samples(f"{order}i2", 200), [16], order=order, format=2), REFUSED),
        f"TIFF, 16 bits, RGB, {name}": (tiff(samples(f"{order}u2", *WIDE), [16] * 3, 2, order), COLOUR),
        f"TIFF, 16 bits, RGB, planar, {name}": (
            tiff(b"".join(samples(f"{order}u2", value) for value in WIDE), [16] * 3, 2, order, planar=2),
            COLOUR,
        ),
        f"TIFF, 16 bits, RGBA, {name}": (tiff(samples(f"{order}u2", *WIDE, 9), [16] * 4, 2, order, extra=2), COLOUR),
        f"TIFF, 16 bits, RGB, signed, {name}": (
            tiff(samples(f"{order}i2", *COLOUR), [16] * 3, 2, order, format=[2, 2, 2]),
            REFUSED,
        ),
        f"TIFF, 16 bits, CMYK, {name}": (
            tiff(samples(f"{order}u2", 55 * 257, 225 * 257, 215 * 257, 0), [16] * 4, 5, order),
            COLOUR,
        ),
        f"TIFF, 32 bits, {name}": (tiff(samples(f"{order}u4", 200), [32], order=order), REFUSED),
        f"TIFF, 32 bits, wide, {name}": (tiff(samples(f"{order}u4", 200 << 24), [32], order=order), REFUSED),
        f"TIFF, 32 bits, signed, {name}": (tiff(samples(f"{order}i4", 200), [32], order=order, format=2), REFUSED),
        f"TIFF, floating point, {name}": (tiff(samples(f"{order}f4", 0.5), [32], order=order, format=3), REFUSED),
        f"TIFF, half precision, {name}": (tiff(samples(f"{order}f2", 0.5), [16], order=order, format=3), REFUSED),
    }
CASES["TIFF, 16 bits, white is zero"] = (tiff(samples("<u2", 55 * 257), [16], 0), 200)
for maxval in (1, 15, 100, 255, 256, 1023, 4095, 65534, 65535):
    value, dtype = round(0.8 * maxval), "u1" if maxval < 256 else ">u2"
    grey = round(value / maxval * 255)
    header = b" 4 2 %d\n" % maxval
    CASES[f"PGM up to {maxval}"] = (b"P5" + header + samples(dtype, value), grey)
    CASES[f"PPM up to {maxval}"] = (b"P6" + header + samples(dtype, value, 0, maxval), (grey, 0, 255))
    CASES[f"PGM up to {maxval}, in words"] = (b"P2" + header + b"%d " % value * 8, grey)
    CASES[f"PPM up to {maxval}, in words"] = (b"P3" + header + b"%d 0 %d " % (value, maxval) * 8, (grey, 0, 255))


@pytest.mark.parametrize(("content", "colour"), CASES.values(), ids=CASES)
def test_right_by_value_or_refused(content, colour):
    if colour is REFUSED:
        with pytest.raises(DatasetError, match="^(cannot decode the image )?x.img.*(save it again|convert it|repair)"):
            decode_image(content, "x.img")
        return
    assert require_image(content, "x.img") == 3 * WIDTH * HEIGHT
    pixels = decode_image(content, "x.img")
    assert (pixels.shape, pixels.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    np.testing.assert_allclose(pixels.astype(int), np.broadcast_to(colour, pixels.shape), atol=1.5)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_the_refusal_names_the_depth(bits):
    content = tiff(samples(f"<i{bits // 8}", 100), [bits], format=2)
    with pytest.raises(DatasetError, match=f"it holds signed integers of {bits} bits, whose range is not known; "):
        decode_image(content, "x.tif")
    if bits == 32:
        content = tiff(samples("<u4", 200), [32])
        with pytest.raises(DatasetError, match="it holds integers of 32 bits, whose range is not known; convert it to"):
            decode_image(content, "x.tif")


def test_every_value_of_sixteen_bits():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    decoded = decode_image(buffer.getvalue(), "x.png")[:, :, 0]
    np.testing.assert_array_equal(decoded, np.round(values / 257).astype(np.uint8))


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_are_turned_upright(kind):
    values = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 257
    if kind == "tiff":
        content = tiff(values.tobytes(), [16], orientation=6)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "png", exif=exif)
        content = buffer.getvalue()
    np.testing.assert_array_equal(decode_image(content, "x")[:, :, 0], np.rot90(values // 257, -1))
