"""Writing with HDF5 1.14, which crashes on an exception in its callbacks, and at exit after a failed write."""

import contextlib
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def hold_signals() -> Iterator[Callable[[], None]]:
    """Delay Ctrl-C and SIGTERM while HDF5 calls Python: an exception raised in there crashes it.

    Yields a function that handles the signals received so far; call it when HDF5 is not at work.
    """
    received: list[signal.Signals] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    is_main = threading.current_thread() is threading.main_thread()  # Python runs handlers in it only
    held = {number: handler for number, handler in handlers.items() if is_main and handler is not signal.SIG_IGN}

    def handle_received() -> None:
        if received:
            handler = held[received[0]]
            if callable(handler):
                handler(received.pop(0), None)
            else:
                signal.signal(received[0], signal.SIG_DFL)
                signal.raise_signal(received[0])

    for number in held:
        signal.signal(number, lambda number, frame: received.append(signal.Signals(number)))
    try:
        yield handle_received
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
    handle_received()


class ErrorKeepingFile(io.RawIOBase):
    """A file that keeps a write error: after one that is raised, HDF5 1.14 crashes at exit.

    Attributes:
      error: the first error of a write.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self.error: OSError | None = None

    def sync(self) -> None:
        """Flush the content to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, and return it."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        """Read bytes into `buffer`, and return how many."""
        return self._file.readinto(buffer) or 0

    def write(self, content: Any) -> int:
        """Write all of `content`, or keep the error; return its length in either case."""
        view = memoryview(content)
        try:
            written = 0
            while self.error is None and written < len(view):  # a write may be a short one
                written += self._file.write(view[written:]) or 0
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Cut the file, or keep the error."""
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0
