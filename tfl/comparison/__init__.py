"""The PyTorch reference and ours, measured in turns on one machine."""
