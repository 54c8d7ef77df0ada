"""The PyTorch program that tfl is held against, as the seed article writes it and made fair; the only room with torch.

It runs in a process of its own, `python -m tfl.comparison.reference FORM FOLDER`, so that neither framework meets the other. The
folder is a job's: see `tfl.comparison.reference.job`.
"""
