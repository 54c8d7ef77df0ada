"""Sets of TensorFlow Datasets: images by value, or a sentence that names the key, its dtype and shape."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

import tfl
from tfl import datasets
from tfl.errors import DatasetError
from tfl.specs import DatasetSpec

F = tfds.features
COUNT = 6
LABELS = np.arange(COUNT) % 3
NAMES = F.ClassLabel(names=["red", "green", "blue"])
RGB = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 9, 3), dtype=np.uint8)
GREY = RGB[..., :1]
WIDE = GREY.astype(np.uint16) * 257


def alpha(images, dtype=np.uint8):
    return np.concatenate([images, np.full((*images.shape[:3], 1), 90, dtype)], axis=-1)


def grey(images):
    return np.repeat(images, 3, axis=-1)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A function that stores columns as a set and opens it."""

    def made(features, columns, supervised_keys=None, **keys):
        features = F.FeaturesDict(features)

        def rows():
            for i in range(COUNT):
                yield {key: column[i] for key, column in columns.items()}

        info = features.get_tensor_info()
        signature = tf.nest.map_structure(lambda each: tf.TensorSpec(each.shape, each.tf_dtype), info)
        tfds.dataset_builders.store_as_tfds_dataset(
            name="tiny_set",
            version="1.0.0",
            features=features,
            split_datasets={"train": tf.data.Dataset.from_generator(rows, output_signature=signature)},
            data_dir=tmp_path,
            disable_shuffling=True,
        )
        builder = tfds.builder("tiny_set", data_dir=tmp_path)
        monkeypatch.setattr(type(builder.info), "supervised_keys", supervised_keys)
        monkeypatch.setattr(tfds, "builder", lambda name, **where: builder)
        return datasets.open_dataset(DatasetSpec("tiny_set", **keys))

    return made


GOOD = {
    "RGB": (F.Image(shape=(8, 9, 3)), RGB, RGB),
    "any size": (F.Image(), RGB, RGB),
    "JPEG's default, stored as PNG": (F.Image(shape=(8, 9, 3), encoding_format="png"), RGB, RGB),
    "grey": (F.Image(shape=(8, 9, 1)), GREY, grey(GREY)),
    "grey of any size": (F.Image(shape=(None, None, 1)), GREY, grey(GREY)),
    "RGBA": (F.Image(shape=(8, 9, 4)), alpha(RGB), RGB),
    "RGBA of any size": (F.Image(shape=(None, None, 4)), alpha(RGB), RGB),
    "16 bits": (F.Image(shape=(8, 9, 1), dtype=np.uint16), WIDE, grey(GREY)),
    "16 bits of any size": (F.Image(shape=(None, None, 1), dtype=np.uint16), WIDE, grey(GREY)),
    "16 bits, dark": (F.Image(shape=(8, 9, 1), dtype=np.uint16), WIDE // 257, grey(np.round(GREY / 257))),
    "16 bits, RGB": (F.Image(shape=(8, 9, 3), dtype=np.uint16), RGB.astype(np.uint16) * 257, RGB),
    "16 bits, RGBA": (
        F.Image(shape=(8, 9, 4), dtype=np.uint16),
        alpha(RGB.astype(np.uint16) * 257, np.uint16),
        RGB,
    ),
    "tensor": (F.Tensor(shape=(8, 9, 3), dtype=np.uint8), RGB, RGB),
    "grey tensor": (F.Tensor(shape=(8, 9, 1), dtype=np.uint8), GREY, grey(GREY)),
}


@pytest.mark.parametrize(("feature", "images", "expected"), GOOD.values(), ids=GOOD)
def test_images_by_value(store, feature, images, expected):
    source = store({"image": feature, "label": NAMES}, {"image": images, "label": LABELS})
    rows = list(datasets.require_good_images(source.examples("train", 0, COUNT)))
    assert [row.label for row in rows] == LABELS.tolist()
    assert {(row.image.dtype, row.image.shape) for row in rows} == {(np.dtype(np.uint8), (8, 9, 3))}
    np.testing.assert_array_equal([row.image for row in rows], expected)


FLOATS = GREY.astype(np.float32) / 255
REFUSED = {
    "float image": (
        {"image": F.Image(shape=(8, 9, 1), dtype=np.float32), "label": NAMES},
        {"image": FLOATS, "label": LABELS},
        r"image: Image float32 \(8, 9, 1\)",
    ),
    "float tensor": (
        {"picture": F.Tensor(shape=(8, 9, 3), dtype=np.float32), "label": NAMES},
        {"picture": grey(FLOATS), "label": LABELS},
        r"picture: Tensor float32 \(8, 9, 3\)",
    ),
    "16-bit tensor, which may be of 12": (
        {"image": F.Tensor(shape=(8, 9, 1), dtype=np.uint16), "label": NAMES},
        {"image": WIDE, "label": LABELS},
        r"image: Tensor uint16 \(8, 9, 1\)",
    ),
    "grey and alpha, which TensorFlow does not decode": (
        {"image": F.Image(shape=(8, 9, 2)), "label": NAMES},
        {"image": alpha(GREY), "label": LABELS},
        r"image: Image uint8 \(8, 9, 2\)",
    ),
    "tensor of five channels": (
        {"image": F.Tensor(shape=(8, 9, 5), dtype=np.uint8), "label": NAMES},
        {"image": np.repeat(GREY, 5, axis=-1), "label": LABELS},
        r"It has image: Tensor uint8 \(8, 9, 5\); label: ClassLabel int64 \(\)",
    ),
    "integers for labels": (
        {"image": F.Image(shape=(8, 9, 3)), "label": np.int64},
        {"image": RGB, "label": LABELS},
        r"its class labels \[\]; .*label: \w+ int64 \(\).*Choose with --label-key label",
    ),
    "text for labels": (
        {"image": F.Image(shape=(8, 9, 3)), "label": F.Text()},
        {"image": RGB, "label": [["red", "green", "blue"][label] for label in LABELS]},
        r"its class labels \[\]; .*label: Text",
    ),
    "several labels an image": (
        {"image": F.Image(shape=(8, 9, 3)), "labels": F.Sequence(NAMES)},
        {"image": RGB, "labels": [[label, label] for label in LABELS]},
        r"its class labels \[\]; .*labels holds several of .*labels: Sequence int64 \(None,\)",
    ),
    "two images": (
        {"image": F.Image(shape=(8, 9, 3)), "image2": F.Image(shape=(8, 9, 3)), "label": NAMES},
        {"image": RGB, "image2": RGB, "label": LABELS},
        r"its images are \['image', 'image2'\].*Choose with --image-key image or image2",
    ),
    "no labels": (
        {"image": F.Image(shape=(8, 9, 3)), "score": np.float32},
        {"image": RGB, "score": np.zeros(COUNT, np.float32)},
        r"its class labels \[\]; .*the images are unlabelled",
    ),
    "objects": (
        {"image": F.Image(shape=(8, 9, 3)), "objects": F.Sequence({"label": NAMES})},
        {"image": RGB, "objects": [{"label": [label]} for label in LABELS]},
        r"objects holds several of one image \(multi-label\), which is not supported",
    ),
}


@pytest.mark.parametrize(("features", "columns", "described"), REFUSED.values(), ids=REFUSED)
def test_what_is_uncertain_is_refused_with_its_key_dtype_and_shape(store, features, columns, described):
    with pytest.raises(DatasetError, match=described) as error:
        store(features, columns)
    message = str(error.value)
    assert "; expected one" in message or "is not known; expected an Image of uint8 or uint16" in message
    assert "It has " in message
    assert re.search(r"Write what you need of it to an \.npz file|Choose with --(image|label)-key ", message)
    assert "\n" not in message


def test_numbers_are_no_ids(store):
    """They often count from 0 in each split, or are all 0: rows of different splits would have one id."""
    columns = {"image": RGB, "label": LABELS, "id": np.zeros(COUNT, np.int64)}
    source = store({"image": F.Image(shape=(8, 9, 3)), "label": NAMES, "id": np.int64}, columns)
    ids = [row.id for row in source.examples("train", 0, COUNT)]
    assert ids == [f"tiny_set-train.tfrecord-00000-of-00001__{i}" for i in range(COUNT)]


def test_texts_are_ids(store):
    columns = {"image": RGB, "label": LABELS, "id": [f"x{i}" for i in range(COUNT)]}
    source = store({"image": F.Image(shape=(8, 9, 3)), "label": NAMES, "id": F.Text()}, columns)
    assert [row.id for row in source.examples("train", 0, COUNT)] == columns["id"]


def test_supervised_keys_choose_among_several(store):
    features = {"image": F.Image(shape=(8, 9, 3)), "mask": F.Image(shape=(8, 9, 1)), "label": NAMES}
    columns = {"image": RGB, "mask": GREY, "label": LABELS}
    source = store(features, columns, supervised_keys=("image", "label"))
    np.testing.assert_array_equal(next(source.examples("train", 0, 1)).image, RGB[0])


# ---- keys that a user names


def test_the_named_image_is_taken(store):
    features = {"image": F.Image(shape=(8, 9, 3)), "mask": F.Image(shape=(8, 9, 1)), "label": NAMES}
    columns = {"image": RGB, "mask": GREY, "label": LABELS}
    source = store(features, columns, supervised_keys=("image", "label"), image_key="mask")
    np.testing.assert_array_equal([row.image for row in source.examples("train", 0, COUNT)], grey(GREY))


OTHER_LABELS = {
    "whole numbers from 1": (np.int64, LABELS + 1, ("1", "2", "3")),
    "whole numbers with gaps": (np.uint8, LABELS.astype(np.uint8) * 5 + 2, ("2", "7", "12")),
    "text": (F.Text(), [["red", "green", "blue"][label] for label in LABELS], ("blue", "green", "red")),
    "yes and no": (np.bool_, LABELS == 1, ("False", "True")),
}


@pytest.mark.parametrize("kind", OTHER_LABELS)
def test_named_labels_that_are_not_numbered_from_zero(store, kind):
    feature, labels, class_names = OTHER_LABELS[kind]
    source = store(
        {"image": F.Image(shape=(8, 9, 3)), "kind": feature}, {"image": RGB, "kind": labels}, label_key="kind"
    )
    assert source.class_names == class_names
    rows = list(source.examples("train", 0, COUNT))
    assert [class_names[row.label] for row in rows] == [str(label) for label in labels]
    assert source.labels("train").tolist() == [row.label for row in rows]
    assert [row.label for row in source.examples("train", 2, 4)] == [row.label for row in rows[2:4]]
    np.testing.assert_array_equal([row.image for row in rows], RGB)


WRONG_KEYS = {
    "no such image": ({"image_key": "img"}, r"tiny_set has no 'img'.*It has image: Image uint8 .*; label: ClassLabel"),
    "no such label": ({"label_key": "lable"}, "tiny_set has no 'lable'; did you mean label"),
    "an image for a label": ({"label_key": "image"}, r"its class labels \['image'\]; expected one ClassLabel"),
    "a label for an image": ({"image_key": "label"}, "cannot use the images of tiny_set, label: ClassLabel int64"),
    "negative": ({"label_key": "score"}, "score of tiny_set: labels range from -1 to 1; expected 0 or more"),
}


@pytest.mark.parametrize("name", WRONG_KEYS)
def test_keys_that_do_not_fit(store, name):
    keys, message = WRONG_KEYS[name]
    features = {"image": F.Image(shape=(8, 9, 3)), "label": NAMES, "score": np.int64}
    with pytest.raises(DatasetError, match=message):
        store(features, {"image": RGB, "label": LABELS, "score": LABELS - 1}, **keys)


def test_images_without_a_label_are_refused_when_they_are_read(store):
    source = store({"image": F.Image(shape=(8, 9, 3)), "label": NAMES}, {"image": RGB, "label": [0, 1, 2, -1, -1, 0]})
    with pytest.raises(DatasetError, match=r"row 3 of 'train' of tiny_set has no label \(-1\); choose splits"):
        list(source.examples("train", 1, COUNT))


@pytest.mark.usefixtures("tiny_backbone")
def test_from_named_keys_to_a_prediction(store, features, settings, tmp_path):
    """The dataset is opened again by the export, with the same keys."""
    columns = {"image": GREY, "picture": RGB, "kind": LABELS + 1}
    shapes = {"image": F.Image(shape=(8, 9, 1)), "picture": F.Image(shape=(8, 9, 3)), "kind": np.int64}
    keys = {"image_key": "picture", "label_key": "kind"}
    store(shapes, columns, **keys)
    spec = DatasetSpec("tiny_set", train_split="train[:4]", test_split="train[4:]", **keys)
    path = tfl.precompute(features, spec, settings)
    cache = tfl.open_cache(path)
    assert cache.class_names == ("1", "2", "3")
    assert [*cache.read("train").labels, *cache.read("test").labels] == LABELS.tolist()
    run = tfl.train(path, tfl.Ridge(), runs_dir=tmp_path / "runs")
    assert tfl.export(run, tmp_path / "model", artefact=tfl.Artefact("keras")).same_class == 1
    files = [tmp_path / f"{row}.png" for row in range(COUNT)]
    for file, image in zip(files, RGB, strict=True):
        Image.fromarray(image).save(file)
    expected = tfl.load_model(run).predict(RGB, verbose=0)  # (n, c)
    for answer, probabilities in zip(tfl.predict(tmp_path / "model", files), expected, strict=True):
        assert answer.class_name == "123"[probabilities.argmax()]
        np.testing.assert_allclose(list(answer.probabilities.values()), probabilities, atol=1e-5)
