"""The errors that a user, a file or the machine can cause.

Every message says what was received, what was expected and what to do next. It may contain names
from files and users, so each line is made printable: no name can add a line or control a terminal.
"""

from tfl.text import to_printable


class TflError(Exception):
    """The data or the machine does not allow it; the command line exits with `exit_code`.

    Args:
      lines: the lines of the message; a newline inside a line is escaped.
    """

    exit_code = 1

    def __str__(self) -> str:
        return "\n".join(to_printable(str(line)) for line in self.args)


class SpecError(TflError):
    """A value is wrong whatever the data: a spec, a setting, an option."""

    exit_code = 2


class AssetError(TflError):
    """A dataset or weights could not be downloaded, or do not match the expected digest."""


class DatasetError(TflError):
    """A dataset, a split or an image is missing, unreadable or inconsistent."""


class BackboneError(TflError):
    """The backbone is unknown, or the weights or the image size do not fit it."""


class CacheError(TflError):
    """A cache file is damaged, has another format or another spec, or cannot be written."""


class RunError(TflError):
    """A run cannot be trained or read, or something it refers to is missing or has changed."""


class ExportError(TflError):
    """A model could not be exported, or the exported model does not agree with the head on cached features."""


class ExtraError(TflError):
    """A package that an option needs cannot be imported; an extra of the distribution installs it."""


class CompareError(TflError):
    """The PyTorch reference cannot be run here, or it failed."""
