"""A `tfl.json` as `export` leaves it, for models that tests make without it."""

import json

from tfl.artefacts import manifest
from tfl.artefacts.formats import FORMATS
from tfl.artefacts.manifest import Manifest, Parity
from tfl.files.codec import encode_record
from tfl.specs import Artefact, CacheSpec, DatasetSpec, FeatureSpec

NAMES = ("red", "green", "blue")
SPEC = CacheSpec(FeatureSpec(backbone="tiny", weights="sha256:0"), DatasetSpec("colours.npz", version="sha256:1"))


def make_manifest(name, files, class_names=NAMES, **changes):
    """The manifest of a model in the format `name`."""
    facts = {
        "class_names": tuple(class_names),
        "fingerprint": "0" * 64,
        "spec": SPEC,
        "recipe": "reference",
        "settings": {"epochs": 5},
        "chosen": None,
        "views": ("original",),
        "temperature": None,
        "is_temperature_folded": False,
        "decision_threshold": None,
        "metrics": {},
        "artefact": Artefact(name),
        "parity": Parity(num_images=1, error=0.0, tolerance=0.1, same_class=1.0),
        "measured": None,
        "files": files,
        "tfl": "1",
        "versions": {"keras": "3"},
    }
    return Manifest(**{**facts, **changes})


def describe(folder, name, **changes):
    """Leave the `tfl.json` of the files in a folder; `changes` are of its JSON, and may be anything."""
    record = encode_record(make_manifest(name, {FORMATS[name].file: "0" * 64}))
    path = manifest.description_path(folder, name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**record, "files": manifest.hash_files(folder), **changes}), encoding="utf-8")
    return folder
