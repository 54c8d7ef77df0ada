"""CacheSpec: the content of one cache file."""

from dataclasses import asdict, dataclass
from typing import Any

from tfl.specs.dataset import DatasetSpec
from tfl.specs.features import FeatureSpec
from tfl.specs.spec import Spec, to_file_stem
from tfl.specs.views import View, require_views


@dataclass(frozen=True)
class CacheSpec(Spec):
    """The content of one cache file; its fingerprint names the file."""

    features: FeatureSpec
    dataset: DatasetSpec
    views: tuple[View, ...] = ("original",)

    def __post_init__(self) -> None:
        self._check_types()
        require_views(self.views)

    @property
    def is_resolved(self) -> bool:
        """True if both parts are resolved."""
        return self.features.is_resolved and self.dataset.is_resolved

    @property
    def file_name(self) -> str:
        """`<dataset>-<backbone>-<image_size>-<first 12 digits of the fingerprint>.h5`."""
        dataset = to_file_stem(self.dataset.dataset)
        return f"{dataset}-{self.features.file_stem}-{self.fingerprint[:12]}.h5"


def list_differences(on_disk: CacheSpec, requested: CacheSpec) -> list[str]:
    """Return one line per field that differs, `image_size: 224 on disk, 160 requested`; none if the specs are equal."""
    return [
        f"{name}: {_to_text(old)} on disk, {_to_text(new)} requested"
        for (name, old), (_, new) in zip(_list_fields(on_disk), _list_fields(requested), strict=True)
        if old != new
    ]


def _list_fields(spec: CacheSpec) -> list[tuple[str, Any]]:
    fields = [*asdict(spec.features).items(), *asdict(spec.dataset).items()]
    return [*fields, ("views", spec.views)]


def _to_text(value: Any) -> str:
    text = " ".join(value) if isinstance(value, tuple) else str(value)
    return text or "none"
