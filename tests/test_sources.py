"""Which dataset a word means: by its prefix, or by what is there under that name."""

import builtins
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import write_npz

from tfl import datasets
from tfl.datasets import tfds_builder
from tfl.errors import DatasetError, SpecError
from tfl.specs import DatasetSpec


@pytest.fixture
def no_tfds(monkeypatch):
    """Importing TensorFlow Datasets fails the test."""
    import_module = builtins.__import__

    def refuse(name, *arguments, **options):
        if name.split(".")[0] == "tensorflow_datasets":
            pytest.fail("TFDS was imported")
        return import_module(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """A working directory with the folder `pets`, the same folder as `cifar10`, and `colours.npz`."""
    (tmp_path / "cifar10").symlink_to(folder)
    write_npz(tmp_path / "colours.npz", train=9, test=9)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def name_of_source(word):
    return datasets.find_source(word)[0].name


def test_a_prefix_chooses_the_source(here):
    for word, name in [("tfds:cifar10", "tfds"), ("folder:cifar10", "folder"), ("npz:colours.npz", "npz")]:
        assert name_of_source(word) == name


def test_a_word_without_prefix_is_what_is_there(here):
    assert name_of_source("pets") == "folder"
    assert name_of_source("./cifar10") == "folder"
    assert name_of_source(str(here / "cifar10")) == "folder"
    assert name_of_source("colours.npz") == "npz"
    assert name_of_source("nowhere.npz") == "npz"
    assert name_of_source("mnist") == "tfds"


@pytest.mark.parametrize("word", ["cifar10", "cifar10/train"])
def test_a_folder_does_not_hide_the_tfds_name(here, word):
    message = f"'{word}' could be .* a TensorFlow Datasets name; say which one is meant: folder:{word} or tfds:{word}$"
    with pytest.raises(DatasetError, match=message):
        datasets.open_dataset(DatasetSpec(word))


def test_a_folder_hides_nothing_where_there_is_no_tfds(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert name_of_source("cifar10") == "folder"


def test_a_dataset_that_tfds_has_prepared_is_a_name_too(here, monkeypatch):
    (here / "store" / "pets" / "1.0.0").mkdir(parents=True)
    (here / "store" / "pets" / "1.0.0" / "dataset_info.json").touch()
    (here / "store" / "downloads").mkdir()
    monkeypatch.setattr(tfds_builder, "_data_dir", lambda: str(here / "store"))
    assert tfds_builder.is_known_name("pets")
    assert not tfds_builder.is_known_name("downloads")
    assert not tfds_builder.is_known_name("no_such_set")


def test_tfds_is_not_imported_for_what_cannot_be_its_name(here, no_tfds):
    for word in ("./pets", str(here / "pets"), "colours.npz", "folder:cifar10", "npz:colours.npz"):
        datasets.open_dataset(DatasetSpec(word))


@pytest.mark.parametrize("prefix", ["", "folder:"])
def test_a_prefix_does_not_reach_the_resolved_spec(here, prefix):
    spec = DatasetSpec(f"{prefix}pets")
    resolved = datasets.resolve_spec(spec, datasets.open_dataset(spec))
    assert resolved == replace(resolved, dataset="pets")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("folder:nowhere", "there is no folder nowhere"),
        ("npz:nowhere", "there is no file nowhere"),
        ("folder:colours.npz", "there is no folder colours.npz"),
    ],
)
def test_what_is_not_there(here, word, message):
    with pytest.raises(DatasetError, match=message):
        datasets.open_dataset(DatasetSpec(word))


def test_a_prefix_alone_names_nothing():
    with pytest.raises(SpecError, match="'npz:' has nothing after its prefix; expected an .npz file"):
        datasets.open_dataset(DatasetSpec("npz:"))


def test_paths_are_recorded_as_they_can_be_found_from_anywhere(here):
    (here / "colours.npz").rename(here / "colours")
    for word, recorded in [
        ("pets", str(here / "pets")),
        ("folder:pets", str(here / "pets")),
        ("npz:colours", f"npz:{here / 'colours'}"),
        ("mnist", "mnist"),
        ("tfds:cifar10", "tfds:cifar10"),
    ]:
        assert datasets.make_findable(word) == recorded


@pytest.mark.parametrize(
    ("word", "version", "found", "is_path"),
    [
        ("cifar10", "3.0.2", "tfds:cifar10", False),  # not the folder of that name
        ("tfds:cifar10", "3.0.2", "tfds:cifar10", False),
        ("/gone/cifar10.npz", "3.0.2", "tfds:cifar10", False),
        ("{here}/colours.npz", "3.0.2", "{here}/colours.npz", True),
        ("{here}/pets", "sha256:0", "{here}/pets", True),
        ("npz:{here}/gone", "sha256:0", "npz:{here}/gone", True),
        ("/gone/pets", "sha256:0", "/gone/pets", True),
    ],
)
def test_the_dataset_of_a_cache_is_found_again(here, word, version, found, is_path):
    spec = DatasetSpec("cifar10", version=version)
    assert datasets.find_recorded(word.format(here=here), spec) == (found.format(here=here), is_path)


def test_an_npz_file_may_have_another_suffix(here):
    (here / "colours.npz").rename(here / "colours.zip")
    source = datasets.open_dataset(DatasetSpec("npz:colours.zip"))
    assert source.name == "colours"
    assert np.asarray([example.label for example in source.examples("train", 0, 9)]).max() < 3
