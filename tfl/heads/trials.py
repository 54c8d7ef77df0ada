"""Records of a search: its epochs, its trials, and the listeners that are told of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tfl.files.codec import NotNegative, PositiveCount, list_none_fields

Value = None | bool | int | float | str
SettingValue = Value | list[Value]


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows; losses in nats.

    Attributes:
      epoch: its number, from 1.
      loss, accuracy: running means over the epoch's batches, as Keras reports them.
      val_loss, val_accuracy: on the validation rows afterwards; None without those.
    """

    epoch: PositiveCount
    loss: float
    accuracy: float
    val_loss: float | None = None
    val_accuracy: float | None = None
    seconds: float | None = None

    def list_omitted_fields(self) -> list[str]:
        """Return the fields that JSON leaves out: those without a value."""
        return list_none_fields(self, ("val_loss", "val_accuracy", "seconds"))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One setting that was tried: fitted on the fitting rows, measured on the validation rows.

    Attributes:
      recipe: its name.
      setting: the values that a trial may differ in, by name.
      val_accuracy: on the validation rows; None without those. So is `val_loss`, in nats.
    """

    recipe: str
    setting: dict[str, SettingValue]
    seconds: NotNegative | None = None
    val_accuracy: float | None = None
    val_loss: float | None = None

    def list_omitted_fields(self) -> list[str]:
        """Return the fields that JSON leaves out: those without a value."""
        return list_none_fields(self, ("val_loss", "val_accuracy", "seconds"))


OnEpoch = Callable[[Epoch], None]
OnTrial = Callable[[Trial], None]


def ignore(_: Any) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Listeners:
    """Functions that are called after every epoch and after every trial."""

    on_epoch: OnEpoch = ignore
    on_trial: OnTrial = ignore
