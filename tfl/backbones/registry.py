"""The backbone sources, and finding the one that a name belongs to."""

from typing import NamedTuple

from tfl.backbones.source import BackboneSource
from tfl.errors import BackboneError
from tfl.specs import FeatureSpec
from tfl.text import suggest_name

SOURCES: list[BackboneSource] = []
"""In the order in which they are asked for a name without a prefix."""


class NamedBackbone(NamedTuple):
    """A backbone's source, and its name there."""

    source: BackboneSource
    name: str

    @property
    def stored_name(self) -> str:
        """The name as specs store it."""
        return self.source.stored_name(self.name)


def register(source: BackboneSource) -> None:
    """Add a source of backbones.

    Raises:
      ValueError: its prefix is another source's, or does not end in a colon.
    """
    if not source.prefix.endswith(":"):
        raise ValueError(f"the prefix of {source.name} is {source.prefix!r}; expected a colon at its end")
    if source.prefix in [other.prefix for other in SOURCES]:
        raise ValueError(f"the prefix {source.prefix} of {source.name} is another source's")
    SOURCES.append(source)


def unregister(source: BackboneSource) -> None:
    """Take a source out again."""
    SOURCES.remove(source)


def find_backbone(typed: str) -> NamedBackbone | None:
    """Return the source and the name that were typed, or None if no source knows them."""
    for source in SOURCES:
        if typed.startswith(source.prefix):
            name = source.find_name(typed.removeprefix(source.prefix))
        else:
            name = source.find_name(typed) if source.has_bare_names else None
        if name is not None:
            return NamedBackbone(source, name)
    return None


def is_backbone(typed: str) -> bool:
    """Whether a backbone is meant: a source knows the name, or its prefix was typed."""
    has_prefix = any(typed.startswith(source.prefix) for source in SOURCES)
    return has_prefix or find_backbone(typed) is not None


def require_backbone(typed: str) -> NamedBackbone:
    """Return the source and the name that were typed.

    Raises:
      BackboneError: no source knows the name; the names that there are, and the nearest.
    """
    found = find_backbone(typed)
    if found is not None:
        return found
    asked = [source for source in SOURCES if typed.startswith(source.prefix)]
    prefix = asked[0].prefix if asked else ""
    asked = asked or [source for source in SOURCES if source.has_bare_names]
    known = sorted(prefix + name for source in asked for name in source.list_names())
    sources = " or ".join(source.name for source in asked)
    raise BackboneError(
        f"there is no backbone {typed!r} in {sources}; expected one of {', '.join(known)}{suggest_name(typed, known)}"
    )


def names_weights_file(features: FeatureSpec) -> bool:
    """Whether `weights` is the path of a file, and no word of the backbone's source.

    Raises:
      BackboneError: there is no such backbone.
    """
    return features.weights not in require_backbone(features.backbone).source.weight_words
