"""What is an image file, and which folders are listed: one rule for a dataset's folders and for `predict`."""

import io
import os
import socket

import pytest
from PIL import Image

from tfl import datasets
from tfl.artefacts import predict
from tfl.datasets import files, walk
from tfl.errors import DatasetError
from tfl.specs import DatasetSpec


def picture(path, colour=(9, 9, 9)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), colour).save(path, "png")


@pytest.fixture
def photos(tmp_path):
    """Two images, and everything that looks like one and is none."""
    root = tmp_path / "photos"
    picture(root / "a.png")
    picture(root / "album.jpg" / "b.PNG")
    picture(root / "._a.png")
    picture(root / ".thumbnails" / "c.png")
    picture(root / "album.jpg" / ".trash" / "deep" / "d.png")
    (root / "notes.txt").write_text("none")
    (root / "no_suffix").write_bytes((root / "a.png").read_bytes())
    os.mkfifo(root / "pipe.png")
    (root / "device.png").symlink_to(os.devnull)
    (root / "empty.png").mkdir()
    return root


def found(*words, stdin=b""):
    return [str(image.path) for image in predict.find_images(map(str, words), io.BytesIO(stdin))]


def test_predict_and_datasets_take_the_same_files(photos, tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(photos / "s.png"))
        listed = found(photos)
    assert listed == [str(photos / "a.png"), str(photos / "album.jpg" / "b.PNG")]
    root = tmp_path / "dataset"
    (root / "train").mkdir(parents=True)
    (root / "train" / "x").symlink_to(photos)
    picture(root / "train" / "y" / "e.png")
    source = datasets.open_dataset(DatasetSpec(str(root), test_split=""))
    ids = [row.id for row in datasets.require_good_images(source.examples("train", 0, 3))]
    assert ids == ["train/x/a.png", "train/x/album.jpg/b.PNG", "train/y/e.png"]


def test_patterns_take_the_same_files(photos):
    images = [str(photos / "a.png"), str(photos / "album.jpg" / "b.PNG")]
    assert found(photos / "*") == images
    assert found(photos / "**") == images
    assert found(photos / "*.png") == images[:1]
    assert found(photos / "**" / "*.PNG") == images[1:]
    with pytest.raises(DatasetError, match="no image matches"):
        found(photos / ".*.png")


@pytest.mark.parametrize("name", ["pipe.png", "device.png"])
def test_what_is_no_file_is_refused_and_not_waited_for(photos, name):
    kind = "a named pipe" if name == "pipe.png" else "a socket or a device"
    with pytest.raises(DatasetError, match=rf"cannot read the image .*{name}: it is {kind}; expected a regular file"):
        datasets.read_image(photos / name)
    assert found(photos / name) == [str(photos / name)], "named by the user, it is said to be bad"
    with pytest.raises(DatasetError, match="it is a folder; expected a regular file"):
        datasets.read_image(photos / "album.jpg")


def test_a_link_that_leads_nowhere_is_a_bad_image(photos):
    (photos / "z.png").symlink_to("nowhere.png")
    (photos / "zz.png").symlink_to("zz.png")
    assert found(photos)[-2:] == [str(photos / "z.png"), str(photos / "zz.png")]


def test_links_to_folders_are_followed_and_rings_are_cut(photos, tmp_path, caplog):
    picture(tmp_path / "elsewhere" / "more.png")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path)
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    (photos / "self").symlink_to(photos)
    (photos / "album.jpg" / "top").symlink_to("/")
    expected = [photos / "a.png", photos / "album.jpg" / "b.PNG", photos / "linked" / "more.png"]
    assert files.list_images(photos) == expected
    for name in ("self", "album.jpg/top", "linked/up"):
        assert f"skipped {photos}/{name}: it leads back to a folder that holds it" in caplog.text
    assert found(photos / "**" / "*.png") == [str(photos / "a.png"), str(photos / "linked" / "more.png")]


def test_many_folders_that_link_to_one_another_end_and_are_listed_once(tmp_path):
    """Followed blindly, these are 12! ways."""
    folders = [tmp_path / "all" / f"{i:02d}" for i in range(12)]
    for folder in folders:
        picture(folder / "x.png")
    for folder in folders:
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other)
    assert files.list_images(tmp_path / "all") == [folder / "x.png" for folder in folders]
    assert found(tmp_path / "all" / "**" / "x.png") == [str(folder / "x.png") for folder in folders]


def test_a_folder_is_listed_under_its_real_name_and_files_under_each_of_theirs(tmp_path, caplog):
    picture(tmp_path / "all" / "real" / "x.png")
    (tmp_path / "all" / "alias").symlink_to("real")
    (tmp_path / "all" / "one.png").symlink_to("real/x.png")
    os.link(tmp_path / "all" / "real" / "x.png", tmp_path / "all" / "two.png")
    listed = files.list_images(tmp_path / "all")
    assert [path.relative_to(tmp_path / "all").as_posix() for path in listed] == ["one.png", "real/x.png", "two.png"]
    assert "alias: it is the same folder as" in caplog.text


def test_a_folder_that_cannot_be_listed_is_said(photos, monkeypatch, caplog):
    """As another user's: root, whom tests may run as, can list everything."""
    scan = walk.scan

    def refusing(folder):
        if folder.name == "album.jpg":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(walk, "scan", refusing)
    assert found(photos) == [str(photos / "a.png")]
    assert f"skipped {photos}/album.jpg: Permission denied" in caplog.text


def test_suffixes_in_any_case(tmp_path):
    for name in ("a.JPG", "b.Jpeg", "c.TIFF", "d.png", "e.xml", "f"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in files.list_images(tmp_path)] == ["a.JPG", "b.Jpeg", "c.TIFF", "d.png"]
