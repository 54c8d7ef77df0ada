"""Features that were made elsewhere: a source of names without networks."""

from tfl.backbones.source import BackboneSource, Pretrained
from tfl.errors import BackboneError
from tfl.specs import FeatureSpec
from tfl.specs.features import IMPORTED


def _refuse(name: str, spec: FeatureSpec) -> Pretrained:
    raise BackboneError(
        f"the features {name!r} were imported: tfl has no network that makes them of images. `tfl train`, `evaluate` "
        "and `export` work on them; an exported model takes features"
    )


IMPORTED_FEATURES = BackboneSource(
    name="imported features",
    prefix=IMPORTED,
    list_names=list,
    load=_refuse,
    weight_words=("none",),
    resolve_name=lambda typed: typed or None,
)
