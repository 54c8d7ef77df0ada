"""The comparison of tfl with the PyTorch reference: both measured in turns on one machine."""
