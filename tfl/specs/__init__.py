"""Everything that a user may ask for, as frozen dataclasses.

Three of them are specs: `FeatureSpec` decides the value of one image's features, `DatasetSpec`
which images, and `CacheSpec` which file. A user writes a spec in words (`weights="imagenet"`,
`train_split="train[:8%]"`); the program *resolves* it to values that mean the same everywhere (a
digest of the tensors, `train[0:4000]`). Only a resolved spec has a fingerprint.
"""

from tfl.specs.artefact import Artefact
from tfl.specs.cache import CacheSpec, list_differences
from tfl.specs.dataset import ROLES, DatasetSpec, Role
from tfl.specs.features import AUTO, FEATURE_REVISION, INT8, LAST_LAYER, ComputeDtype, FeatureSpec, Interpolation
from tfl.specs.imports import ImportSettings
from tfl.specs.limits import MAX_IMAGE_PIXELS, MAX_IMAGE_SIZE, require_max_image_pixels
from tfl.specs.settings import Settings
from tfl.specs.spec import DIGEST_PREFIX
from tfl.specs.training import Selection, Shots
from tfl.specs.views import VIEWS, View, require_views

__all__ = [
    "AUTO",
    "DIGEST_PREFIX",
    "FEATURE_REVISION",
    "INT8",
    "LAST_LAYER",
    "MAX_IMAGE_PIXELS",
    "MAX_IMAGE_SIZE",
    "ROLES",
    "VIEWS",
    "Artefact",
    "CacheSpec",
    "ComputeDtype",
    "DatasetSpec",
    "FeatureSpec",
    "ImportSettings",
    "Interpolation",
    "Role",
    "Selection",
    "Settings",
    "Shots",
    "View",
    "list_differences",
    "require_max_image_pixels",
    "require_views",
]
