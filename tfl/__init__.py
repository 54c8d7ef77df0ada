"""Transfer learning with cached features: pay for a pretrained backbone once.

The commands of `tfl --help`, from Python:

    from tfl.specs import DatasetSpec, FeatureSpec
    from tfl.extraction.precompute import precompute
    from tfl.runs.run import evaluate, train
    from tfl.artefacts.export import export, predict
"""

__version__ = "0.1.0"
