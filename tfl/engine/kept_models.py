"""Compiled models kept on this machine, so that the next process neither converts nor compiles them again.

A file holds a line with the sha256 of all that follows, in hex; a line with the facts that decide
the model, as JSON; and the model as its engine exports it. Only files that this user's tfl wrote,
and that have not changed since, are read. The newest are kept.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tfl import __version__
from tfl.files import trust, user_folders
from tfl.files.scratch import scratch_folder

logger = logging.getLogger(__name__)

Facts = Mapping[str, Any]
"""Everything that decides a compiled model, as JSON takes it."""

REVISION = 1  # raised when a change of the code changes the models that the same facts give
FOLDER, ENDING = "openvino", ".model"
MAX_FILES, MAX_BYTES = 8, 1 << 30  # ResNet50 takes 94 MB in float32, 24 MB in int8
DIGEST_LENGTH = 64


def find_model(facts: Facts) -> bytes | None:
    """Return the model that was kept under these facts; None if there is none, or it is damaged."""
    text = _to_line(facts)
    path = user_folders.find_file(Path(FOLDER) / _name_file(text))
    with suppress(OSError):
        if not trust.is_own(path):
            return None
        content = memoryview(path.read_bytes())
        if _is_whole(content, text):
            return bytes(content[DIGEST_LENGTH + 1 + len(text) :])
        logger.warning("%s is damaged; the network is compiled again", path)
    return None


def keep_model(facts: Facts, model: bytes | memoryview) -> None:
    """Keep a model for the next process, and remove the oldest; where that is not possible, do nothing."""
    if len(model) > MAX_BYTES:
        return
    text = _to_line(facts)
    with suppress(OSError):
        folder = user_folders.writable_folder(FOLDER)
        with scratch_folder(folder) as scratch:
            unfinished = scratch / _name_file(text)
            with unfinished.open("wb") as file:
                file.write(_digest(text, model) + b"\n")
                file.write(text)
                file.write(model)
            trust.rename_and_mark_own(unfinished, folder / unfinished.name)
        _remove_oldest(folder)


def _to_line(facts: Facts) -> bytes:
    of_this_version = {"tfl": __version__, "kept": REVISION, **facts}
    return json.dumps(of_this_version, sort_keys=True).encode() + b"\n"


def _name_file(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:32] + ENDING


def _digest(text: bytes, model: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(text)
    digest.update(model)
    return digest.hexdigest().encode()


def _is_whole(content: memoryview, text: bytes) -> bool:
    """Whether a file holds what was written, and was written for these facts."""
    digest, rest = content[:DIGEST_LENGTH], content[DIGEST_LENGTH + 1 :]
    return rest[: len(text)] == text and hashlib.sha256(rest).hexdigest().encode() == digest


def _remove_oldest(folder: Path) -> None:
    """Keep the newest models, as many as MAX_FILES and MAX_BYTES allow."""
    newest_first = sorted(folder.glob(f"*{ENDING}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    num_bytes = 0
    for place, path in enumerate(newest_first):
        num_bytes += path.stat().st_size
        if place >= MAX_FILES or num_bytes > MAX_BYTES:
            path.unlink(missing_ok=True)
