"""Transfer learning with cached features: pay for a pretrained backbone once.

    import tfl

    cache = tfl.precompute(tfl.FeatureSpec(), tfl.DatasetSpec("cifar10"))
    run = tfl.train(cache, tfl.Logistic())
    tfl.export(run, "model")

Every name is imported when it is first used: importing `tfl` imports no framework.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tfl.artefacts.combined import load_model
    from tfl.artefacts.export import export
    from tfl.artefacts.predict import predict
    from tfl.auditing.audit import audit
    from tfl.cache import open_cache
    from tfl.comparison.compare import compare
    from tfl.errors import TflError
    from tfl.exchange.export_features import export_features
    from tfl.exchange.import_features import import_features
    from tfl.extraction.fetch import fetch
    from tfl.extraction.precompute import precompute
    from tfl.heads import Best, Grid, Knn, Logistic, Mlp, Recipe, Reference, Ridge
    from tfl.runs.evaluation import compare_runs, evaluate
    from tfl.runs.folder import open_run
    from tfl.runs.listing import list_runs
    from tfl.runs.training import train
    from tfl.specs import Artefact, CacheSpec, DatasetSpec, FeatureSpec, ImportSettings, Selection, Settings

__all__ = [
    "Artefact",
    "Best",
    "CacheSpec",
    "DatasetSpec",
    "FeatureSpec",
    "Grid",
    "ImportSettings",
    "Knn",
    "Logistic",
    "Mlp",
    "Recipe",
    "Reference",
    "Ridge",
    "Selection",
    "Settings",
    "TflError",
    "audit",
    "compare",
    "compare_runs",
    "evaluate",
    "export",
    "export_features",
    "fetch",
    "import_features",
    "list_runs",
    "load_model",
    "open_cache",
    "open_run",
    "precompute",
    "predict",
    "train",
]

_MODULES = {  # of the names above; a test compares them with the imports for type checkers
    "tfl.artefacts.combined": ("load_model",),
    "tfl.artefacts.export": ("export",),
    "tfl.artefacts.predict": ("predict",),
    "tfl.auditing.audit": ("audit",),
    "tfl.cache": ("open_cache",),
    "tfl.comparison.compare": ("compare",),
    "tfl.errors": ("TflError",),
    "tfl.exchange.export_features": ("export_features",),
    "tfl.exchange.import_features": ("import_features",),
    "tfl.extraction.fetch": ("fetch",),
    "tfl.extraction.precompute": ("precompute",),
    "tfl.heads": ("Best", "Grid", "Knn", "Logistic", "Mlp", "Recipe", "Reference", "Ridge"),
    "tfl.runs.evaluation": ("compare_runs", "evaluate"),
    "tfl.runs.folder": ("open_run",),
    "tfl.runs.listing": ("list_runs",),
    "tfl.runs.training": ("train",),
    "tfl.specs": (
        "Artefact",
        "CacheSpec",
        "DatasetSpec",
        "FeatureSpec",
        "ImportSettings",
        "Selection",
        "Settings",
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tfl' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted({*globals(), *__all__})
