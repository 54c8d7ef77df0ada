"""The doors of `test_doors.py`: how photos are written in each source's own form, and what it says of each fault."""

import csv
import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfl import datasets
from tfl.specs import DatasetSpec

# --- photos


@dataclass(frozen=True)
class Photo:
    """An image file with a label. The id of its row ends in `name`, or see `Door.end_of_id`."""

    name: str
    content: bytes
    label: str

    @property
    def pixels(self):
        """What Pillow makes of it, uint8 `(h, w, 3)`."""
        return np.asarray(Image.open(io.BytesIO(self.content)).convert("RGB"))


def encode(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_photos(counts, seed=0):
    """As many photos of one size as `counts` says of each label, each of other pixels."""
    rng = np.random.default_rng(seed)
    photos = []
    for number, (label, count) in enumerate(counts.items()):
        for i in range(count):
            pixels = rng.integers(0, 256, (7, 9, 3), np.uint8)
            photos.append(Photo(f"{number}-{i:02d}.png", encode(Image.fromarray(pixels)), label))
    return photos


def make_coloured(count):
    """As many photos of each of three colours, with noise: a head can learn them."""
    rng = np.random.default_rng(1)
    photos = []
    for name, colour in {"blue": (30, 30, 200), "green": (30, 200, 30), "red": (200, 30, 30)}.items():
        for i in range(count):
            pixels = np.clip(colour + rng.integers(-20, 21, (12, 15, 3)), 0, 255).astype(np.uint8)
            photos.append(Photo(f"{name}-{i:02d}.png", encode(Image.fromarray(pixels)), name))
    return photos


PLAIN = make_photos({"cat": 15, "dog": 14, "eel": 11})

# --- doors


@dataclass(frozen=True)
class Door:
    """A source of datasets, as the tests use it."""

    name: str
    source: str
    """The name of its record."""
    write: Callable[[Path, Sequence[Photo]], DatasetSpec]
    """Write photos into an empty folder, all for training or to be divided, in the source's own form."""
    takes_files: bool = True
    """Whether photos stay encoded; else all have one size, and are pixels before the source sees them."""
    write_arrays: Callable[[Path, np.ndarray, Sequence[str]], DatasetSpec] | None = None
    """Write an array of images with one label each, for a source of arrays."""
    end_of_id: Callable[[str], str] = lambda name: name
    """Return the end of the id of the photo of this name."""
    faults: dict[str, tuple[Callable[[Path], DatasetSpec], str] | str] = field(default_factory=dict)
    """For each of `FAULTS`: how to write it and what is said, or why it cannot be."""

    def __str__(self):
        return self.name


FAULTS = ("no image", "an id twice", "a name that is not UTF-8", "a label without a name", "one class")
TWO_OF_ONE_CLASS = make_photos({"cat": 9})


def write_folder(root, photos):
    """`root/train/<class>/`."""
    write_flat(root / "train", photos)
    return DatasetSpec(f"folder:{root}", test_split="")


def write_flat(root, photos):
    """`root/<class>/`."""
    root.mkdir(exist_ok=True)
    for photo in photos:
        (root / photo.label).mkdir(exist_ok=True)
        (root / photo.label / photo.name).write_bytes(photo.content)
    return DatasetSpec(f"folder:{root}")


def write_latin(write):
    """A file whose name is in Latin-1, beside good ones."""

    def write_with_latin_name(root):
        spec = write(root, PLAIN)
        path = next(root.rglob(PLAIN[0].name))
        try:
            os.rename(path, os.fsencode(path.parent) + b"/caf\xe9.png")  # noqa: PTH104 -- a name of bytes
        except OSError:
            pytest.skip("this file system has UTF-8 names alone")
        return spec

    return write_with_latin_name


def write_npz(root, photos, **changed):
    pixels = np.stack([photo.pixels for photo in photos]) if photos else np.zeros((0, 7, 9, 3), np.uint8)
    ids = np.asarray([photo.name for photo in photos], "U")
    return write_npz_arrays(root, pixels, [photo.label for photo in photos], **{"train_ids": ids, **changed})


def write_npz_arrays(root, images, labels, **more):
    names, numbers = np.unique(labels, return_inverse=True) if len(labels) else (["cat", "dog"], [])
    arrays = {"train_images": images, "train_labels": np.asarray(numbers, np.int64), "class_names": names}
    np.savez(root / "photos.npz", **(arrays | more))
    return DatasetSpec(f"npz:{root / 'photos.npz'}", test_split="")


def write_table(write_rows, suffix):
    """Return a function that writes photos and a table of them."""

    def write(root, photos, **changed):
        (root / "images").mkdir()
        for photo in photos:
            (root / "images" / photo.name).write_bytes(photo.content)
        columns = {"path": [f"images/{photo.name}" for photo in photos], "label": [photo.label for photo in photos]}
        write_rows(root / f"photos{suffix}", columns | changed)
        return DatasetSpec(f"table:{root / f'photos{suffix}'}")

    return write


def write_separated(separator):
    def write(path, columns):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=separator)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))

    return write


def write_json_lines(path, columns):
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path, columns):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    types = dict.fromkeys(columns, pyarrow.string())
    parquet.write_table(pyarrow.table(columns, schema=pyarrow.schema(types)), path)


def make_table_door(suffix, write_rows):
    write = write_table(write_rows, suffix)
    num_rows = len(PLAIN)
    return Door(
        f"table {suffix}",
        "table",
        write,
        faults={
            "no image": (lambda root: write(root, []), f"photos{suffix} (has no rows|is empty); expected"),
            "an id twice": (
                lambda root: write(root, PLAIN, id=["same"] * num_rows),
                "'same' in (line|row) . as in (line|row) .",
            ),
            "a name that is not UTF-8": "a table is UTF-8",
            "a label without a name": (
                lambda root: write(root, PLAIN, label=[""] * num_rows),
                "column label: it is empty",
            ),
            "one class": (lambda root: write(root, TWO_OF_ONE_CLASS), "has one class, 'cat'"),
        },
    )


def write_tar(root, photos, labels=None):
    """Shards of ten photos."""
    labels = labels or [photo.label for photo in photos]
    for start in range(0, max(len(photos), 1), 10):
        with tarfile.open(root / f"photos-{start // 10:03d}.tar", "w") as tar:
            for photo, label in list(zip(photos, labels, strict=True))[start : start + 10]:
                add_to_tar(tar, photo.name, photo.content)
                add_to_tar(tar, f"{photo.name.rpartition('.')[0]}.txt", label.encode())
    return DatasetSpec(f"wds:{root}/photos-*.tar", label_key="txt")


def add_to_tar(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_hugging_face(root, photos, **changed):
    hugging_face = pytest.importorskip("datasets")
    hugging_face.disable_progress_bars()
    names = sorted({photo.label for photo in photos})
    columns = {
        "image": [{"bytes": photo.content, "path": None} for photo in photos],
        "label": [names.index(photo.label) for photo in photos],
        "name": [photo.name for photo in photos],
    }
    features = {
        "image": hugging_face.Image(),
        "label": hugging_face.ClassLabel(names=names or ["cat", "dog"]),
        "name": hugging_face.Value("string"),
    }
    dataset = hugging_face.Dataset.from_dict(columns | changed, features=hugging_face.Features(features))
    dataset.save_to_disk(root / "photos")
    return DatasetSpec(f"hf:{root / 'photos'}", id_key="name")


def write_paths(root, photos, **changed):
    """Files, given in Python as a list of their paths."""
    (root / "images").mkdir()
    for photo in photos:
        (root / "images" / photo.name).write_bytes(photo.content)
    given = {
        "images": [root / "images" / photo.name for photo in photos],
        "labels": [photo.label for photo in photos],
        "ids": [photo.name for photo in photos],
    }
    return datasets.store_images(given | changed, DatasetSpec(), root / "cache")


def write_latin_path(root):
    path = os.fsencode(root) + b"/caf\xe9.png"
    Path(os.fsdecode(path)).write_bytes(PLAIN[0].content)
    paths = [os.fsdecode(path), *(root / "images" / photo.name for photo in PLAIN[1:])]
    return write_paths(root, PLAIN, images=paths)


def write_images(root, photos, **changed):
    """Arrays of one size or several, given in Python."""
    pixels = [photo.pixels for photo in photos]
    given = {"images": pixels, "labels": [photo.label for photo in photos], "ids": [photo.name for photo in photos]}
    return datasets.store_images(given | changed, DatasetSpec(), root / "cache")


def write_image_arrays(root, images, labels):
    return datasets.store_images({"images": images, "labels": labels}, DatasetSpec(), root / "cache")


FOLDER_FAULTS = {
    "an id twice": "two files have two paths",
    "a label without a name": "a class is named by its folder",
    "one class": (lambda root: write_flat(root, TWO_OF_ONE_CLASS), "has one class, 'cat'; at least two are needed"),
    "no image": (lambda root: write_flat(root, []), "holds no images: expected root/<split>/<class>/"),
}
ALL_DOORS = [
    Door(
        "folder with splits",
        "folder",
        write_folder,
        faults=FOLDER_FAULTS
        | {
            "one class": (lambda root: write_folder(root, TWO_OF_ONE_CLASS), "has one class, 'cat'"),
            "a name that is not UTF-8": (write_latin(write_folder), r"train/cat/caf\\xe9.png: its name is not UTF-8"),
        },
    ),
    Door(
        "folder of classes",
        "folder",
        write_flat,
        faults=FOLDER_FAULTS
        | {"a name that is not UTF-8": (write_latin(write_flat), r"/cat/caf\\xe9.png: its name is not UTF-8; rename")},
    ),
    Door(
        "paths in Python",
        "table",
        write_paths,
        faults={
            "no image": (lambda root: write_paths(root, []), "there are no images"),
            "an id twice": (
                lambda root: write_paths(root, PLAIN, ids=["same"] * len(PLAIN)),
                "two rows have",
            ),
            "a name that is not UTF-8": (write_latin_path, "column path: it is no text that UTF-8 can write"),
            "a label without a name": (
                lambda root: write_paths(root, PLAIN, labels=[""] * len(PLAIN)),
                "labels hold '', which is no name",
            ),
            "one class": (lambda root: write_paths(root, TWO_OF_ONE_CLASS), "has one class, 'cat'"),
        },
    ),
    Door(
        "arrays in Python",
        "npz",
        write_images,
        takes_files=False,
        write_arrays=write_image_arrays,
        faults={
            "no image": (lambda root: write_images(root, []), "there are no images"),
            "an id twice": (
                lambda root: write_images(root, PLAIN, ids=["same"] * len(PLAIN)),
                f"has {len(PLAIN)} ids, of which 1 differ; every image needs its own",
            ),
            "a name that is not UTF-8": "texts in Python are Unicode",
            "a label without a name": (
                lambda root: write_images(root, PLAIN, labels=np.full(len(PLAIN), 3), class_names=["a", "b"]),
                "range from 3 to 3; expected 0 to 1",
            ),
            "one class": (lambda root: write_images(root, TWO_OF_ONE_CLASS), "has one class, 'cat'"),
        },
    ),
    Door(
        "npz",
        "npz",
        write_npz,
        takes_files=False,
        write_arrays=write_npz_arrays,
        faults={
            "no image": (lambda root: write_npz(root, []), "'train' chooses no image: 'train' has 0 rows"),
            "an id twice": (
                lambda root: write_npz(root, PLAIN, train_ids=["same"] * len(PLAIN)),
                "has 40 ids, of which 1 differ; every image needs its own",
            ),
            "a name that is not UTF-8": "texts in an array are Unicode",
            "a label without a name": (
                lambda root: write_npz(root, PLAIN, train_labels=np.full(len(PLAIN), 3)),
                "range from 3 to 3; expected 0 to 2",
            ),
            "one class": (lambda root: write_npz(root, TWO_OF_ONE_CLASS), "has one class, 'cat'"),
        },
    ),
    make_table_door(".csv", write_separated(",")),
    make_table_door(".tsv", write_separated("\t")),
    make_table_door(".jsonl", write_json_lines),
    make_table_door(".parquet", write_parquet),
    Door(
        "tars",
        "wds",
        write_tar,
        end_of_id=lambda name: name.rpartition(".")[0],
        faults={
            "no image": (lambda root: write_tar(root, []), "holds no images"),
            "an id twice": (lambda root: write_tar(root, [*PLAIN, *PLAIN]), "the key '0-00' is there twice"),
            "a name that is not UTF-8": (
                lambda root: write_tar(root, [replace(PLAIN[0], name="caf\udce9.png"), *PLAIN]),
                "not UTF-8",
            ),
            "a label without a name": (
                lambda root: write_tar(root, PLAIN, [""] * len(PLAIN)),
                "has no label; every image",
            ),
            "one class": (lambda root: write_tar(root, TWO_OF_ONE_CLASS), "has one class, 'cat'"),
        },
    ),
    Door(
        "Hugging Face",
        "hf",
        write_hugging_face,
        faults={
            "no image": (lambda root: write_hugging_face(root, []), "cannot be opened as a dataset of Hugging Face"),
            "an id twice": (
                lambda root: write_hugging_face(root, PLAIN, name=["same"] * len(PLAIN)),
                "same 'name', 'same'",
            ),
            "a name that is not UTF-8": "texts in a table are UTF-8",
            "a label without a name": (
                lambda root: write_hugging_face(root, PLAIN, label=[-1] * len(PLAIN)),
                "has no label; every",
            ),
            "one class": (lambda root: write_hugging_face(root, TWO_OF_ONE_CLASS), "has one class, 'cat'"),
        },
    ),
]
DOORS = [door for door in ALL_DOORS if door.source in datasets.SOURCES]
WITHOUT_A_DOOR = {"tfds": "its datasets are prepared by TensorFlow Datasets: see test_tfds.py"}
