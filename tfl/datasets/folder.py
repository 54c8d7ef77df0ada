"""A folder of images, `root/<split>/<class>/*.png` or `root/<class>/*.png`."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tfl.datasets.division import ALL, Division, hash_key
from tfl.datasets.image_files import Examined, examine_image, read_ahead, require_unchanged
from tfl.datasets.images import decode_image, read_bytes
from tfl.datasets.layout import Layout, describe_loose, read_layout, warn_skipped
from tfl.datasets.layout_checks import require_classes, require_splits
from tfl.datasets.source import BadImage, Dataset, Example, Source, to_text
from tfl.datasets.splits import split_names
from tfl.errors import DatasetError
from tfl.files.paths import expand_user
from tfl.specs import DIGEST_PREFIX, MAX_IMAGE_PIXELS, DatasetSpec
from tfl.text import to_printable


class FolderDataset(Dataset):
    """Images in `root/<split>/<class>/`, in any format that Pillow reads, or HEIC; ids are their relative paths.

    Images in `root/<class>/` are divided by tfl: they are the one split `all`. Linked folders are
    followed. Hidden files and folders, and files with other suffixes, are skipped and counted.

    Opening the folder reads every file's header and hashes every file's content: a file that cannot
    be used is known before any time is spent, and a replaced image changes the version. A file that
    may be truncated is decoded at once; damage inside a file is found when its row is read.

    Args:
      root: the folder.
      spec: the splits that will be used, the training split first; it decides the class names. The
        shares and the seed divide a folder of classes.
      max_image_pixels: most pixels (height x width) that a file may claim in its header; one that
        claims more is bad.

    Raises:
      DatasetError: there are no images, a split has a class that the training split lacks, or see
        `read_layout` and `require_classes`.
    """

    def __init__(self, root: Path, spec: DatasetSpec, max_image_pixels: int = MAX_IMAGE_PIXELS) -> None:
        self.root = root.resolve()
        self._max_image_pixels = max_image_pixels
        self.name = to_text(Path(self.root.name))
        self._num_above = len(self.root.as_posix().rstrip("/")) + 1
        self._seed = spec.split_seed
        layout = read_layout(self.root, split_names(spec))
        self._class_level = layout.class_level
        self._used = split_names(spec) if layout.has_splits else [ALL]
        self.division = None if layout.has_splits else Division.from_spec(spec)
        self._files = self._list_images(layout)
        self.class_names = tuple(sorted({self._class_of(path) for path in self._files[self._used[0]]}))
        self.num_rows = {split: len(files) for split, files in self._files.items() if files}
        self._id_hashes: dict[str, np.ndarray] = {}
        self.version, self._bad = self._examine_files()

    def _list_images(self, layout: Layout) -> dict[str, list[Path]]:
        """Return the image files of every split, sorted by relative path; warn of what is skipped."""
        require_classes(layout, self._used)
        images = {split.name: sorted(split.images, key=self._id_of) for split in layout.splits}
        classes = {split: [self._class_of(path) for path in files] for split, files in images.items()}
        require_splits(self.root, classes, self._used, describe_loose(layout))
        warn_skipped(layout)
        return images

    def _relative(self, path: Path) -> bytes:
        return os.fsencode(path.as_posix()[self._num_above :])  # `relative_to` takes ten times as long

    def _id_of(self, path: Path) -> str:
        return to_text(self._relative(path))

    def _class_of(self, path: Path) -> str:
        return self._id_of(path).split("/")[self._class_level]

    def _examine_files(self) -> tuple[str, dict[Path, BadImage]]:
        """Return the digest of all paths and contents, and the files that cannot be used."""
        digest, bad = hashlib.sha256(), {}
        self._good: dict[Path, Examined] = {}
        for files in self._files.values():
            for path in files:
                examined = _examine(path, self._relative(path), self._max_image_pixels)
                digest.update(b"%s\0%s\n" % (self._relative(path), examined.digest_text.encode()))
                if examined.reason:
                    bad[path] = BadImage(self._id_of(path), examined.reason)
                else:
                    self._good[path] = examined
        return DIGEST_PREFIX + digest.hexdigest(), bad

    def known_bad(self, split: str, start: int, stop: int) -> Sequence[BadImage]:
        return [self._bad[path] for path in self._files[split][start:stop] if path in self._bad]

    def require_good_classes(self) -> None:
        """Refuse to go on without the bad images if a class of a split in use would lose all its images.

        A split without any good image is refused later, when its rows are read.

        Raises:
          DatasetError: the class, and why its images are unusable.
        """
        for split in self._used:
            good = {self._class_of(path) for path in self._files[split] if path not in self._bad}
            lost = [path for path in self._files[split] if self._class_of(path) not in good]
            if good and lost:
                names = dict.fromkeys(to_printable(self._class_of(path)) for path in lost)
                suffixes = dict.fromkeys(to_printable(to_text(Path(path.suffix.lower()))) for path in lost)
                above = f"{split}/" if self.division is None else ""
                raise DatasetError(
                    f"none of the {len(lost)} images of {above}{', '.join(names)} in {self.root} can be used (they "
                    f"end in {' '.join(suffixes)}): {self._bad[lost[0]].reason}",
                    "A class needs an image: repair them, or remove the folder",
                )

    def labels(self, split: str) -> np.ndarray:
        """Return the label of every row of a split in use, int64 `(n,)`."""
        label_of = {name: label for label, name in enumerate(self.class_names)}
        return np.asarray([label_of[self._class_of(path)] for path in self._files[split]], np.int64)

    def id_hashes(self, split: str) -> np.ndarray:
        """Return a hash of every image's path from its class on, uint64 `(n,)`: other images do not change it."""
        if split not in self._id_hashes:
            below = [self._relative(path).split(b"/", self._class_level)[-1] for path in self._files[split]]
            self._id_hashes[split] = np.asarray([hash_key(path, self._seed) for path in below], np.uint64)
        return self._id_hashes[split]

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example | BadImage]:
        return self.examples_at(split, range(start, stop))

    def examples_at(self, split: str, rows: Sequence[int]) -> Iterator[Example | BadImage]:
        """Yield these rows; large images are read by several threads, small ones are faster without."""
        paths = [self._files[split][row] for row in rows]
        return read_ahead(self._read, paths, self._num_bytes)

    def _num_bytes(self, path: Path) -> int:
        return 0 if path in self._bad else self._good[path].num_bytes

    def _read(self, path: Path) -> Example | BadImage:
        """Read an image.

        Raises:
          DatasetError: the file's content is not the one that is in the version's digest.
        """
        if path in self._bad:
            return self._bad[path]
        content = read_bytes(path)
        require_unchanged(content, self._good[path], to_text(path))
        try:
            image = decode_image(content, to_text(path), self._max_image_pixels)
        except DatasetError as error:
            return BadImage(self._id_of(path), str(error))
        return Example(image, self.class_names.index(self._class_of(path)), self._id_of(path))


def _examine(path: Path, relative: bytes, max_image_pixels: int) -> Examined:
    examined = examine_image(lambda: read_bytes(path), to_text(path), max_image_pixels)
    try:
        relative.decode()
    except UnicodeDecodeError:
        reason = f"cannot use the image {to_text(path)}: its name is not UTF-8; rename it"
        return examined._replace(reason=reason)
    return examined


def _open(path: str, spec: DatasetSpec, max_image_pixels: int) -> FolderDataset:
    folder = expand_user(path)
    if not folder.is_dir():
        raise DatasetError(f"there is no folder {folder}")
    return FolderDataset(folder, spec, max_image_pixels)


def _owns(word: str) -> bool:
    path = expand_user(word)
    return path.suffix != ".npz" and path.is_dir()


FOLDER = Source(
    name="folder",
    noun="a folder root/<class>/*.jpg or root/<split>/<class>/*.jpg",
    open_dataset=_open,
    owns=_owns,
    is_path=True,
)
