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
        self._files = {
            folder.name: sorted(
                (path for path in folder.glob("*/**/*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()),
                key=lambda path: path.relative_to(self.root).as_posix(),
            )
            for folder in sorted(self.root.iterdir())
            if folder.is_dir() and not folder.name.startswith(".")
        }
        self._say_passed_over()
        self._used = [split for split in used if self._files.get(split)]
        self._check_layout(used)
        self.version = self._scan()

    def _say_passed_over(self) -> None:
        taken = {path for files in self._files.values() for path in files}
        others = [path for path in self.root.glob("*/*/**/*") if path.is_file() and path not in taken]
        if others:
            logger.warning("passed over %d files that are no images by their names, such as %s", len(others), others[0])

    def _check_layout(self, used: Sequence[str]) -> None:
        if not any(self._files.values()):
            raise DatasetError(
                f"{self.root} holds no images: expected root/<split>/<class>/ with files ending in "
                f"{' '.join(sorted(IMAGE_SUFFIXES))}"
            )
        if missing := [split for split in used if not self._files.get(split)]:
            found = ", ".join(name for name, files in self._files.items() if files)
            raise DatasetError(
                f"{self.root} has no images in the split(s) {', '.join(missing)}; it has {found} "
                "(an empty string leaves a role out: --test-split '')"
            )
        for split in self._used:
            if extra := sorted({self._class_of(path) for path in self._files[split]} - set(self.class_names)):
                raise DatasetError(
                    f"split {split!r} of {self.root} has classes that {self._reference_split!r} lacks: "
                    f"{', '.join(extra)}; expected among {', '.join(self.class_names)}"
                )

    @property
    def _reference_split(self) -> str:
        return self._used[0]

    def _class_of(self, path: Path) -> str:
        return path.relative_to(self.root).parts[1]

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({self._class_of(path) for path in self._files[self._reference_split]}))

    @property
    def num_rows(self) -> dict[str, int]:
        return {split: len(files) for split, files in self._files.items() if files}

    def _scan(self) -> str:
        """The digest of all paths and contents."""
        digest = hashlib.sha256()
        for path in (path for files in self._files.values() for path in files):
            content = read_bytes(path)
            require_image(content, str(path))
            digest.update(f"{path.relative_to(self.root).as_posix()}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        return DIGEST_PREFIX + digest.hexdigest()

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example]:
        for path in self._files[split][start:stop]:
            image = read_image(path)
            yield Example(image, self.class_names.index(self._class_of(path)), path.relative_to(self.root).as_posix())
