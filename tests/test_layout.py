"""A folder's splits and classes: what has no image, and what has no class, is an error that names it."""

import os
import shutil

import pytest
from PIL import Image
from test_datasets import opened

from tfl import datasets
from tfl.datasets import heif, walk
from tfl.errors import DatasetError
from tfl.extraction.precompute import precompute
from tfl.specs import DatasetSpec, Settings


@pytest.fixture
def without_heif(monkeypatch):
    """As where pillow-heif is not installed."""
    monkeypatch.setattr(heif, "is_readable", lambda: False)


def class_of(folder, *contents, split="train"):
    """A class folder `bird` with some empty files."""
    path = folder / split / "bird"
    for name in contents:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"")
    path.mkdir(exist_ok=True)
    return path


@pytest.mark.parametrize(
    ("contents", "described"),
    [
        ((), "it is empty"),
        (("a.HEIC", "b.heic", "c.Heif"), r"3 files, .heic \(2\), .heif \(1\)"),
        (("a.txt", "b", "c.TXT", "sub/d.csv"), r"4 files, .txt \(2\), no suffix \(1\), .csv \(1\)"),
        ((".a.png", "._b.jpg", ".thumbs/c.png"), r"3 files, hidden \(3\)"),
    ],
    ids=["empty", "heic", "others", "hidden"],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_folder_without_an_image_is_an_error(folder, without_heif, contents, described, split):
    class_of(folder, *contents, split=split)
    with pytest.raises(DatasetError, match=f"class folders without an image:\n  {split}/bird: {described}\n") as error:
        opened(folder)
    assert "expected files ending in .avif .bmp .gif" in str(error.value)
    assert ("pip install '.[heic]'" in str(error.value)) == (contents[:1] == ("a.HEIC",))


def test_all_such_folders_are_named(folder):
    for split in ("train", "test"):
        class_of(folder, split=split)
    (folder / "train" / "fish").mkdir()
    with pytest.raises(DatasetError, match="\n  test/bird: .*\n  train/bird: .*\n  train/fish: it is empty\n"):
        opened(folder)


def test_a_pipe_is_no_image_of_a_class(folder):
    os.mkfifo(class_of(folder) / "pipe.png")
    with pytest.raises(DatasetError, match=r"train/bird: 1 files, .png that is no regular file \(1\)"):
        opened(folder)


def test_splits_that_are_not_used_may_hold_anything(folder):
    class_of(folder, "a.txt", split="test")
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "test" / "stray.png")
    assert opened(folder, test_split="").class_names == ("cat", "dog")


def test_hidden_class_folders_are_passed_over(folder):
    (folder / "train" / ".bird").mkdir()
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "train" / ".bird" / "0.png")
    assert opened(folder).class_names == ("cat", "dog")


@pytest.mark.parametrize("place", ["train", "test", "."])
def test_images_in_no_class_folder_are_an_error(folder, place):
    shutil.copy(folder / "train" / "cat" / "0.png", folder / place / "stray.PNG")
    name = "stray.PNG" if place == "." else f"{place}/stray.PNG"
    with pytest.raises(DatasetError, match=f"images in no class folder, 1 in all:\n  {name}\nexpected root/<split>"):
        opened(folder)


def test_a_split_of_nothing_but_such_images(folder):
    shutil.rmtree(folder / "train")
    (folder / "train").mkdir()
    shutil.copy(folder / "test" / "cat" / "0.png", folder / "train" / "0.png")
    with pytest.raises(DatasetError, match="images in no class folder, 1 in all:\n  train/0.png"):
        opened(folder)


def test_a_class_folder_beside_the_splits_is_an_error(folder):
    shutil.copytree(folder / "train" / "cat", folder / "bird")
    with pytest.raises(DatasetError, match="mixes two layouts: test, train would be splits, and bird would be classes"):
        opened(folder)


def test_images_in_a_split_that_is_not_used_are_said(folder, caplog):
    """As in many competitions: the test images have no labels."""
    shutil.rmtree(folder / "test")
    shutil.copytree(folder / "train" / "cat", folder / "test")
    assert opened(folder, test_split="").num_rows == {"train": 12}
    assert f"skipped 6 images in {folder}/test, which are in no class folder" in caplog.text


def test_files_that_are_passed_over_are_counted_by_suffix(folder, caplog, without_heif):
    for name in ("a.txt", "b.TXT", "c.HEIC", "d\x1b", ".e.png"):
        (folder / "train" / "cat" / name).write_bytes(b"")
    (folder / "test" / "list.csv").write_bytes(b"")
    opened(folder)
    counted = "skipped 6 files, hidden or no images by their names: .txt (2), "
    assert counted in caplog.text
    for kind in (".heic (1)", "hidden (1)", "no suffix (1)", ".csv (1)", "pip install '.[heic]'"):
        assert kind in caplog.text
    assert "\x1b" not in caplog.text


# --- links


def test_linked_folders_in_a_class_are_followed(folder, tmp_path):
    for split in ("train", "test"):
        (tmp_path / "store").mkdir(exist_ok=True)
        shutil.move(folder / split / "dog", tmp_path / "store" / split)
        (folder / split / "dog").mkdir()
        (folder / split / "dog" / "more").symlink_to(tmp_path / "store" / split)
    source = opened(folder)
    assert source.num_rows == {"train": 12, "test": 6}
    rows = list(datasets.require_good_images(source.examples("train", 0, 12)))
    assert [row.id for row in rows][6:] == [f"train/dog/more/{i}.png" for i in range(6)]
    assert {row.label for row in rows[6:]} == {1}


@pytest.mark.parametrize("target", [".", "..", "../..", "/"])
def test_a_ring_is_cut_and_said(folder, caplog, target):
    version = opened(folder).version
    (folder / "train" / "dog" / "ring").symlink_to(target)
    source = opened(folder)
    assert (source.version, source.num_rows) == (version, {"train": 12, "test": 6})
    assert f"skipped {folder}/train/dog/ring: it leads back to a folder that holds it" in caplog.text


def test_a_ring_through_a_linked_class_folder(folder, tmp_path):
    version = opened(folder).version
    shutil.move(folder / "train" / "dog", tmp_path / "dogs")
    (folder / "train" / "dog").symlink_to(tmp_path / "dogs")
    (tmp_path / "dogs" / "ring").symlink_to(folder / "train")
    (tmp_path / "dogs" / "self").symlink_to(tmp_path / "dogs")
    assert opened(folder).version == version


def test_linked_splits(folder, tmp_path):
    version = opened(folder).version
    shutil.move(folder / "train", tmp_path / "elsewhere")
    (folder / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "dog" / "ring").symlink_to(tmp_path / "elsewhere")
    assert opened(folder).version == version


@pytest.mark.parametrize("name", ["bird", "cat/more"])
def test_a_link_to_another_class_would_give_its_images_two_labels(folder, name):
    (folder / "train" / name).symlink_to(folder / "train" / "dog")
    with pytest.raises(DatasetError, match="are the same folder of .*, in two classes"):
        opened(folder)


def test_one_folder_for_a_class_of_two_splits(folder):
    shutil.rmtree(folder / "test" / "dog")
    (folder / "test" / "dog").symlink_to(folder / "train" / "dog")
    assert opened(folder).num_rows == {"train": 12, "test": 9}


@pytest.mark.parametrize("name", ["bird", "dog/more"])
def test_a_link_to_a_folder_that_is_gone_is_an_error(folder, name):
    (folder / "train" / name).symlink_to("gone")
    with pytest.raises(DatasetError, match=f"that cannot be read:\n  train/{name}: it is a link that leads nowhere\n"):
        opened(folder)
    assert opened(folder, train_split="test", test_split="").num_rows["train"] == 12


def test_a_folder_that_cannot_be_listed_is_an_error(folder, monkeypatch):
    """As another user's: root, whom tests may run as, can list everything."""
    scan = walk.scan

    def refusing(path):
        if path == folder / "train" / "cat":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(walk, "scan", refusing)
    with pytest.raises(DatasetError, match="that cannot be read:\n  train/cat: Permission denied\nrepair or remove"):
        opened(folder)


# --- classes all of whose images are bad


def test_a_class_that_skipping_would_empty_is_an_error(folder, tmp_path):
    for path in (folder / "train" / "dog").iterdir():
        path.write_bytes(b"none")
    settings = Settings(cache_dir=tmp_path / "cache", on_bad_image="skip")
    with pytest.raises(DatasetError, match=r"none of the 6 images of train/dog in .* \(they end in .png\): .*0.png is"):
        precompute(_tiny(), DatasetSpec(str(folder)), settings)
    assert not (tmp_path / "cache").exists()


def _tiny():
    from tfl.specs import FeatureSpec

    return FeatureSpec(backbone="mobilenetv2", weights="random", image_size=32)


def test_the_version_is_that_of_earlier_releases(tmp_path):
    """Its bytes are the caches' names: a change of the listing may not change it."""
    for split, name, value in (("train", "a", 1), ("train", "b", 2), ("test", "a", 3), ("test", "b", 4)):
        path = tmp_path / "set" / split / name / "sub" / "0.ppm"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"P6 1 1 255 " + bytes([value] * 3))
        (path.parents[1] / "Z.PPM").write_bytes(b"P6 1 1 255 " + bytes([9, value, 9]))
    Image.new("RGB", (1, 1)).save(tmp_path / "set" / "train" / ".hidden.png")
    assert opened(tmp_path / "set").version == "sha256:5d9d87793831bab734b144a1c5054b371fc302930e7e0042586f10fcb9a1caa3"
