"""Transfer learning with cached features: pay for a pretrained backbone once.

The commands of `tfl --help`, from Python:

    from tfl.spec import DatasetSpec, FeatureSpec
    from tfl.precompute import precompute
    from tfl.run import evaluate, train
    from tfl.export import export, predict
"""

__version__ = "0.1.0"
