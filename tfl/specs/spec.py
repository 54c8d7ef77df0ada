"""The base class of the specs: strict JSON in and out, type checks, and a fingerprint."""

import hashlib
import json
import typing
from dataclasses import fields
from typing import Any, ClassVar, Literal, Self

from tfl.errors import SpecError

DIGEST_PREFIX = "sha256:"


class Spec:
    """A frozen dataclass that checks the types of its fields, and has one JSON text and one fingerprint.

    Fields are numbers, text, `Literal`s, tuples of these, or other specs.
    """

    omitted_by_default: ClassVar[frozenset[str]] = frozenset()
    """Fields that the JSON leaves out while they have their defaults: specs written before they existed stay as they
    were."""

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no spaces, ASCII. Equal specs give equal text."""
        return json.dumps(self._to_dict(), sort_keys=True, separators=(",", ":"))

    def list_omitted_fields(self) -> list[str]:
        """Return the fields that JSON leaves out; see `tfl.files.codec`."""
        defaults = {field.name: field.default for field in fields(self)}  # type: ignore[arg-type]
        return [name for name in sorted(self.omitted_by_default) if getattr(self, name) == defaults[name]]

    def _to_dict(self) -> dict[str, Any]:
        omitted = self.list_omitted_fields()
        values: dict[str, Any] = {}
        for name in _field_names(self):
            if name not in omitted:
                value = getattr(self, name)
                values[name] = value._to_dict() if isinstance(value, Spec) else value
        return values

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the spec that `to_json` wrote.

        Raises:
          SpecError: the text is not JSON, or its keys are not exactly this spec's fields.
        """
        try:
            return cls._from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise SpecError(f"a {cls.__name__} was expected as JSON, got {text[:80]!r}: {error}") from error

    @classmethod
    def _from_dict(cls, values: Any) -> Self:
        names = _field_names(cls)
        if isinstance(values, dict):
            omissible = cls._find_omissible(values)
            names = [name for name in names if name in values or name not in omissible]
        if not isinstance(values, dict) or sorted(values) != sorted(names):
            received = sorted(values) if isinstance(values, dict) else values
            raise SpecError(f"a {cls.__name__} has the fields {sorted(names)}, got {received}")
        hints = typing.get_type_hints(cls)
        return cls(**{name: _from_json_value(hints[name], values[name]) for name in names})

    @classmethod
    def _find_omissible(cls, values: dict[str, Any]) -> frozenset[str]:
        """Return the fields that these values need not have."""
        return cls.omitted_by_default

    @property
    def fingerprint(self) -> str:
        """The sha256 (64 hex digits) of the canonical JSON of a resolved spec.

        Raises:
          SpecError: the spec is not resolved: it holds words where digests and versions belong.
        """
        if not self.is_resolved:
            raise SpecError(f"only a resolved spec has a fingerprint, got {self.to_json()}")
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def is_resolved(self) -> bool:
        """True if every word that a user typed has been replaced by what it stands for."""
        raise NotImplementedError

    def _check_types(self) -> None:
        hints = typing.get_type_hints(type(self))
        for name in _field_names(self):
            hint = hints[name]
            check_type(type(self).__name__, name, getattr(self, name), hint)


def _field_names(spec: Any) -> list[str]:
    """Return the names of a spec's fields, or of those of its class."""
    return [field.name for field in fields(spec)]


def check_type(spec: str, name: str, value: Any, hint: Any) -> None:
    """Refuse a field's value that is not of its type.

    Raises:
      SpecError: the spec's name, the field's name and the value.
    """
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            raise SpecError(f"{spec}.{name} is a tuple, got {value!r}")
        for item in value:
            check_type(spec, name, item, typing.get_args(hint)[0])
    elif typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise SpecError(f"{spec}.{name} is one of {', '.join(typing.get_args(hint))}; got {value!r}")
    elif type(value) is not hint:  # not `isinstance`, which takes True for an int
        raise SpecError(f"{spec}.{name} is of type {hint.__name__}, got {value!r}")


def _from_json_value(hint: Any, value: Any) -> Any:
    if isinstance(hint, type) and issubclass(hint, Spec):
        return hint._from_dict(value)
    return tuple(value) if isinstance(value, list) else value


def to_file_stem(name: str) -> str:
    """Return a name with `_` for characters that file names should not have."""
    return "".join(character if character.isalnum() or character in "._" else "_" for character in name)
