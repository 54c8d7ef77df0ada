"""Provenance as a record: fields that a stranger's file may hold anything in, and those that the format demands."""

import pytest

from tfl.cache.provenance import SkippedImage, Typed, read_provenance
from tfl.errors import CacheError

TYPED = {"dataset": "cifar10", "weights": "imagenet"}
BAD = {"id": "a.png", "reason": "cut short"}


def test_known_fields_have_types_and_the_rest_is_kept():
    values = {"typed": TYPED, "engine": "openvino", "batch_size": 32, "max_image_pixels": 9, "note": [1]}
    found = read_provenance(values)
    assert found.typed == Typed("cifar10", "imagenet")
    assert (found.engine, found.batch_size, found.max_image_pixels) == ("openvino", 32, 9)
    assert (found.skipped, found.num_skipped) == ((), 0)
    assert found.values == values


def test_skipped_images_are_counted_where_no_number_is_given():
    found = read_provenance({"typed": TYPED, "skipped": [BAD]})
    assert (found.skipped, found.num_skipped) == ((SkippedImage("a.png", "cut short"),), 1)
    assert read_provenance({"typed": TYPED, "skipped": [BAD], "num_skipped": 7}).num_skipped == 7


@pytest.mark.parametrize("odd", [None, 0, -1, 2.5, True, "3", [3], {}])
def test_odd_values_of_optional_fields_count_as_absent(odd):
    found = read_provenance({"typed": TYPED, "batch_size": odd, "max_image_pixels": odd})
    assert (found.batch_size, found.max_image_pixels) == (None, None)
    assert read_provenance({"typed": TYPED, "engine": [odd]}).engine is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "provenance.typed is None; expected texts for dataset, weights"),
        ({"typed": {"dataset": "x"}}, "provenance.typed is .*; expected texts for dataset, weights"),
        ({"typed": TYPED, "skipped": [{"id": 1, "reason": "x"}]}, "provenance.skipped is .*; expected texts"),
        ({"typed": TYPED, "skipped": [BAD], "num_skipped": 0}, "provenance.num_skipped is 0; expected 1 or more"),
    ],
)
def test_what_the_format_demands_is_named(values, message):
    with pytest.raises(CacheError, match=message):
        read_provenance(values)
