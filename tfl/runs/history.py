"""The records of `history.json` and `trials.json`: the epochs of a training, and the settings that it tried."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tfl.errors import RunError
from tfl.files.codec import PositiveCount, decode_record
from tfl.heads.trials import Epoch, SettingValue, Trial
from tfl.runs.json_files import read_json

HISTORY = "history.json"
TRIALS = "trials.json"


@dataclass(frozen=True, kw_only=True)
class Choice(Trial):
    """The trial that was chosen.

    Attributes:
      begun: how many recipes were begun, by the recipe `best`.
    """

    begun: PositiveCount | None = None


def read_history(path: Path) -> list[Epoch]:
    """Return the content of `history.json`, an entry for each epoch.

    Raises:
      RunError: it holds none.
    """
    values = read_json(path)
    try:
        history = decode_record(values, list[Epoch])
    except ValueError as error:
        raise RunError(f"{path} holds no epochs, each with epoch, loss and accuracy: {error}; train again") from error
    if not history:
        raise RunError(f"{path} holds no epochs; train again")
    return history


def format_setting(setting: Mapping[str, SettingValue]) -> str:
    """Return a trial's setting in words: `l2 0.01`, `hidden 1024-1024, dropout 0.5`."""
    return ", ".join(f"{name} {_format_value(value)}" for name, value in setting.items())


def _format_value(value: SettingValue) -> str:
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
