"""Run one command: parse, run, exit code. Every way to end has its line on stderr.

Nothing that imports a framework is imported before a command needs it, so that `tfl --help` answers at once.
"""

import shlex
import signal
import sys
import traceback
from collections.abc import Sequence

from tfl.cli.commands import Command
from tfl.cli.messages import escape_warnings, log_to_stderr
from tfl.cli.output import print_notes
from tfl.cli.parsing import parse_command
from tfl.cli.streams import IS_DEBUGGING, open_standard_streams, restart_in_utf8
from tfl.errors import TflError
from tfl.files import user_folders
from tfl.text import to_one_line

UNREAD = 141  # exit code of what SIGPIPE ends
MAX_REASON = 300  # characters of an error that no part of tfl expects
LESS_MEMORY = "end other programs, or take a smaller --batch-size, --image-size or slice"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
      arguments: what follows `tfl`; of this process if None, which may then restart in UTF-8 mode.

    Returns:
      0 done, 1 the data or the machine said no, 2 wrong values, 130 interrupted, 141 nobody reads the output any more
      (`| head`), 143 terminated (SIGTERM).

    Raises:
      SystemExit: with code 2, arguments that cannot be parsed; with code 0, after `--help`.
    """
    if arguments is None:
        restart_in_utf8()
    with open_standard_streams() as output, log_to_stderr():
        signal.signal(signal.SIGTERM, _terminate)
        user_folders.provide_home()
        try:
            code = _Invocation(list(sys.argv[1:] if arguments is None else arguments)).run()
        except SystemExit as end:
            if end.code or not output.has_lost:
                raise
            code = 0
        if code == 0 and output.has_lost:
            print_notes(f"tfl: what belongs on standard output is lost: the operating system refused: {output.error}")
            code = 1
    return code


class _Invocation:
    """One command line, and the command that it asks for."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._command: Command | None = None

    def run(self) -> int:
        """Parse and run the command; return its exit code."""
        try:
            with escape_warnings():
                self._command = parse_command(self._arguments)
                self._command.run()
            sys.stdout.flush()
        except TflError as error:
            print_notes(*f"tfl: {error}".split("\n"))
            return error.exit_code
        except BrokenPipeError:
            return UNREAD
        except KeyboardInterrupt as interruption:
            return self._end(isinstance(interruption, _TerminatedError))
        except Exception as error:  # noqa: BLE001 -- the last place where one can be shown as a line
            if IS_DEBUGGING:
                print_notes(*"".join(traceback.format_exception(error)).splitlines())
            print_notes(f"tfl: {_describe_error(error)}")
            return 1
        return 0

    def _end(self, is_terminated: bool) -> int:
        is_resumable = self._command is not None and self._command.is_resumable
        advice = "finished shards are kept; resume with" if is_resumable else "nothing is kept; start again with"
        how = "terminated" if is_terminated else "interrupted"
        print_notes("", f"tfl: {how}; {advice}: {shlex.join(['tfl', *self._arguments])}")
        return 128 + (signal.SIGTERM if is_terminated else signal.SIGINT)


def _describe_error(error: Exception) -> str:
    """Return in one line why a command ended with an error that is none of tfl's own."""
    if isinstance(error, OSError):
        return f"the operating system refused: {error}"
    if isinstance(error, MemoryError):
        return f"too little memory{f' ({error})' if str(error) else ''}: {LESS_MEMORY}"
    if isinstance(error, UnicodeEncodeError):
        return f"a name cannot be written in {error.encoding}: {error.object!r}; rename it, or set LC_ALL=C.UTF-8"
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {to_one_line(str(error), MAX_REASON)}"
    return (
        f"internal error, {what} ({place.filename}, line {place.lineno}); please report it, with the traceback that "
        "TFL_DEBUG=1 shows"
    )


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM arrived: what stops for Ctrl-C stops for it."""


def _terminate(number: int, frame: object) -> None:
    raise _TerminatedError
