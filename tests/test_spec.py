from dataclasses import fields, replace

import pytest

from tfl.errors import SpecError
from tfl.specs import CacheSpec, DatasetSpec, FeatureSpec, Settings, list_differences, require_views

FEATURES = FeatureSpec(weights="sha256:ab")
INT8_FEATURES = replace(FEATURES, compute_dtype="int8", quantized_network="sha256:12")
SPEC = CacheSpec(FEATURES, DatasetSpec(version="3.0.2"))
OTHER_VALUES = {
    "backbone": "vgg16",
    "weights": "sha256:cd",
    "image_size": 160,
    "resize_mode": "crop",
    "interpolation": "bicubic",
    "antialias": True,
    "layers": ("conv4_block6_out", "last"),
    "pooling": ("avg", "max"),
    "compute_dtype": "bfloat16",
    "quantized_network": "sha256:ef",
    "feature_dtype": "float16",
    "revision": 2,
}


def test_json_round_trip():
    assert CacheSpec.from_json(SPEC.to_json()) == SPEC


def test_fingerprint_is_that_of_format_1():
    """Golden: a change of it orphans every cache in the world."""
    assert SPEC.fingerprint == "dd20529726da77864253b92f65a15eabea6f92ea0c17da3738805bf717089047"
    assert SPEC.file_name == f"cifar10-resnet50-224-{SPEC.fingerprint[:12]}.h5"


@pytest.mark.parametrize("field", [field.name for field in fields(FeatureSpec)])
def test_every_feature_field_counts(field):
    before = replace(SPEC, features=INT8_FEATURES) if field == "quantized_network" else SPEC
    changed = replace(before, features=replace(before.features, **{field: OTHER_VALUES[field]}))
    assert changed.fingerprint != before.fingerprint
    (line,) = list_differences(before, changed)
    assert line.startswith(f"{field}: ")


def test_an_empty_quantized_network_is_not_written():
    """Specs of the other dtypes, and their fingerprints, are those of before the field existed."""
    assert "quantized_network" not in SPEC.to_json()
    assert FeatureSpec.from_json(FEATURES.to_json()) == FEATURES
    text = INT8_FEATURES.to_json()
    assert '"quantized_network":"sha256:12"' in text
    assert FeatureSpec.from_json(text) == INT8_FEATURES


def test_an_empty_quantized_network_that_is_written_is_accepted_and_changes_nothing():
    text = FEATURES.to_json().replace('"resize_mode"', '"quantized_network":"","resize_mode"')
    assert FeatureSpec.from_json(text) == FEATURES
    assert FeatureSpec.from_json(text).to_json() == FEATURES.to_json()


@pytest.mark.parametrize(
    ("spec", "is_resolved"),
    [
        (INT8_FEATURES, True),
        (replace(INT8_FEATURES, quantized_network=""), False),
        (replace(INT8_FEATURES, quantized_network="net.int8.zip"), False),
        (replace(INT8_FEATURES, weights="imagenet"), False),
        (replace(FEATURES, compute_dtype="auto"), False),
    ],
)
def test_int8_is_resolved_with_the_digest_of_its_network(spec, is_resolved):
    assert spec.is_resolved is is_resolved
    if not is_resolved:
        with pytest.raises(SpecError, match="only a resolved spec"):
            spec.fingerprint  # noqa: B018


def test_the_layers_of_a_network_to_quantise_are_float32():
    dtypes = ("float32", "bfloat16", "float16", "int8", "auto")
    layers = [replace(FEATURES, compute_dtype=dtype).layer_dtype for dtype in dtypes]
    assert layers == ["float32", "bfloat16", "float16", "float32", "float32"]


@pytest.mark.parametrize("field", [field.name for field in fields(DatasetSpec)])
def test_every_dataset_field_counts(field):
    other = {"val_fraction": 0.1, "test_fraction": 0.1, "split_seed": 1}.get(field, "other")
    changed = replace(SPEC, dataset=replace(SPEC.dataset, **{field: other}))
    assert changed.fingerprint != SPEC.fingerprint
    assert len(list_differences(SPEC, changed)) == 1


def test_views_count():
    changed = replace(SPEC, views=("original", "hflip"))
    assert changed.fingerprint != SPEC.fingerprint
    assert CacheSpec.from_json(changed.to_json()) == changed
    assert list_differences(SPEC, changed) == ["views: original on disk, original hflip requested"]


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ((), "got none; try --views original"),
        (("hflip",), "views begin with original, and each is named once; got hflip; try --views original hflip"),
        (("hflip", "original"), "got hflip original; try --views original hflip"),
        (("original", "crop1", "crop1"), "got original crop1 crop1; try --views original crop1"),
        (("original", "vflip"), "CacheSpec.views is one of original, hflip, crop1, .*; got 'vflip'"),
        (["original"], "CacheSpec.views is a tuple"),
    ],
)
def test_views_that_no_cache_can_have(views, message):
    for refused in (lambda: replace(SPEC, views=views), lambda: require_views(views)):
        with pytest.raises(SpecError, match=message):
            refused()


def test_differences_show_both_values():
    requested = replace(SPEC, features=replace(FEATURES, image_size=160))
    assert list_differences(SPEC, requested) == ["image_size: 224 on disk, 160 requested"]
    assert list_differences(SPEC, SPEC) == []


def test_words_have_no_fingerprint():
    with pytest.raises(SpecError, match="only a resolved spec"):
        FeatureSpec().fingerprint  # noqa: B018
    with pytest.raises(SpecError, match="only a resolved spec"):
        CacheSpec(FEATURES, DatasetSpec()).fingerprint  # noqa: B018


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeatureSpec(image_size=0), "positive number of pixels, got 0"),
        (lambda: FeatureSpec(image_size=10**9), "image_size is at most 8,192 pixels, got 1000000000"),
        (lambda: DatasetSpec(dataset=""), "dataset is empty; expected a TFDS name, a folder or an .npz file"),
        (lambda: FeatureSpec(image_size=224.0), "image_size is of type int, got 224.0"),
        (lambda: FeatureSpec(antialias=1), "antialias is of type bool, got 1"),
        (lambda: FeatureSpec(interpolation="area"), "one of nearest, bilinear, .*; got 'area'"),
        (lambda: FeatureSpec(layers=()), "at least one layer"),
        (lambda: FeatureSpec(compute_dtype="int4"), "one of float32, bfloat16, .*; got 'int4'"),
        (
            lambda: FeatureSpec(quantized_network="a.zip"),
            "quantized_network is for compute_dtype int8, got 'a.zip' for float32",
        ),
        (lambda: FeatureSpec(pooling="avg"), "pooling is a tuple, got 'avg'"),
        (lambda: DatasetSpec(train_split="", test_split=""), "no split was given"),
        (lambda: Settings(batch_size=-1), "batch_size is at least 0 and shard_rows at least 1, got -1 and 1024"),
        (lambda: CacheSpec.from_json("no json"), "expected as JSON, got 'no json'"),
        (lambda: CacheSpec.from_json('{"features": {}}'), "has the fields"),
        (lambda: FeatureSpec.from_json('["a"]'), r"has the fields .*got \['a'\]"),
    ],
)
def test_wrong_values_are_refused(make, message):
    with pytest.raises(SpecError, match=message):
        make()


def test_roles_keep_their_order():
    spec = DatasetSpec(train_split="a", val_split="b", test_split="")
    assert list(spec.roles.items()) == [("train", "a"), ("val", "b")]
