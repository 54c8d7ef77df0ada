"""A folder of images, `root/<split>/<class>/*.png`."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from tfl.datasets.images import IMAGE_SUFFIXES, read_bytes, read_image, require_image
from tfl.datasets.source import Example
from tfl.errors import DatasetError
from tfl.spec import DIGEST_PREFIX

logger = logging.getLogger(__name__)


class FolderDataset:
    """Images in `root/<split>/<class>/`, of any format that Pillow reads; ids are their relative paths.

    Every file's header is read and every file's content is hashed when the folder is opened, so that a file that
    is no image is named before any time is spent, and a replaced image changes the version.

    Args:
      root: the folder.
      used: the names of the splits that will be used, the training split first: the class names are its.

    Raises:
      DatasetError: no images, only one class, a class that the train split lacks, or a file that is no image.
    """

    def __init__(self, root: Path, used: Sequence[str]) -> None:
        self.root = root.resolve()
        self.name = self.root.name
        self._files = self._list_images()
        self._used = used
        self._check_layout()
        self.version = self._scan()

    def _list_images(self) -> dict[str, list[Path]]:
        """The image files of every split, sorted by relative path; tells how many files are none by their names."""
        images: dict[str, list[Path]] = {}
        others: list[Path] = []
        for folder in sorted(path for path in self.root.iterdir() if path.is_dir()):
            is_split = not folder.name.startswith(".")
            taken: list[Path] = []
            for path in sorted((path for path in folder.glob("*/**/*") if path.is_file()), key=self._id_of):
                (taken if is_split and path.suffix.lower() in IMAGE_SUFFIXES else others).append(path)
            if is_split:
                images[folder.name] = taken
        if others:
            logger.warning("passed over %d files that are no images by their names, such as %s", len(others), others[0])
        return images

    def _check_layout(self) -> None:
        if not any(self._files.values()):
            raise DatasetError(
                f"{self.root} holds no images: expected root/<split>/<class>/ with files ending in "
                f"{' '.join(sorted(IMAGE_SUFFIXES))}"
            )
        if missing := [split for split in self._used if not self._files.get(split)]:
            found = ", ".join(name for name, files in self._files.items() if files)
            raise DatasetError(
                f"{self.root} has no images in the split(s) {', '.join(missing)}; it has {found} "
                "(an empty string leaves a role out: --test-split '')"
            )
        for split in self._used:
            if extra := sorted({self._class_of(path) for path in self._files[split]} - set(self.class_names)):
                raise DatasetError(
                    f"split {split!r} of {self.root} has classes that {self._used[0]!r} lacks: "
                    f"{', '.join(extra)}; expected among {', '.join(self.class_names)}"
                )

    def _id_of(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _class_of(self, path: Path) -> str:
        return path.relative_to(self.root).parts[1]

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({self._class_of(path) for path in self._files[self._used[0]]}))

    @property
    def num_rows(self) -> dict[str, int]:
        return {split: len(files) for split, files in self._files.items() if files}

    def _scan(self) -> str:
        """The digest of all paths and contents."""
        digest = hashlib.sha256()
        for path in (path for files in self._files.values() for path in files):
            content = read_bytes(path)
            require_image(content, str(path))
            digest.update(f"{self._id_of(path)}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        return DIGEST_PREFIX + digest.hexdigest()

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        for path in self._files[split][start:stop]:
            image = read_image(path)
            yield Example(image, self.class_names.index(self._class_of(path)), self._id_of(path))
