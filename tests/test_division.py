"""Datasets without splits, which are divided by their images' hashes."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from tfl import datasets
from tfl.datasets.division import ALL, Division, hash_key
from tfl.errors import DatasetError, SpecError
from tfl.specs import DatasetSpec


class Undivided(datasets.Dataset):
    """Ids without images, in two classes by turns."""

    name, version, class_names = "undivided", "1", ("a", "b")

    def __init__(self, ids, spec):
        self.ids, self.seed = ids, spec.split_seed
        self.division = Division.from_spec(spec)
        self.num_rows = {ALL: len(ids)}

    def id_hashes(self, split):
        return np.asarray([hash_key(id_.encode(), self.seed) for id_ in self.ids], np.uint64)


def divide(ids, **fields):
    """Return the ids of each role."""
    spec = DatasetSpec("undivided", **fields)
    dataset = Undivided(ids, spec)
    resolved = datasets.resolve_spec(spec, dataset)
    return {
        role: [ids[row] for piece in datasets.select_rows(dataset, split) for row in piece.rows]
        for role, split in resolved.roles.items()
    }


IDS = [f"{number:05d}" for number in range(2000)]


def test_a_fifth_is_for_testing():
    parts = divide(IDS)
    assert list(parts) == ["train", "test"]
    assert sorted(parts["train"] + parts["test"]) == IDS
    assert 0.17 < len(parts["test"]) / len(IDS) < 0.23


def test_validation_images_come_from_training_images_alone():
    before, after = divide(IDS), divide(IDS, val_fraction=0.1)
    assert after["test"] == before["test"]
    assert sorted(after["train"] + after["val"]) == before["train"]
    assert 0.08 < len(after["val"]) / len(IDS) < 0.12


def test_images_stay_in_their_parts_when_others_are_added():
    before, after = divide(IDS[::3], val_fraction=0.1), divide(IDS, val_fraction=0.1)
    for role, ids in before.items():
        assert set(ids) <= set(after[role])


def test_another_seed_divides_in_another_way():
    first, second = divide(IDS), divide(IDS, split_seed=1)
    assert 0 < len({*first["test"]} & {*second["test"]}) < 0.4 * len(first["test"])


def test_slices_of_a_part_are_parts_of_it():
    whole, half = divide(IDS, val_fraction=0.1), divide(IDS, val_fraction=0.1, train_split="train[50%:]")
    assert set(half["train"]) < set(whole["train"])
    assert 0.4 < len(half["train"]) / len(whole["train"]) < 0.6
    assert half["test"] == whole["test"]


def test_no_test_part_leaves_the_role_out():
    assert divide(IDS, test_fraction=0.0) == {"train": IDS}


def test_a_resolved_spec_selects_the_same_images():
    spec = DatasetSpec("undivided", val_fraction=0.15, test_fraction=0.25, split_seed=3)
    dataset = Undivided(IDS, spec)
    resolved = datasets.resolve_spec(spec, dataset)
    assert resolved.to_json() == (
        '{"dataset":"undivided","split_seed":3,"test_split":"all[0%:25%]","train_split":"all[40%:100%]",'
        '"val_split":"all[25%:40%]","version":"1"}'
    )
    again = datasets.resolve_spec(DatasetSpec.from_json(resolved.to_json()), Undivided(IDS, resolved))
    assert again == resolved


def test_shares_are_exact_in_decimal():
    division = Division.from_spec(DatasetSpec(val_fraction=0.1, test_fraction=0.2))
    assert division.parts["train"] == (Decimal(30), Decimal(100))


def test_a_seed_of_zero_hashes_the_key_alone():
    """Percent slices of folders were so before there were seeds."""
    assert hash_key(b"cat/1.png") == 7654857389013485074


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "less than 1 together; got 0.5 and 0.5"),
        ({"test_fraction": -0.1}, "0 or more"),
        ({"test_fraction": float("nan")}, "0 or more"),
    ],
)
def test_shares_that_leave_nothing_to_train_on(fields, message):
    with pytest.raises(SpecError, match=message):
        DatasetSpec(**fields)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"train_split": "train[:100]"}, SpecError, r"expected a slice in percent, such as train\[:50%\]"),
        ({"val_split": "val"}, DatasetError, "no split 'val'; it has all, train, test"),
        ({"train_split": "all"}, DatasetError, "share images"),
    ],
)
def test_splits_that_a_division_does_not_have(fields, error, message):
    with pytest.raises(error, match=message):
        divide(IDS, **fields)


@pytest.mark.parametrize("fields", [{"val_fraction": 0.1}, {"test_fraction": 0.1}, {"split_seed": 1}])
def test_a_dataset_with_splits_is_not_divided(fields, tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, train_images=np.zeros((2, 4, 4, 3), np.uint8), train_labels=[0, 1])
    spec = DatasetSpec(str(path), test_split="", **fields)
    with pytest.raises(SpecError, match="has its own: train; choose among them"):
        datasets.open_dataset(spec)
    datasets.open_dataset(replace(spec, val_fraction=0.0, test_fraction=0.2, split_seed=0))


def test_a_key_that_a_source_has_no_use_for(tmp_path):
    path = tmp_path / "images.npz"
    np.savez(path, train_images=np.zeros((2, 4, 4, 3), np.uint8), train_labels=[0, 1])
    with pytest.raises(SpecError, match="--group-key means nothing for .*, an .npz file; it takes none"):
        datasets.open_dataset(DatasetSpec(str(path), group_key="patient"))
