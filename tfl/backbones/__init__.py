"""Images to features: pretrained networks from several sources, with resizing, views and weights.

A source of backbones is one file with one `BackboneSource` in it, named here.
"""

from tfl.backbones.applications import KERAS_APPLICATIONS
from tfl.backbones.backbone import Backbone, build_backbone
from tfl.backbones.imported import IMPORTED_FEATURES
from tfl.backbones.registry import (
    SOURCES,
    NamedBackbone,
    find_backbone,
    is_backbone,
    names_weights_file,
    register,
    require_backbone,
    unregister,
)
from tfl.backbones.source import BackboneSource, Pretrained, pool_maps

register(KERAS_APPLICATIONS)
register(IMPORTED_FEATURES)

__all__ = [
    "SOURCES",
    "Backbone",
    "BackboneSource",
    "NamedBackbone",
    "Pretrained",
    "build_backbone",
    "find_backbone",
    "is_backbone",
    "names_weights_file",
    "pool_maps",
    "register",
    "require_backbone",
    "unregister",
]
