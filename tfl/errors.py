"""The errors that a user can cause, or that the machine can answer with.

Every message names what was received, what was expected and what to do next. Names in it come from files and users,
so each of its lines is made printable: no name can add a line or steer a terminal.
"""

from tfl.text import to_printable


class TflError(Exception):
    """The data or the machine said no; the command line exits with `exit_code`.

    Args:
      lines: the lines of the message, one each; a newline inside one is escaped.
    """

    exit_code = 1

    def __str__(self) -> str:
        return "\n".join(to_printable(str(line)) for line in self.args)


class SpecError(TflError):
    """A value of a spec is wrong in itself, whatever the data."""

    exit_code = 2


class AssetError(TflError):
    """A dataset or weights could not be brought onto this machine, or are not what was pinned."""


class DatasetError(TflError):
    """A dataset, a split or an image is missing, unreadable or inconsistent."""


class BackboneError(TflError):
    """The backbone is unknown, or its weights or image size do not fit it."""


class CacheError(TflError):
    """A cache file is damaged, of another format or of another spec, or cannot be written."""


class RunError(TflError):
    """A training run cannot be made, or what a run refers to is gone or has changed."""


class ExportError(TflError):
    """A model could not be exported, or the exported model does not answer as the cache did."""


class ExtraError(TflError):
    """A package that one option needs cannot be imported; an extra of the distribution brings it."""


class CompareError(TflError):
    """The reference program cannot be run here, or it failed."""
