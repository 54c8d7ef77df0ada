"""Every way in, and every odd input: each source gives the right pixels, labels and ids, or says what is wrong.

To add a source, write one `Door` in `doors.py`.
"""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from doors import DOORS, FAULTS, PLAIN, WITHOUT_A_DOOR, Photo, encode, make_coloured, make_photos
from PIL import Image

from tfl import datasets
from tfl.artefacts.export import export
from tfl.artefacts.predict import predict
from tfl.cache import open_cache
from tfl.errors import DatasetError
from tfl.extraction.precompute import precompute
from tfl.heads import Ridge
from tfl.runs.training import train
from tfl.specs import Artefact

every_door = pytest.mark.parametrize("door", DOORS, ids=str)
doors_of_files = pytest.mark.parametrize("door", [door for door in DOORS if door.takes_files], ids=str)
doors_of_arrays = pytest.mark.parametrize("door", [door for door in DOORS if door.write_arrays], ids=str)


def test_every_source_has_a_door():
    assert set(datasets.SOURCES) == {door.source for door in DOORS} | set(WITHOUT_A_DOOR)


@every_door
def test_every_door_knows_every_fault(door):
    assert sorted(door.faults) == sorted(FAULTS)


# --- what is read


def read_split(source, split):
    return list(source.examples(split, 0, source.num_rows[split]))


def read_by_name(spec):
    """Return every row by the end of its id, and the source."""
    source = datasets.open_dataset(spec)
    rows = [row for split in source.num_rows for row in read_split(source, split)]
    found = {row.id.rpartition("/")[2]: row for row in rows}
    assert len(found) == len(rows)
    return found, source


@every_door
def test_pixels_labels_and_ids_are_those_that_were_written(door, tmp_path):
    found, source = read_by_name(door.write(tmp_path, PLAIN))
    assert sorted(found) == sorted(door.end_of_id(photo.name) for photo in PLAIN)
    for photo in PLAIN:
        row = found[door.end_of_id(photo.name)]
        np.testing.assert_array_equal(row.image, photo.pixels)
        assert source.class_names[row.label] == photo.label


@every_door
def test_rows_are_the_same_however_they_are_read(door, tmp_path):
    _, source = read_by_name(door.write(tmp_path, PLAIN))
    (split,) = source.num_rows
    rows = read_split(source, split)
    assert [row.id for row in source.examples(split, 5, 11)] == [row.id for row in rows[5:11]]
    chosen = [20, 3, 4, 11]
    for found, row in zip(source.examples_at(split, chosen), chosen, strict=True):
        assert (found.id, found.label) == (rows[row].id, rows[row].label)
        np.testing.assert_array_equal(found.image, rows[row].image)
    labels = source.labels(split)
    assert labels is None or labels.tolist() == [row.label for row in rows]


@every_door
def test_classes_are_sorted_as_text(door, tmp_path):
    labels = ["2", "10", "1", "Zebra", "apple pie", "naïve 猫"]
    _, source = read_by_name(door.write(tmp_path, make_photos(dict.fromkeys(labels, 2))))
    assert source.class_names == ("1", "10", "2", "Zebra", "apple pie", "naïve 猫")


LIKE_OTHER_VALUES = ("NaN", "NA", "null", "None", "True", "1", "1.0", "01", "1e3", "-n", "=1+1", "#x", 'a, "b"', "a|b")


@every_door
def test_labels_stay_text_whatever_they_look_like(door, tmp_path):
    photos = make_photos(dict.fromkeys(LIKE_OTHER_VALUES, 2))
    found, source = read_by_name(door.write(tmp_path, photos))
    assert source.class_names == tuple(sorted(LIKE_OTHER_VALUES))
    for photo in photos:
        assert source.class_names[found[door.end_of_id(photo.name)].label] == photo.label


def ids_by_role(spec, source):
    ids = {}
    for role, split in spec.roles.items():
        count = datasets.count_rows(source, split)
        ids[role] = [row.id for row in datasets.read_rows(source, split, 0, count)]
    return ids


@every_door
def test_a_resolved_spec_opens_the_same_rows(door, tmp_path):
    spec = door.write(tmp_path, PLAIN)
    source = datasets.open_dataset(spec)
    resolved = datasets.resolve_spec(spec, source)
    ids = ids_by_role(resolved, source)
    assert sorted(id_ for of_role in ids.values() for id_ in of_role) == sorted(
        row.id for split in source.num_rows for row in read_split(source, split)
    )
    again = datasets.open_dataset(replace(resolved, dataset=spec.dataset, version=""))
    assert (again.name, again.version, again.class_names) == (source.name, source.version, source.class_names)
    assert ids_by_role(resolved, again) == ids
    assert datasets.resolve_spec(replace(resolved, dataset=spec.dataset), again) == resolved


@every_door
def test_the_version_is_that_of_the_content(door, tmp_path):
    changed = [replace(PLAIN[0], content=PLAIN[1].content), *PLAIN[1:]]
    renamed = [replace(PLAIN[0], name="other.png"), *PLAIN[1:]]
    relabelled = [replace(PLAIN[0], label="dog"), *PLAIN[1:]]
    versions = []
    for number, photos in enumerate([PLAIN, PLAIN, changed, renamed, relabelled]):
        (tmp_path / str(number)).mkdir()
        versions.append(datasets.open_dataset(door.write(tmp_path / str(number), photos)).version)
    assert versions[0] == versions[1]
    assert len(set(versions)) == 4


# --- odd files

GREY = (np.arange(48, dtype=np.uint8) * 5).reshape(6, 8)
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)  # (6, 8, 3)
PICTURE = Image.fromarray(RGB)
FLAT = (200, 30, 40)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(PICTURE, exif=exif)


def make_palette(transparency=None):
    image = Image.fromarray(np.zeros((6, 8), np.uint8), "P")
    image.putpalette([*FLAT, 1, 2, 3])
    return encode(image, **({} if transparency is None else {"transparency": transparency}))


def make_flat(colour=FLAT):
    return np.broadcast_to(np.asarray(colour, np.uint8), (6, 8, 3))


def with_alpha():
    image = PICTURE.copy()
    image.putalpha(Image.fromarray(GREY))
    return image


def make_bomb():
    """A PNG of a few bytes that claims 60000 x 60000 pixels."""
    content = bytearray(encode(Image.new("L", (1, 1))))
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + content[24:29]
    content[12:33] = header + zlib.crc32(header).to_bytes(4, "big")
    return bytes(content)


IN_GREY = np.repeat(GREY[..., None], 3, axis=2)
TRANSPOSED = RGB.swapaxes(0, 1)
UPRIGHT = {  # of each EXIF orientation
    1: RGB,
    2: RGB[:, ::-1],
    3: RGB[::-1, ::-1],
    4: RGB[::-1],
    5: TRANSPOSED,
    6: np.rot90(RGB, -1),
    7: TRANSPOSED[::-1, ::-1],
    8: np.rot90(RGB),
}
READABLE = {
    "grey": ("x.png", encode(Image.fromarray(GREY)), IN_GREY),
    "grey with alpha": ("x.png", encode(Image.fromarray(GREY).convert("LA")), IN_GREY),
    "16 bits": ("x.png", encode(Image.fromarray(GREY.astype(np.uint16) * 257)), IN_GREY),
    "16 bits, TIFF": ("x.tif", encode(Image.fromarray(GREY.astype(np.uint16) * 257), "tiff"), IN_GREY),
    "one bit": ("x.png", encode(Image.fromarray(GREY > 99)), np.where(IN_GREY > 99, 255, 0)),
    "palette": ("x.png", make_palette(), make_flat()),
    "palette with a transparent colour": ("x.png", make_palette(transparency=0), make_flat()),
    "transparency": ("x.png", encode(with_alpha()), RGB),
    "transparency, WebP": ("x.webp", encode(with_alpha(), "webp", lossless=True, exact=True), RGB),
    "CMYK": ("x.tif", encode(Image.new("CMYK", (8, 6), (55, 225, 215, 0)), "tiff"), make_flat()),
    "BMP": ("x.bmp", encode(PICTURE, "bmp"), RGB),
    "PNG called JPEG": ("x.jpg", encode(PICTURE), RGB),
    "suffix in capitals": ("x.PNG", encode(PICTURE), RGB),
    "animation": ("x.gif", encode(Image.new("RGB", (8, 6), FLAT), "gif", save_all=True), make_flat()),
    "one pixel": ("x.png", encode(Image.new("RGB", (1, 1), FLAT)), make_flat()[:1, :1]),
    "trailing junk": ("x.png", encode(PICTURE) + b"junk", RGB),
    **{f"EXIF orientation {number}": ("x.png", turned(number), upright) for number, upright in UPRIGHT.items()},
    "name with a newline": ("two\nlines.png", encode(PICTURE), RGB),
    "name with quotes and commas": ("""a, "b" 'c'.png""", encode(PICTURE), RGB),
    "name in other letters": ("naïve 猫.png", encode(PICTURE), RGB),
}


@doors_of_files
@pytest.mark.parametrize("kind", READABLE)
def test_odd_images_have_their_right_pixels(door, kind, tmp_path):
    name, content, expected = READABLE[kind]
    found, source = read_by_name(door.write(tmp_path, [*PLAIN, Photo(name, content, "dog")]))
    row = found[door.end_of_id(name)]
    np.testing.assert_array_equal(row.image, expected)
    assert row.image.dtype == np.uint8
    assert source.class_names[row.label] == "dog"


BAD = {
    "empty": ("x.png", b"", "is empty; repair or remove it"),
    "truncated": ("x.png", encode(PICTURE)[:-30], "cannot decode the image"),
    "truncated JPEG": ("x.jpg", encode(PICTURE, "jpeg")[:-30], "cannot decode the image"),
    "a page of the web": ("x.jpg", b"<!DOCTYPE html>", "is not an image that Pillow can read; repair or remove it"),
    "floating point": ("x.tif", encode(PICTURE.convert("F"), "tiff"), "floating-point pixels, whose range is not"),
    "decompression bomb": ("x.png", make_bomb(), "claims more pixels than are safe"),
}


@doors_of_files
@pytest.mark.parametrize("kind", BAD)
def test_bad_images_are_in_their_rows_and_known_before(door, kind, tmp_path):
    name, content, reason = BAD[kind]
    found, source = read_by_name(door.write(tmp_path, [*PLAIN, Photo(name, content, "dog")]))
    bad = found[door.end_of_id(name)]
    assert isinstance(bad, datasets.BadImage)
    assert reason in bad.reason
    assert len(found) == len(PLAIN) + 1
    known = [each for split in source.num_rows for each in source.known_bad(split, 0, source.num_rows[split])]
    assert known == [bad]


@doors_of_files
def test_a_class_of_bad_images_cannot_be_left_out(door, tmp_path):
    bad = [Photo(f"{i}.png", b"none", "fox") for i in range(3)]
    source = datasets.open_dataset(door.write(tmp_path, [*PLAIN, *bad]))
    with pytest.raises(DatasetError, match="(?s)none of the .*images of .*fox.* can be used.*A class needs an image"):
        source.require_good_classes()


# --- odd arrays

ARRAYS = {
    "colour": (RGB, RGB),
    "grey": (GREY, IN_GREY),
    "grey with a channel": (GREY[..., None], IN_GREY),
}


@doors_of_arrays
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_every_layout_are_read(door, kind, order, tmp_path):
    image, expected = ARRAYS[kind]
    images = np.asarray(np.stack([image, image[::-1]] * 3), order=order)
    source = datasets.open_dataset(door.write_arrays(tmp_path, images, ["b", "a"] * 3))
    (split,) = source.num_rows
    for row, example in enumerate(read_split(source, split)):
        np.testing.assert_array_equal(example.image, expected[::-1] if row % 2 else expected)
        assert source.class_names[example.label] == "ba"[row % 2]


# --- faults


POSSIBLE = [(door, fault) for door in DOORS for fault in FAULTS if isinstance(door.faults.get(fault), tuple)]


@pytest.mark.parametrize(("door", "fault"), POSSIBLE, ids=str)
def test_faults_are_refused_with_their_reason(door, fault, tmp_path):
    write, message = door.faults[fault]
    with pytest.raises(DatasetError, match=message):
        require_usable(write(tmp_path))


def require_usable(spec):
    """Refuse what `tfl precompute` refuses before it computes anything."""
    source = datasets.open_dataset(spec)
    resolved = datasets.resolve_spec(spec, source)
    for split in resolved.roles.values():
        list(datasets.require_good_images(datasets.list_bad_images(source, split)))


# --- the whole way


@every_door
def test_from_photos_to_predictions(door, tmp_path, features, settings, tiny_backbone):
    photos = make_coloured(30)
    (tmp_path / "photos").mkdir()
    spec = door.write(tmp_path / "photos", photos)
    cache = open_cache(precompute(features, spec, settings))
    labels = {door.end_of_id(photo.name): photo.label for photo in photos}
    ids = []
    for role in cache.num_rows:
        of_role = [id_.decode().rpartition("/")[2] for id_ in cache.read_ids(role)]
        assert [cache.class_names[label] for label in cache.read_labels(role)] == [labels[id_] for id_ in of_role]
        ids += of_role
    assert sorted(ids) == sorted(labels)
    run = train(cache.path, Ridge(), runs_dir=tmp_path / "runs")
    export(run, tmp_path / "model", artefact=Artefact(format="keras"))
    paths = [tmp_path / photo.name for photo in photos[::7]]
    for path, photo in zip(paths, photos[::7], strict=True):
        path.write_bytes(photo.content)
    found = [prediction.class_name for prediction in predict(tmp_path / "model", paths)]
    assert found == [photo.label for photo in photos[::7]]
