"""A folder of images, `root/<split>/<class>/*.png`."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from tfl.datasets.images import decode_image, image_suffixes, read_bytes, require_image
from tfl.datasets.layout import describe_straight, read_layout, require_classes, say_passed_over
from tfl.datasets.source import BadImage, Example, to_text
from tfl.errors import DatasetError
from tfl.machine.batching import MAX_BATCH_BYTES, parallel_map
from tfl.specs import DIGEST_PREFIX, MAX_IMAGE_PIXELS
from tfl.text import to_printable

# Decoded. Two threads on two cores read 0.96 times as many images of 96 x 96 pixels as one does, and 1.4 of 256 x 256.
SMALL_BYTES = 1 << 15


class FolderDataset:
    """Images in `root/<split>/<class>/`, of any format that Pillow reads, or HEIC; ids are their relative paths.

    Linked folders are followed. Hidden files and folders, and files of other suffixes, are passed over and counted.

    Every file's header is read and every file's content is hashed when the folder is opened, so that a file that
    cannot be used is known before any time is spent, and a replaced image changes the version. Files that may be cut
    short are decoded then; damage in the midst of others is found when their row is read.

    Args:
      root: the folder.
      used: the names of the splits that will be used, the training split first: the class names are its.
      max_image_pixels: most pixels (height x width) that a file may claim in its header; one that claims more is bad.

    Raises:
      DatasetError: no images, a class that the train split lacks, or see `require_classes`.
    """

    def __init__(self, root: Path, used: Sequence[str], max_image_pixels: int = MAX_IMAGE_PIXELS) -> None:
        self.root = root.resolve()
        self._max_image_pixels = max_image_pixels
        self.name = to_text(Path(self.root.name))
        self._num_above = len(self.root.as_posix().rstrip("/")) + 1
        self._used = used
        self._files = self._list_images()
        self._places: dict[str, np.ndarray] = {}
        self.version, self._bad = self._scan()

    def _list_images(self) -> dict[str, list[Path]]:
        """Return the image files of every split, sorted by relative path; say what is passed over."""
        layout = read_layout(self.root)
        require_classes(layout, self._used)
        images = {
            to_text(Path(split.path.name)): sorted(layout.images(split), key=self._id_of) for split in layout.splits
        }
        self._check_layout(images, describe_straight(layout))
        say_passed_over(layout)
        return images

    def _check_layout(self, images: dict[str, list[Path]], hint: str) -> None:
        if not any(images.values()):
            raise DatasetError(
                f"{self.root} holds no images: expected root/<split>/<class>/ with files ending in "
                f"{' '.join(sorted(image_suffixes()))}{hint}"
            )
        if missing := [split for split in self._used if not images.get(split)]:
            found = ", ".join(name for name, files in images.items() if files)
            raise DatasetError(
                f"{self.root} has no images in the split(s) {', '.join(missing)}; it has {found} "
                f"(an empty string leaves a role out: --test-split ''){hint}"
            )
        class_names = {self._class_of(path) for path in images[self._used[0]]}
        for split in self._used:
            if extra := sorted({self._class_of(path) for path in images[split]} - class_names):
                raise DatasetError(
                    f"split {split!r} of {self.root} has classes that {self._used[0]!r} lacks: "
                    f"{', '.join(extra)}; expected among {', '.join(sorted(class_names))}"
                )

    def _relative(self, path: Path) -> bytes:
        return os.fsencode(path.as_posix()[self._num_above :])  # `relative_to` takes ten times as long

    def _id_of(self, path: Path) -> str:
        return to_text(self._relative(path))

    def _class_of(self, path: Path) -> str:
        return self._id_of(path).split("/")[1]

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        return tuple(sorted({self._class_of(path) for path in self._files[self._used[0]]}))

    @property
    def num_rows(self) -> dict[str, int]:
        return {split: len(files) for split, files in self._files.items() if files}

    def _scan(self) -> tuple[str, dict[Path, BadImage]]:
        """The digest of all paths and contents, and the files that cannot be used."""
        digest, bad = hashlib.sha256(), {}
        self._good: dict[Path, tuple[bytes, int]] = {}  # the content's digest, and how many bytes it decodes to
        for path in (path for files in self._files.values() for path in files):
            content_digest, num_bytes, reason = _examine(path, self._relative(path), self._max_image_pixels)
            digest.update(b"%s\0%s\n" % (self._relative(path), content_digest.encode()))
            if reason:
                bad[path] = BadImage(self._id_of(path), reason)
            else:
                self._good[path] = bytes.fromhex(content_digest), num_bytes
        return DIGEST_PREFIX + digest.hexdigest(), bad

    def known_bad(self, split: str, start: int, stop: int) -> Sequence[BadImage]:
        return [self._bad[path] for path in self._files[split][start:stop] if path in self._bad]

    def require_good_classes(self) -> None:
        """Refuse to leave out all images of a class: it would vanish, or be trained without a row.

        Where a whole split is bad, its rows say so.

        Raises:
          DatasetError: of a split in use, all images of a class, and not of every one, are known to be bad.
        """
        for split in self._used:
            good = {self._class_of(path) for path in self._files[split] if path not in self._bad}
            lost = [path for path in self._files[split] if self._class_of(path) not in good]
            if good and lost:
                names = dict.fromkeys(to_printable(self._class_of(path)) for path in lost)
                suffixes = dict.fromkeys(to_printable(to_text(Path(path.suffix.lower()))) for path in lost)
                raise DatasetError(
                    f"none of the {len(lost)} images of {split}/{', '.join(names)} in {self.root} can be used (they "
                    f"end in {' '.join(suffixes)}): {self._bad[lost[0]].reason}",
                    "A class needs an image: repair them, or remove the folder",
                )

    def labels(self, split: str) -> np.ndarray:
        """The label of every row of a split, int64 `(n,)`; of a split that is used."""
        label_of = {name: label for label, name in enumerate(self.class_names)}
        return np.asarray([label_of[self._class_of(path)] for path in self._files[split]], np.int64)

    def places(self, split: str) -> np.ndarray:
        """A hash of every image's path below its split, uint64 `(n,)`: no other image moves it."""
        if split not in self._places:
            below = (self._relative(path).split(b"/", 1)[1] for path in self._files[split])
            self._places[split] = np.asarray([place_of(path) for path in below], np.uint64)
        return self._places[split]

    def examples(self, split: str, start: int, stop: int) -> Iterator[Example | BadImage]:
        return self.examples_at(split, range(start, stop))

    def examples_at(self, split: str, rows: Sequence[int]) -> Iterator[Example | BadImage]:
        """By several threads, for an accelerator is faster than one; small images by this one, which is sooner."""
        paths = [self._files[split][row] for row in rows]
        if max(map(self._num_bytes, paths), default=0) < SMALL_BYTES:
            return map(self._read, paths)
        return parallel_map(self._read, paths, self._num_bytes, MAX_BATCH_BYTES // 4)

    def _num_bytes(self, path: Path) -> int:
        return 0 if path in self._bad else self._good[path][1]

    def _read(self, path: Path) -> Example | BadImage:
        """Raises a DatasetError if the file is not the one whose digest the version holds."""
        if path in self._bad:
            return self._bad[path]
        content = read_bytes(path)
        if hashlib.sha256(content).digest() != self._good[path][0]:
            raise DatasetError(f"{to_text(path)} has changed since the command began; give the command again")
        try:
            image = decode_image(content, to_text(path), self._max_image_pixels)
        except DatasetError as error:
            return BadImage(self._id_of(path), str(error))
        return Example(image, self.class_names.index(self._class_of(path)), self._id_of(path))


def place_of(path: bytes) -> int:
    """The first 8 bytes of a path's sha256 as a number; a slice `[a%:b%]` takes `a <= 100 * place / 2**64 < b`."""
    return int.from_bytes(hashlib.sha256(path).digest()[:8], "big")


def _examine(path: Path, relative: bytes, max_image_pixels: int) -> tuple[str, int, str]:
    """A file's sha256, or `unreadable`; its bytes decoded; and why it cannot be used, or empty."""
    digest = "unreadable"
    try:
        content = read_bytes(path)
        digest = hashlib.sha256(content).hexdigest()
        relative.decode()
        return digest, require_image(content, to_text(path), max_image_pixels), ""
    except (DatasetError, MemoryError) as error:
        return digest, 0, str(error) or f"{to_text(path)} takes more memory than there is"
    except UnicodeDecodeError:
        return digest, 0, f"cannot use the image {to_text(path)}: its name is not UTF-8; rename it"
