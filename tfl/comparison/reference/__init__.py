"""The PyTorch reference that tfl is compared with: the article's program as it is, and a fair one.

It runs in processes of its own, `python -m tfl.comparison.reference PROGRAM FOLDER`, so that the
two frameworks never share a process. The folder holds the files of a `Setup`.
"""
