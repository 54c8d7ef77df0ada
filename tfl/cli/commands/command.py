"""What every command is: a frozen dataclass of its flags, with a method that runs it."""

from typing import Annotated, Protocol

from tyro.conf import arg

AsJson = Annotated[bool, arg(name="json")]
"""The flag `--json`: print JSON instead of text."""


class Command(Protocol):
    """A command with its values; its class docstring is the help text."""

    @property
    def is_resumable(self) -> bool:
        """Whether the same command, after a kill, continues where it was."""

    def run(self) -> None:
        """Run the command: results on stdout, progress and notes on stderr."""
