"""Provenance of a cache: what made the file and does not decide its values."""

from dataclasses import dataclass
from typing import Any

from tfl.errors import CacheError


@dataclass(frozen=True)
class SkippedImage:
    """An image that was left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class CopiedRows:
    """Rows copied from another cache, where `engine` and `batch_size` computed them."""

    fingerprint: str
    engine: str | None
    batch_size: int | None
    images: int


@dataclass(frozen=True)
class Typed:
    """Dataset and weights as the user typed them, with paths made absolute."""

    dataset: str
    weights: str


@dataclass(frozen=True)
class Provenance:
    """What made a cache, with its known fields by type.

    Attributes:
      num_skipped: how many images were left out; `skipped` names as many of them as fit into the
        file.
      max_image_pixels: the bound that the images were read under; None if the file does not say.
      values: everything that the file says, as it says it.
    """

    typed: Typed
    skipped: tuple[SkippedImage, ...]
    num_skipped: int
    engine: str | None
    batch_size: int | None
    max_image_pixels: int | None
    values: dict[str, Any]


def read_provenance(values: dict[str, Any]) -> Provenance:
    """Return the provenance that a file's JSON describes; the file may be a stranger's.

    Raises:
      CacheError: a field that the format demands is missing or wrong.
    """
    require_texts(values.get("typed"), ["dataset", "weights"], "provenance.typed")
    skipped = values.get("skipped", [])
    for image in skipped:
        require_texts(image, ["id", "reason"], "provenance.skipped")
    num_skipped = values.get("num_skipped", len(skipped))
    if type(num_skipped) is not int or num_skipped < len(skipped):
        raise CacheError(f"its provenance.num_skipped is {str(num_skipped)[:80]}; expected {len(skipped)} or more")
    engine = values.get("engine")
    return Provenance(
        typed=Typed(values["typed"]["dataset"], values["typed"]["weights"]),
        skipped=tuple(SkippedImage(image["id"], image["reason"]) for image in skipped),
        num_skipped=num_skipped,
        engine=engine if isinstance(engine, str) else None,
        batch_size=_positive(values.get("batch_size")),
        max_image_pixels=_positive(values.get("max_image_pixels")),
        values=values,
    )


def require_texts(values: Any, keys: list[str], what: str) -> None:
    """Refuse what is not a JSON object with texts under these keys.

    Args:
      what: the words for it in the error.

    Raises:
      CacheError: it is something else.
    """
    if not isinstance(values, dict) or not all(isinstance(values.get(key), str) for key in keys):
        raise CacheError(f"its {what} is {str(values)[:80]}; expected texts for {', '.join(keys)}")


def _positive(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
